//! Whether operations on a descriptor alone run under a lock of the tree.

use super::backend::ServerImpl;
use super::guarantee::{Exclusive, Shared, TreeLocks, Unheld};
use super::tree::Node;
use crate::Errno;

/// Which guarantee the operations on a descriptor alone come with: [`Guarded`] or [`Unguarded`].
///
/// ```
/// use lisafs::host::HostFs;
/// use lisafs::server::{FdLocks, Guarded, ServerImpl, Unguarded};
///
/// fn is_a_choice<L: FdLocks>() {}
///
/// is_a_choice::<Guarded>();
/// is_a_choice::<Unguarded>();
/// is_a_choice::<<HostFs as ServerImpl>::FdLocks>();
/// ```
pub trait FdLocks: TakeFdLocks + 'static {
    /// What looking at the file comes with.
    type Shared<'g, S: ServerImpl>;
    /// What changing the file comes with.
    type Exclusive<'g, S: ServerImpl>;
}

/// What looking at a descriptor comes with in `S`.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::server::{FdShared, ServerImpl};
///
/// /// What [`OpenFdImpl::sync`](lisafs::server::OpenFdImpl::sync) gets, whatever locks it has.
/// fn sync<S: ServerImpl>(at: FdShared<'_, S>) -> Result<(), Errno> {
///     # let _ = at;
///     Ok(())
/// }
/// ```
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
/// ```
/// use lisafs::Errno;
/// use lisafs::server::{ServerImpl, Unguarded, Unheld};
/// use lisafs::wire::Statx;
///
/// /// What [`ControlFdImpl::stat`](lisafs::server::ControlFdImpl::stat) gets then.
/// fn stat<S: ServerImpl<FdLocks = Unguarded>>(at: Unheld<'_, S>) -> Result<Statx, Errno> {
///     # let _ = at;
///     Err(Errno::EOPNOTSUPP)
/// }
/// ```
#[derive(Debug)]
pub enum Unguarded {}

/// How the locks are taken, which is nobody else's business: it seals [`FdLocks`].
mod sealed {
    use super::{Errno, FdLocks, Node, ServerImpl, TreeLocks};

    pub trait TakeFdLocks: Sized {
        /// Runs `operation` with what looking at `node` comes with.
        fn shared<S: ServerImpl, R>(
            locks: &TreeLocks,
            server: &S,
            node: &Node<S>,
            operation: impl FnOnce(<Self as FdLocks>::Shared<'_, S>) -> Result<R, Errno>,
        ) -> Result<R, Errno>
        where
            Self: FdLocks;

        /// Runs `operation` with what changing `node` comes with.
        fn exclusive<S: ServerImpl, R>(
            locks: &TreeLocks,
            server: &S,
            node: &Node<S>,
            operation: impl FnOnce(<Self as FdLocks>::Exclusive<'_, S>) -> Result<R, Errno>,
        ) -> Result<R, Errno>
        where
            Self: FdLocks;
    }
}
pub(super) use sealed::TakeFdLocks;

impl FdLocks for Guarded {
    type Shared<'g, S: ServerImpl> = Shared<'g, S>;
    type Exclusive<'g, S: ServerImpl> = Exclusive<'g, S>;
}

impl TakeFdLocks for Guarded {
    fn shared<S: ServerImpl, R>(
        locks: &TreeLocks,
        server: &S,
        node: &Node<S>,
        operation: impl FnOnce(Shared<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
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
}

impl TakeFdLocks for Unguarded {
    fn shared<S: ServerImpl, R>(
        _locks: &TreeLocks,
        server: &S,
        _node: &Node<S>,
        operation: impl FnOnce(Unheld<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
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
