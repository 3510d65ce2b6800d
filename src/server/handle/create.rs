//! MkdirAt, MknodAt, SymlinkAt and LinkAt: new names.

use std::sync::Arc;

use crate::Errno;
use crate::server::backend::{ControlFdImpl, Creation, NodeKind, ServerImpl};
use crate::server::call::{Answer, Call};
use crate::server::dispatch::Serve;
use crate::server::fd::ControlFd;
use crate::server::fds::{Fd, Pending};
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
    answer::<R, S>(call, pending, id, child, stat)
}

/// The answer with a new file, `id`.
fn answer<'c, R, S: ServerImpl>(
    call: &mut Call<'c, S>,
    mut pending: Pending<'c, S>,
    id: FdId,
    child: Arc<ControlFd<S>>,
    stat: Statx,
) -> Result<Answer<'c, S>, Errno>
where
    R: for<'r> Request<Reply<'r> = InodeResp>,
{
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
        let name = Name::new(self.name)?;
        let directory = call.control(self.dir_fd)?;
        directory.directory()?;
        let target = call.control(self.target_fd)?;
        if target.is_directory() {
            return Err(Errno::EPERM);
        }
        let connection = call.connection;
        let mut pending = connection.fds().pending();
        let (id, share) = pending.reserve()?;
        let (server, mut stable) = (connection.backend(), connection.locks().stable());
        let nodes = (directory.node(), target.node());
        let (child, stat) = stable.write_link(server, nodes.0, nodes.1, |at, target_at| {
            directory.node().live()?;
            target.node().live()?;
            let (file, stat) = directory.file().link(at, name, target.file(), target_at)?;
            Ok((directory.child(name, file, &stat, share), stat))
        })?;
        drop(stable);
        answer::<Self, S>(call, pending, id, child, stat)
    }
}
