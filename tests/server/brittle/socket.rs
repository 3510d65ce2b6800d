//! What is bound, and sockets that lead nowhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use lisafs::Errno;
use lisafs::server::{BoundSocketFdImpl, FdShared, Shared};

use super::{BrittleFs, Trap};

#[derive(Debug)]
pub(crate) struct BrittleSocket {
    pub(super) trap: Arc<Trap>,
    pub(super) socket: UnixStream,
}

pub(super) fn socket() -> Result<UnixStream, Errno> {
    Ok(UnixStream::pair().map_err(Errno::from)?.0)
}

impl BoundSocketFdImpl for BrittleSocket {
    type Server = BrittleFs;

    fn socket(&self) -> BorrowedFd<'_> {
        self.trap.pass("BoundSocketFdImpl::socket");
        self.socket.as_fd()
    }

    fn listen(&self, _at: Shared<'_, BrittleFs>, _backlog: i32) -> Result<(), Errno> {
        self.trap.pass("BoundSocketFdImpl::listen");
        Ok(())
    }

    fn accept(&self, _at: FdShared<'_, BrittleFs>) -> Result<(OwnedFd, Vec<u8>), Errno> {
        self.trap.pass("BoundSocketFdImpl::accept");
        Ok((socket()?.into(), Vec::new()))
    }
}

impl Drop for BrittleSocket {
    fn drop(&mut self) {
        self.trap.pass("drop BoundSocketFd");
    }
}
