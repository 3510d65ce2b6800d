//! Locks, and the values that prove them: the only file of the server that locks the tree.
//!
//! Two kinds of lock order the operations on a tree. The *rename lock* is shared by almost every
//! request and exclusive to a rename, so whoever holds it shared can rely on names and parents. A
//! node's *operation lock* is shared by what looks at the file and exclusive to what changes it or,
//! for a directory, its entries. Order: rename lock, then the operation locks of a directory and
//! of something in it. No thread takes either twice.
//!
//! What a back-end method needs is its first parameter: [`Shared`], [`Exclusive`], [`Global`] or
//! nothing but the server ([`Unheld`]). Only this file makes them, and what needs a lock (a path,
//! say) is a method of the value that proves it.
//!
//! ```compile_fail,E0308
//! # use lisafs::server::{ControlFdImpl, Creation, Shared};
//! # use lisafs::wire::Name;
//! fn mkdir_while_only_reading<C: ControlFdImpl>(
//!     directory: &C,
//!     at: Shared<'_, C::Server>,
//!     creation: Creation,
//! ) {
//!     let name = Name::new(b"new").unwrap();
//!     let _ = directory.mkdir(at, name, creation); // needs Exclusive
//! }
//! ```

use core::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{RwLock, RwLockWriteGuard};

use super::backend::ServerImpl;
use super::rename_lock::{FIRST_WINDOW, LONGEST_WINDOW, RenameLock, SharedGuard};
use super::tree::Node;
use crate::Errno;
use crate::wire::Name;

/// How long a request waits for others that are running before it answers EBUSY, where waiting for
/// ever could mean just that.
const LOCK_DEADLINE: Duration = Duration::from_secs(2);

/// The read guarantee: the rename lock and the node's operation lock are held shared.
///
/// ```
/// use lisafs::server::{ServerImpl, Shared};
///
/// /// Who asked for which file, for a log.
/// fn line<S: ServerImpl>(at: Shared<'_, S>, what: &str) -> String {
///     format!("{what} {}", at.path().escape_ascii())
/// }
/// ```
pub struct Shared<'g, S: ServerImpl> {
    server: &'g S,
    node: &'g Node<S>,
}

/// The write guarantee: the rename lock is held shared and the node's operation lock exclusively.
///
/// ```
/// use lisafs::server::{Exclusive, ServerImpl};
///
/// /// Whether somebody holds on to the file that is about to be unlinked.
/// fn is_held<S: ServerImpl>(at: Exclusive<'_, S>) -> bool {
///     at.child().is_some()
/// }
/// ```
pub struct Exclusive<'g, S: ServerImpl> {
    server: &'g S,
    node: &'g Node<S>,
    child: Option<&'g Node<S>>,
}

/// The global guarantee: the rename lock is held exclusively, so nothing else runs on the tree.
///
/// ```
/// use lisafs::server::{Global, ServerImpl};
///
/// /// The data of the nodes whose names a rename changes.
/// fn concerned<S: ServerImpl>(at: Global<'_, S>) -> impl Iterator<Item = &S::NodeData> {
///     at.moved().into_iter().chain(at.replaced())
/// }
/// ```
pub struct Global<'g, S: ServerImpl> {
    server: &'g S,
    moved: Option<&'g Node<S>>,
    replaced: Option<&'g Node<S>>,
}

/// No guarantee: no lock is held.
///
/// ```
/// use lisafs::server::{ServerImpl, Unheld};
///
/// /// What holds for the connection is all that can be asked for.
/// fn allocates<S: ServerImpl>(at: Unheld<'_, S>) -> bool {
///     at.server().opts().allocate_on_deleted
/// }
/// ```
pub struct Unheld<'g, S: ServerImpl> {
    server: &'g S,
}

macro_rules! guarantees {
    ($($name:ident)*) => {
        $(
            impl<S: ServerImpl> Clone for $name<'_, S> {
                fn clone(&self) -> Self {
                    *self
                }
            }

            impl<S: ServerImpl> Copy for $name<'_, S> {}

            impl<S: ServerImpl> fmt::Debug for $name<'_, S> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($name)).finish_non_exhaustive()
                }
            }

            impl<'g, S: ServerImpl> $name<'g, S> {
                /// The back end of the connection that asks.
                #[must_use]
                pub fn server(self) -> &'g S {
                    self.server
                }
            }
        )*
    };
}

guarantees! { Shared Exclusive Global Unheld }

