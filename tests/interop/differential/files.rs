//! The messages about one file.

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{FAllocateReq, FStatFsReq, FdId, FlushReq, Gid, OpenAtReq, SetStatReq, Uid};

use super::seat::Seat;
use super::step::Step;

impl Seat {
    pub(super) fn ask_about_files(&mut self, step: &Step) -> Result<String, Error> {
        match *step {
            Step::Stat(fd) => return self.stat(self.control(fd)),
            Step::StatOpen(fd) => return self.stat(self.open(fd)),
            Step::SetStat(fd, mask, mode, size) => {
                let mut request = SetStatReq::new(self.control(fd));
                (request.mask, request.mode, request.size) = (mask, mode, size);
                (request.uid, request.gid) = (Uid(1234), Gid(4321));
                let reply = self.call(&request)?;
                if let Some(errno) = Errno::new(reply.failure_errno) {
                    return Err(Error::Local(errno));
                }
                return Ok(reply.failure_mask.to_string());
            }
            Step::Open(fd, flags) => {
                let fd = self.control(fd);
                let open = self.call(&OpenAtReq { fd, flags })?.open_fd;
                self.opened(open, fd);
            }
            Step::Read(fd, offset, len) => {
                let fd = self.open(fd);
                let read = self.line().read(fd, offset, len)?;
                return Ok(format!("{read:?}"));
            }
            Step::Write(fd, offset, len) => {
                let byte = u8::try_from(len % 251).unwrap_or(0);
                let fd = self.open(fd);
                let written = self.line().pwrite(fd, offset, &vec![byte; len])?;
                return Ok(written.to_string());
            }
            Step::Getdents(fd, count) => return self.entries(self.open(fd), count),
            Step::Allocate(fd, mode, offset, length) => {
                let request = FAllocateReq {
                    fd: self.open(fd),
                    mode,
                    offset,
                    length,
                };
                self.call(&request)?;
            }
            Step::Sync(fd) => {
                let fd = self.open(fd);
                self.line().sync(&[fd])?;
            }
            Step::Flush(fd) => {
                let fd = self.open(fd);
                self.call(&FlushReq { fd })?;
            }
            Step::StatFs(fd) => {
                let fd = self.control(fd);
                let reply = self.call(&FStatFsReq { fd })?;
                return Ok(format!("{:?}", (reply.block_size, reply.name_length)));
            }
            Step::ReadLink(fd) => {
                let fd = self.control(fd);
                return Ok(format!("{:?}", self.line().readlink(fd)?));
            }
            Step::GetXattr(fd, name, size) => {
                let fd = self.control(fd);
                let value = self.line().get_xattr(fd, name.as_bytes(), size)?;
                return Ok(format!("{value:?}"));
            }
            Step::SetXattr(fd, name, len, flags) => {
                let fd = self.control(fd);
                let value = vec![b'v'; len];
                self.line().set_xattr(fd, name.as_bytes(), &value, flags)?;
            }
            Step::ListXattr(fd, size) => {
                let fd = self.control(fd);
                return Ok(format!("{:?}", self.line().list_xattr(fd, size)?));
            }
            Step::RemoveXattr(fd, name) => {
                let fd = self.control(fd);
                self.line().remove_xattr(fd, name.as_bytes())?;
            }
            _ => return self.ask_about_sockets(step),
        }
        Ok(String::new())
    }

    fn stat(&mut self, fd: FdId) -> Result<String, Error> {
        let stat = self.line().stat(fd)?;
        Ok(self.described(&stat))
    }

    fn entries(&mut self, fd: FdId, count: i32) -> Result<String, Error> {
        let entries = self.line().entries(fd, count)?;
        let entries: Vec<_> = entries
            .into_iter()
            .map(|entry| (entry.name, entry.d_type, self.number(entry.ino)))
            .collect();
        Ok(format!("{entries:?}"))
    }
}
