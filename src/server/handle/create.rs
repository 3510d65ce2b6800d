//! MkdirAt, MknodAt, SymlinkAt and LinkAt: new names.

use crate::Errno;
use crate::server::backend::{ControlFdImpl, Creation, NodeKind, ServerImpl};
use crate::server::call::{Answer, Call};
use crate::server::dispatch::Serve;
use crate::server::fds::Fd;
use crate::server::guarantee::Exclusive;
use crate::wire::{
    CreateCommon, FdId, Inode, InodeResp, LinkAtReq, MkdirAtReq, MknodAtReq, Name, Request, Statx,
    SymlinkAtReq,
};

/// Owner and permissions of what `create` asks for.
pub(super) fn creation(create: &CreateCommon) -> Creation {
    Creation {
        permissions: u32::from(create.mode) & 0o7777,
        uid: create.uid,
        gid: create.gid,
    }
}

/// Makes `name` in the directory `dir_fd` with `make` and answers with the new file.
fn create<'c, R, S: ServerImpl>(
    call: &mut Call<'c, S>,
    dir_fd: FdId,
    name: &[u8],
    make: impl FnOnce(&S::ControlFd, Exclusive<'_, S>, Name<'_>) -> Result<(S::ControlFd, Statx), Errno>,
) -> Result<Answer<'c, S>, Errno>
where
    R: for<'r> Request<Reply<'r> = InodeResp>,
{
    let name = Name::new(name)?;
    let directory = call.control(dir_fd)?;
    directory.directory()?;
    let mut pending = call.connection.fds().pending();
    let (id, share) = pending.reserve()?;
    let (child, stat) = call.exclusive(directory.node(), |at| {
        directory.node().live()?;
        let (file, stat) = make(directory.file(), at, name)?;
        Ok((directory.child(name, file, &stat, share), stat))
    })?;
    pending.fill(id, Fd::Control(child));
    let answer = call.reply::<R>(&InodeResp {
        child: Inode {
            control_fd: id,
            stat,
        },
    })?;
    Ok(answer.publishing(pending))
}

impl Serve for MkdirAtReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        create::<Self, S>(
            call,
            self.create.dir_fd,
            self.name,
            |directory, at, name| directory.mkdir(at, name, creation(&self.create)),
        )
    }
}

impl Serve for MknodAtReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let kind = NodeKind {
            file_type: u32::from(self.create.mode) & libc::S_IFMT,
            major: self.major,
            minor: self.minor,
        };
        create::<Self, S>(
            call,
            self.create.dir_fd,
            self.name,
            |directory, at, name| directory.mknod(at, name, creation(&self.create), kind),
        )
    }
}

impl Serve for SymlinkAtReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        create::<Self, S>(call, self.dir_fd, self.name, |directory, at, name| {
            directory.symlink(at, name, self.target, self.uid, self.gid)
        })
    }
}

impl Serve for LinkAtReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        // The name and the directory are judged before the target is looked up.
        Name::new(self.name)?;
        call.control(self.dir_fd)?.directory()?;
        let target = call.control(self.target_fd)?;
        if target.is_directory() {
            return Err(Errno::EPERM);
        }
        create::<Self, S>(call, self.dir_fd, self.name, |directory, at, name| {
            at.with_target(target.node(), |target_at| {
                target.node().live()?;
                directory.link(at, name, target.file(), target_at)
            })
        })
    }
}