impl<'g, S: ServerImpl> Shared<'g, S> {
    /// The path of the node from the root of the tree, `/` for the root. It cannot change while
    /// the guarantee lasts. Costs an allocation.
    #[must_use]
    pub fn path(self) -> Vec<u8> {
        self.node.path()
    }

    /// The node, for looking for nodes below it.
    #[must_use]
    pub fn below(self) -> Below<'g, S> {
        Below {
            node: At::Top(self.node),
        }
    }

    pub(super) fn node(self) -> &'g Node<S> {
        self.node
    }
}

/// A node at or below one that the read guarantee is for. It is where its path says, but its own
/// operation lock is not held: the file may be unlinked meanwhile.
///
/// ```
/// use lisafs::server::{ServerImpl, Shared};
/// use lisafs::wire::Name;
///
/// /// How many of `names`, one below the other, are nodes.
/// fn known<'n, S: ServerImpl>(at: Shared<'_, S>, names: impl Iterator<Item = Name<'n>>) -> usize {
///     let mut below = Some(at.below());
///     let step = |name| {
///         below = below.as_ref()?.child(name);
///         below.as_ref().map(|_| ())
///     };
///     names.map_while(step).count()
/// }
/// ```
pub struct Below<'g, S: ServerImpl> {
    node: At<'g, S>,
}

enum At<'g, S: ServerImpl> {
    Top(&'g Node<S>),
    Further(Arc<Node<S>>),
}

impl<'g, S: ServerImpl> Below<'g, S> {
    fn node(&self) -> &Node<S> {
        match &self.node {
            At::Top(node) => node,
            At::Further(node) => node,
        }
    }

    /// The node called `name` in this directory; `None` if no client holds anything on it.
    #[must_use]
    pub fn child(&self, name: Name<'_>) -> Option<Below<'g, S>> {
        let node = At::Further(self.node().existing_child(name)?);
        Some(Below { node })
    }

    /// The data of the node.
    #[must_use]
    pub fn data(&self) -> &S::NodeData {
        self.node().data()
    }
}

impl<S: ServerImpl> fmt::Debug for Below<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Below").finish_non_exhaustive()
    }
}

impl<'g, S: ServerImpl> Unheld<'g, S> {
    pub(super) fn new(server: &'g S) -> Unheld<'g, S> {
        Unheld { server }
    }
}

impl<'g, S: ServerImpl> Exclusive<'g, S> {
    /// The read guarantee, which the write guarantee includes.
    #[must_use]
    pub fn as_shared(self) -> Shared<'g, S> {
        Shared {
            server: self.server,
            node: self.node,
        }
    }

    /// As [`Shared::path`].
    #[must_use]
    pub fn path(self) -> Vec<u8> {
        self.node.path()
    }

    /// The data of the node that is to be unlinked; `None` if no client holds anything on it.
    #[must_use]
    pub fn child(self) -> Option<&'g S::NodeData> {
        self.child.map(Node::data)
    }
}

impl<'g, S: ServerImpl> Global<'g, S> {
    /// The data of the node that is to be renamed; `None` if no client holds anything on it.
    #[must_use]
    pub fn moved(self) -> Option<&'g S::NodeData> {
        self.moved.map(Node::data)
    }

    /// The data of the node whose name the renamed one gets, and which is replaced by it or exchanged
    /// with it; `None` if no client holds anything on it.
    #[must_use]
    pub fn replaced(self) -> Option<&'g S::NodeData> {
        self.replaced.map(Node::data)
    }

    /// The guarantee for a rename of `moved` to the name of `replaced`.
    pub(super) fn of<'n>(
        self,
        moved: Option<&'n Node<S>>,
        replaced: Option<&'n Node<S>>,
    ) -> Global<'n, S>
    where
        'g: 'n,
    {
        Global {
            server: self.server,
            moved,
            replaced,
        }
    }

    /// The read guarantee on `node`, which the global guarantee includes for every node.
    pub(super) fn on(self, node: &'g Node<S>) -> Shared<'g, S> {
        Shared {
            server: self.server,
            node,
        }
    }
}

/// The rename lock of a tree.
#[derive(Debug, Default)]
pub struct TreeLocks {
    rename: RenameLock,
}

impl TreeLocks {
    /// Takes the rename lock shared.
    pub(super) fn stable(&self) -> Stable<'_> {
        Stable {
            _rename: self.rename.shared(),
        }
    }

    /// Runs `operation` with the rename lock held exclusively.
    ///
    /// # Errors
    /// EBUSY if requests that are running do not end in time: one stuck in the host must not keep
    /// the rename, and with it everybody behind the rename, waiting for ever.
    pub(super) fn global<S: ServerImpl, R>(
        &self,
        server: &S,
        operation: impl FnOnce(Global<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let deadline = Instant::now() + LOCK_DEADLINE;
        let _rename = self.rename.exclusive_until(deadline).ok_or(Errno::EBUSY)?;
        operation(Global {
            server,
            moved: None,
            replaced: None,
        })
    }
}

