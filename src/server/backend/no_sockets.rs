//! The bound socket of a back end that has none.

use core::convert::Infallible;
use core::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{BoundSocketFdImpl, ServerImpl};
use crate::Errno;
use crate::server::fd_locks::FdShared;
use crate::server::guarantee::Shared;

/// The [`BoundSocketFd`](ServerImpl::BoundSocketFd) of a back end that binds no sockets. There is no
/// value of it.
///
/// [`ServerImpl`] has an example.
#[derive(Debug)]
pub struct NoSockets<S> {
    none: Infallible,
    server: PhantomData<fn() -> S>,
}

impl<S: ServerImpl<BoundSocketFd = Self>> BoundSocketFdImpl for NoSockets<S> {
    type Server = S;

    fn socket(&self) -> BorrowedFd<'_> {
        match self.none {}
    }

    fn listen(&self, _at: Shared<'_, S>, _backlog: i32) -> Result<(), Errno> {
        match self.none {}
    }

    fn accept(&self, _at: FdShared<'_, S>) -> Result<(OwnedFd, Vec<u8>), Errno> {
        match self.none {}
    }
}
