//! FStat, SetStat and FStatFS.

use crate::Errno;
use crate::server::backend::{ControlFdImpl, OpenFdImpl, ServerImpl};
use crate::server::call::{Answer, Call};
use crate::server::dispatch::Serve;
use crate::server::fds::Fd;
use crate::wire::{FStatFsReq, SetStatReq, StatReq};

impl Serve for StatReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let stat = match call.connection.fds().get(self.fd)? {
            Fd::Control(fd) => call.fd_shared(fd.node(), |at| fd.file().stat(at))?,
            Fd::Open(fd) => call.fd_shared(fd.node(), |at| fd.file().stat(at))?,
            Fd::Bound(_) => return Err(Errno::EINVAL),
        };
        call.reply::<Self>(&stat)
    }
}

impl Serve for SetStatReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let server = call.connection.backend();
        let fd = call.control(self.fd)?;
        let mask = self.attributes().ok_or(Errno::EPERM)?;
        let outcome = call.exclusive(fd.node(), |at| {
            if fd.node().is_deleted() && !server.opts().set_attr_on_deleted {
                return Err(Errno::EINVAL);
            }
            Ok(fd.file().set_stat(at, mask, &self))
        })?;
        call.reply::<Self>(&outcome)
    }
}

impl Serve for FStatFsReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.control(self.fd)?;
        let stat = call.shared(fd.node(), |at| fd.file().stat_fs(at))?;
        call.reply::<Self>(&stat)
    }
}
