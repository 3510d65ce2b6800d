//! The messages that name files.

use lisafs::client::Error;
use lisafs::wire::{
    Gid, LinkAtReq, MkdirAtReq, MknodAtReq, OpenCreateAtReq, RenameAt2Req, RenameAtReq,
    SymlinkAtReq, Uid, UnlinkAtReq,
};

use super::seat::Seat;
use super::step::{Choice, Name, Step};

fn bytes<'n>(path: &[&'n str]) -> Vec<&'n [u8]> {
    path.iter().map(|name| name.as_bytes()).collect()
}

impl Seat {
    pub(super) fn ask_about_names(&mut self, step: &Step) -> Result<String, Error> {
        match *step {
            Step::Walk(dir, ref path) => return self.walk(dir, path),
            Step::WalkStat(dir, ref path) => {
                let dir = self.control(dir);
                let stats = self.line().walk_stat(dir, &bytes(path))?;
                let stats: Vec<_> = stats.iter().map(|stat| self.described(stat)).collect();
                return Ok(format!("{stats:?}"));
            }
            Step::Create(dir, name, flags, mode) => {
                let request = OpenCreateAtReq {
                    create: self.create(dir, mode),
                    flags,
                    name: name.as_bytes(),
                };
                let reply = self.call(&request)?;
                self.opened(reply.new_fd, reply.child.control_fd);
                return Ok(self.made(reply.child));
            }
            Step::Mkdir(dir, name, mode) => {
                let create = self.create(dir, mode);
                let name = name.as_bytes();
                let child = self.call(&MkdirAtReq { create, name })?.child;
                return Ok(self.made(child));
            }
            Step::Mknod(dir, name, mode) => {
                let request = MknodAtReq {
                    create: self.create(dir, mode),
                    minor: 0,
                    major: 1,
                    name: name.as_bytes(),
                };
                let child = self.call(&request)?.child;
                return Ok(self.made(child));
            }
            Step::Symlink(dir, name, target) => {
                let request = SymlinkAtReq {
                    dir_fd: self.control(dir),
                    uid: Uid::NONE,
                    gid: Gid::NONE,
                    name: name.as_bytes(),
                    target: target.as_bytes(),
                };
                let child = self.call(&request)?.child;
                return Ok(self.made(child));
            }
            Step::Link(dir, target, name) => {
                let request = LinkAtReq {
                    dir_fd: self.control(dir),
                    target_fd: self.control(target),
                    name: name.as_bytes(),
                };
                let child = self.call(&request)?.child;
                return Ok(self.made(child));
            }
            Step::Unlink(dir, name, flags) => {
                let request = UnlinkAtReq {
                    dir_fd: self.control(dir),
                    flags,
                    name: name.as_bytes(),
                };
                self.call(&request)?;
            }
            Step::Rename(dir, old, to, new) => {
                let request = RenameAtReq {
                    old_dir: self.control(dir),
                    new_dir: self.control(to),
                    old_name: old.as_bytes(),
                    new_name: new.as_bytes(),
                };
                self.call(&request)?;
            }
            Step::RenameWith(dir, old, to, new, flags) => {
                let request = RenameAt2Req {
                    old_dir: self.control(dir),
                    new_dir: self.control(to),
                    old_name: old.as_bytes(),
                    new_name: new.as_bytes(),
                    flags,
                };
                self.call(&request)?;
            }
            _ => return self.ask_about_files(step),
        }
        Ok(String::new())
    }

    fn walk(&mut self, dir: Choice, path: &[Name]) -> Result<String, Error> {
        let dir = self.control(dir);
        let walked = self.line().walk(dir, &bytes(path))?;
        let inodes = walked.inodes.into_iter().map(|inode| self.made(inode));
        let inodes: Vec<_> = inodes.collect();
        Ok(format!("{} {inodes:?}", walked.status))
    }
}
