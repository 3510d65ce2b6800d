//! OpenAt, OpenCreateAt and Close: the life of open files.

use std::panic::resume_unwind;
use std::sync::Arc;

use super::create::creation;
use crate::Errno;
use crate::server::backend::{ControlFdImpl, OpenFlags, ServerImpl};
use crate::server::call::{Answer, Call, Gift};
use crate::server::dispatch::Serve;
use crate::server::fd::OpenFd;
use crate::server::fds::Fd;
use crate::server::unwind;
use crate::wire::{
    CloseReq, FileType, Inode, Name, OpenAtReq, OpenAtResp, OpenCreateAtReq, OpenCreateAtResp,
};

impl Serve for OpenAtReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let connection = call.connection;
        let flags = OpenFlags::from_wire(self.flags);
        if connection.is_readonly() && flags.mutates() {
            return Err(Errno::EROFS);
        }
        let control = call.control(self.fd)?;
        if control.is_directory() && flags.mutates() {
            return Err(Errno::EISDIR);
        }
        let mut pending = connection.fds().pending();
        let (id, share) = pending.reserve()?;
        let open = call.shared(control.node(), |at| {
            if control.node().is_deleted() && !connection.backend().opts().open_on_deleted {
                return Err(Errno::EINVAL);
            }
            if control.file_type() == FileType::Symlink {
                return Err(Errno::EINVAL);
            }
            let file = control.file().open(at, flags)?;
            Ok(OpenFd::new(file, flags, Arc::clone(&control), share))
        })?;
        pending.fill(id, Fd::Open(Arc::clone(&open)));
        let answer = call
            .reply::<Self>(&OpenAtResp { open_fd: id })?
            .publishing(pending);
        Ok(
            if control.is_directory() && !connection.donates_directories() {
                answer
            } else {
                answer.donating(Gift::Open(open))
            },
        )
    }
}

impl Serve for OpenCreateAtReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let flags = OpenFlags::from_wire(self.flags);
        let name = Name::new(self.name)?;
        let directory = call.control(self.create.dir_fd)?;
        directory.directory()?;
        let mut pending = call.connection.fds().pending();
        let (child_id, child_share) = pending.reserve()?;
        let (open_id, open_share) = pending.reserve()?;
        let (child, stat, open) = call.exclusive(directory.node(), |at| {
            directory.node().live()?;
            let create = creation(&self.create);
            let (child, stat, open) = directory.file().open_create(at, name, create, flags)?;
            let child = directory.child(name, child, &stat, child_share);
            let open = OpenFd::new(open, flags, Arc::clone(&child), open_share);
            Ok((child, stat, open))
        })?;
        pending.fill(child_id, Fd::Control(child));
        pending.fill(open_id, Fd::Open(Arc::clone(&open)));
        let answer = call.reply::<Self>(&OpenCreateAtResp {
            child: Inode {
                control_fd: child_id,
                stat,
            },
            new_fd: open_id,
        })?;
        Ok(answer.publishing(pending).donating(Gift::Open(open)))
    }
}

impl Serve for CloseReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fds = call.connection.fds();
        // The client believes all of them closed, whatever it is told.
        unwind::for_each(self.fds.iter(), |id| fds.close(id))
            .unwrap_or_else(|why| resume_unwind(why));
        call.reply::<Self>(&())
    }
}
