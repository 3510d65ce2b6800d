//! Whether operations on a descriptor alone run under a lock of the tree.

use super::backend::ServerImpl;
use super::guarantee::{Exclusive, Shared, TreeLocks, Unheld};
use super::tree::Node;
use crate::Errno;

/// Which guarantee the operations on a descriptor alone come with: [`Guarded`] or [`Unguarded`].
///
/// [`ServerImpl`] and [`Guarded`] have examples.
pub trait FdLocks: sealed::Sealed + 'static {
    /// What looking at the file comes with.
    type Shared<'g, S: ServerImpl>;
    /// What changing the file comes with.
    type Exclusive<'g, S: ServerImpl>;

    /// Runs `operation` with what looking at `node` comes with.
    #[doc(hidden)]
    fn shared<S: ServerImpl, R>(
        locks: &TreeLocks,
        server: &S,
        node: &Node<S>,
        operation: impl FnOnce(Self::Shared<'_, S>) -> R,
    ) -> R;

    /// Runs `operation` with what changing `node` comes with.
    #[doc(hidden)]
    fn exclusive<S: ServerImpl, R>(
        locks: &TreeLocks,
        server: &S,
        node: &Node<S>,
        operation: impl FnOnce(Self::Exclusive<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno>;
}

/// What looking at a descriptor comes with in `S`.
///
/// [`BoundSocketFdImpl`](super::BoundSocketFdImpl) has an example.
pub type FdShared<'g, S> = <<S as ServerImpl>::FdLocks as FdLocks>::Shared<'g, S>;

/// What changing the file behind a descriptor comes with in `S`.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::server::{FdExclusive, ServerImpl};
///
/// /// What [`OpenFdImpl::allocate`](lisafs::server::OpenFdImpl::allocate) gets, whatever locks it has.
/// fn allocate<S: ServerImpl>(at: FdExclusive<'_, S>, mode: u64) -> Result<(), Errno> {
///     # let _ = at;
///     if mode == 0 { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
/// }
/// ```
pub type FdExclusive<'g, S> = <<S as ServerImpl>::FdLocks as FdLocks>::Exclusive<'g, S>;

/// Operations on a descriptor run under the operation lock of its node.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::server::{Guarded, ServerImpl, Shared};
/// use lisafs::wire::Statx;
///
/// /// What [`ControlFdImpl::stat`](lisafs::server::ControlFdImpl::stat) gets then.
/// fn stat<S: ServerImpl<FdLocks = Guarded>>(at: Shared<'_, S>) -> Result<Statx, Errno> {
///     # let _ = at;
///     Err(Errno::EOPNOTSUPP)
/// }
/// ```
#[derive(Debug)]
pub enum Guarded {}

/// Operations on a descriptor run with no lock of the tree held.
///
/// [`ServerImpl`] has an example.
#[derive(Debug)]
pub enum Unguarded {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Guarded {}
    impl Sealed for super::Unguarded {}
}

impl FdLocks for Guarded {
    type Shared<'g, S: ServerImpl> = Shared<'g, S>;
    type Exclusive<'g, S: ServerImpl> = Exclusive<'g, S>;

    fn shared<S: ServerImpl, R>(
        locks: &TreeLocks,
        server: &S,
        node: &Node<S>,
        operation: impl FnOnce(Shared<'_, S>) -> R,
    ) -> R {
        locks.stable().read(server, node, operation)
    }

    fn exclusive<S: ServerImpl, R>(
        locks: &TreeLocks,
        server: &S,
        node: &Node<S>,
        operation: impl FnOnce(Exclusive<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        locks.stable().write(server, node, operation)
    }
}

impl FdLocks for Unguarded {
    type Shared<'g, S: ServerImpl> = Unheld<'g, S>;
    type Exclusive<'g, S: ServerImpl> = Unheld<'g, S>;

    fn shared<S: ServerImpl, R>(
        _locks: &TreeLocks,
        server: &S,
        _node: &Node<S>,
        operation: impl FnOnce(Unheld<'_, S>) -> R,
    ) -> R {
        operation(Unheld::new(server))
    }

    fn exclusive<S: ServerImpl, R>(
        _locks: &TreeLocks,
        server: &S,
        _node: &Node<S>,
        operation: impl FnOnce(Unheld<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        operation(Unheld::new(server))
    }
}
