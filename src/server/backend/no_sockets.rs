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
/// ```
/// use lisafs::server::{BoundSocketFdImpl, NoSockets, ServerImpl};
///
/// /// A back end that binds no sockets need not say what one would do.
/// fn check<S: ServerImpl<BoundSocketFd = NoSockets<S>>>() -> usize {
///     fn implements<B: BoundSocketFdImpl>() -> usize {
///         size_of::<B>()
///     }
///     implements::<NoSockets<S>>()
/// }
/// ```
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