/// The rename lock held shared: names and parents stay as they are.
pub(super) struct Stable<'t> {
    _rename: SharedGuard<'t>,
}

impl Stable<'_> {
    /// Runs `operation` with the read guarantee on `node`.
    pub(super) fn read<S: ServerImpl, R>(
        &self,
        server: &S,
        node: &Node<S>,
        operation: impl FnOnce(Shared<'_, S>) -> R,
    ) -> R {
        let _operation = node.operation_lock().read();
        operation(Shared { server, node })
    }

    /// Runs `operation` with the write guarantee on `node`.
    ///
    /// # Errors
    /// EBUSY if what runs on the node does not end in time, as a lookup of what a hung file system is
    /// mounted on.
    pub(super) fn write<S: ServerImpl, R>(
        &self,
        server: &S,
        node: &Node<S>,
        operation: impl FnOnce(Exclusive<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let lock = node.operation_lock();
        let _operation = match lock.try_write() {
            Some(guard) => guard,
            None => Patience::begin().exclusive(lock)?,
        };
        operation(Exclusive {
            server,
            node,
            child: None,
        })
    }

    /// Runs `operation` with the write guarantee on `directory` and with the operation lock of its child
    /// `name`, if that is a node, held exclusively as well: whatever runs on the child has ended.
    ///
    /// # Errors
    /// EBUSY if it does not end in time: a request stuck in the host on one file must not keep the
    /// directory, and with it everybody who comes by, waiting for ever.
    pub(super) fn write_entry<S: ServerImpl, R>(
        &self,
        server: &S,
        directory: &Node<S>,
        name: Name<'_>,
        operation: impl FnOnce(Exclusive<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let mut patience = Patience::begin();
        loop {
            let operation_lock = patience.exclusive(directory.operation_lock())?;
            let child = directory.existing_child(name);
            let lock = child.as_deref().map(Node::operation_lock);
            let locked = lock.map(|lock| lock.try_write_for(patience.window));
            if !matches!(locked, Some(None)) {
                return operation(Exclusive {
                    server,
                    node: directory,
                    child: child.as_deref(),
                });
            }
            // Others may have the directory meanwhile.
            drop(operation_lock);
            patience.pause()?;
        }
    }
}

/// The wait for a lock that somebody may never give back.
///
/// Who waits for a lock exclusively keeps new readers out. So it is waited for in *windows*, as by the
/// [`RenameLock`], with pauses of three times as long in between: readers that are slow are outwaited,
/// and one that is stuck costs the others a bounded part of their time.
struct Patience {
    deadline: Instant,
    window: Duration,
}

impl Patience {
    fn begin() -> Patience {
        Patience {
            deadline: Instant::now() + LOCK_DEADLINE,
            window: FIRST_WINDOW,
        }
    }

    /// Takes the lock exclusively.
    ///
    /// # Errors
    /// EBUSY at the deadline.
    fn exclusive<'l>(&mut self, lock: &'l RwLock<()>) -> Result<RwLockWriteGuard<'l, ()>, Errno> {
        loop {
            if let Some(guard) = lock.try_write_for(self.window) {
                return Ok(guard);
            }
            self.pause()?;
        }
    }

    /// # Errors
    /// EBUSY at the deadline.
    fn pause(&mut self) -> Result<(), Errno> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::EBUSY);
        }
        thread::sleep((3 * self.window).min(left));
        self.window = LONGEST_WINDOW.min(2 * self.window);
        Ok(())
    }
}

impl<S: ServerImpl> Exclusive<'_, S> {
    /// Runs `operation` with the read guarantee on `target`, which was no directory when it was
    /// walked to.
    ///
    /// # Errors
    /// EBUSY if the guarantee cannot be had in time. The type of a file orders its lock behind a
    /// directory's, but belongs to the file and not to the node: when somebody else has put another
    /// file in its place, the node may be the locked directory's own, or one above it.
    pub(super) fn with_target<R>(
        self,
        target: &Node<S>,
        operation: impl FnOnce(Shared<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let lock = target.operation_lock();
        let _operation = lock.try_read_for(LOCK_DEADLINE).ok_or(Errno::EBUSY)?;
        operation(Shared {
            server: self.server,
            node: target,
        })
    }
}
