//! Getdents64 and ReadLinkAt: reading directories and symlinks.

use crate::Errno;
use crate::server::backend::{ControlFdImpl, DirentRequest, OpenFdImpl, ServerImpl};
use crate::server::call::{Answer, Call};
use crate::server::dispatch::Serve;
use crate::wire::{
    DirentWriter, FileType, Getdents64Req, Getdents64Resp, ReadLinkAtReq, ReadLinkAtResp,
};

/// The most that one Getdents64 reads of the host's records, in bytes: a client must not choose
/// how much memory and time one request takes.
const MAX_DIRENT_BYTES: u32 = 1 << 20;

impl Serve for Getdents64Req {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let connection = call.connection;
        let fd = call.open(self.dir_fd)?;
        fd.control().directory()?;
        let request = DirentRequest {
            rewind: self.count < 0,
            count: self.count.unsigned_abs().min(MAX_DIRENT_BYTES),
        };
        let mut buffer = core::mem::take(&mut call.scratch.bytes);
        let limit = connection.max_message_size();
        let mut entries = DirentWriter::new(&mut buffer, limit).host_bytes(request.count);
        let result = call.fd_shared(fd.node(), |at| {
            fd.node().live()?;
            fd.file().getdents64(at, request, &mut entries)?;
            // Success without entries means the end, and this is not the end.
            if entries.is_empty() && entries.is_full() {
                return Err(Errno::EINVAL);
            }
            Ok(())
        });
        let answer = result.and_then(|()| {
            call.reply::<Self>(&Getdents64Resp {
                dirents: entries.as_dirents(),
            })
        });
        call.scratch.bytes = buffer;
        answer
    }
}

impl Serve for ReadLinkAtReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.control(self.fd)?;
        if fd.file_type() != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        let mut target = core::mem::take(&mut call.scratch.bytes);
        target.clear();
        let result = call.shared(fd.node(), |at| {
            fd.node().live()?;
            fd.file().readlink(at, &mut target)
        });
        let answer = result.and_then(|()| call.reply::<Self>(&ReadLinkAtResp { target: &target }));
        call.scratch.bytes = target;
        answer
    }
}
