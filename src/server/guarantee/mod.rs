//! Values that prove locks, and the locks: nothing else in the server locks the tree.
//!
//! What a back-end method needs is its first parameter: [`Shared`], [`Exclusive`], [`Global`] or
//! nothing but the server ([`Unheld`]). Only this module makes them, and what needs a lock (a path,
//! say) is a method of the value that proves it. `locks.rs` says which locks there are.
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

mod locks;
mod patience;

use core::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::backend::ServerImpl;
use super::tree::Node;
use crate::Errno;
use crate::wire::Name;

pub(super) use locks::{Names, Stable, TreeLocks};
pub(super) use patience::Contention;

/// How long a request waits for others that are running before it answers EBUSY, where waiting for
/// ever could mean just that.
pub(crate) const LOCK_DEADLINE: Duration = Duration::from_secs(2);

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
/// A rename that takes longer than half a second, and that others wait for, is not alone any more: what it
/// does not concern goes on, under the names of before, with a new path for no file until the rename
/// has returned. Whatever asks for one of the two directories, for what is moved or for what is replaced
/// still waits, or is refused, EBUSY; no other rename begins.
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
    /// The path of the node from the root of the tree, `/` for the root. For what is deleted, or in
    /// something deleted, what is left of it, behind a NUL. While the guarantee lasts it changes in no
    /// other way, and in that one where somebody else has moved the file away from below a directory
    /// that a client then removes. Costs an allocation.
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
/// use lisafs::Errno;
/// use lisafs::server::{ServerImpl, Shared};
/// use lisafs::wire::Name;
///
/// /// How many of `names`, one below the other, are nodes.
/// fn known<'n, S: ServerImpl>(
///     at: Shared<'_, S>,
///     names: impl Iterator<Item = Name<'n>>,
/// ) -> Result<usize, Errno> {
///     let (mut below, mut count) = (at.below(), 0);
///     for name in names {
///         let Some(child) = below.child(name)? else { break };
///         (below, count) = (child, count + 1);
///     }
///     Ok(count)
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
    ///
    /// # Errors
    /// EBUSY while a rename that takes long may be changing the name: whoever looked for it in the host
    /// would wait there as well.
    pub fn child(&self, name: Name<'_>) -> Result<Option<Below<'g, S>>, Errno> {
        let directory = self.node();
        if directory.is_in_motion() {
            return Err(Errno::EBUSY);
        }
        let node = directory.existing_child(name).map(At::Further);
        Ok(node.map(|node| Below { node }))
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

    /// The read guarantee on `node`, for who is told of the rename. Nothing else runs on the tree then.
    pub(super) fn on(self, node: &'g Node<S>) -> Shared<'g, S> {
        Shared {
            server: self.server,
            node,
        }
    }
}

#[cfg(test)]
#[cfg(feature = "host")]
mod tests;
