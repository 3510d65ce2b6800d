//! The locks of a tree, and who takes which.
//!
//! The *rename lock* is shared by almost every request and exclusive to a rename, so whoever holds it
//! shared can rely on names and parents. A node's *operation lock* is shared by what looks at the file
//! and exclusive to what changes it or, for a directory, its entries. Order: rename lock, then the
//! operation locks of a directory and of something in it. No thread takes either twice.
//!
//! # A rename that hangs in the host
//!
//! A rename is alone when it begins. It takes the operation locks of all that it concerns, both
//! directories and what has the two names, and marks these nodes as *in motion*. So when others come in
//! because it takes long ([`RenameLock`]), they meet everything but these nodes, and the tree as
//! it was: the nodes get their new names when the rename is alone again. Hence:
//!
//! - A node does not get in motion while somebody holds the rename lock shared.
//! - To be alone again, the rename waits for all who hold the lock shared, and some of those wait for
//!   the operation lock of a node that it has. These must neither wait for ever nor, one after the
//!   other, always be there: waits for the lock of such a node are short, and the rename lock is given
//!   up in between ([`Stable::give_way`]). A back end that waits for a rename on its own has to come to
//!   an end as well.
//! - An operation lock says nothing about what is above the node. A directory above may be unlinked
//!   meanwhile, where somebody else has moved away what the server believes to be in it. `Node::renamed`
//!   looks at that.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{RwLockReadGuard, RwLockWriteGuard};
use smallvec::SmallVec;

use super::patience::Patience;
use super::{Exclusive, Global, LOCK_DEADLINE, Shared};
use crate::Errno;
use crate::server::backend::{RenameOutcome, ServerImpl};
use crate::server::rename_lock::{RenameLock, SharedGuard, Writer};
use crate::server::tree::Node;
use crate::wire::Name;

/// How long a request waits for a node in motion before it gives way.
const IN_THE_WAY: Duration = Duration::from_millis(20);

/// The rename lock of a tree.
#[derive(Debug, Default)]
pub struct TreeLocks {
    rename: RenameLock,
}

impl TreeLocks {
    /// Takes the rename lock shared.
    pub(in crate::server) fn stable(&self) -> Stable<'_> {
        Stable {
            locks: self,
            rename: Some(self.rename.shared()),
            left: LOCK_DEADLINE,
        }
    }

    /// Keeps other renames out, so that directories stay where they are, and nobody else.
    ///
    /// # Errors
    /// EBUSY if none of those that are running or wait ends in time.
    pub(in crate::server) fn renaming(&self) -> Result<Renaming<'_>, Errno> {
        let writer = self.rename.writer_within(LOCK_DEADLINE);
        let (writer, deadline) = writer.ok_or(Errno::EBUSY)?;
        Ok(Renaming { writer, deadline })
    }
}

/// The rename lock held shared: names and parents stay as they are.
pub(in crate::server) struct Stable<'t> {
    locks: &'t TreeLocks,
    /// `None` only while it gives way.
    rename: Option<SharedGuard<'t>>,
    /// Of the time that the request may wait for nodes in motion.
    left: Duration,
}

impl Stable<'_> {
    /// Gives the rename lock up, for `pause` at least, and takes it again: names and parents may be
    /// others behind it. Only before an operation, never in it.
    pub(super) fn give_way(&mut self, pause: Duration) {
        self.rename = None;
        thread::sleep(pause);
        self.rename = Some(self.locks.rename.shared());
    }

    /// Runs `operation` with the read guarantee on `node`.
    ///
    /// # Errors
    /// EBUSY if a rename that concerns the node hangs in the host.
    pub(in crate::server) fn read<S: ServerImpl, R>(
        &mut self,
        server: &S,
        node: &Node<S>,
        operation: impl FnOnce(Shared<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let _operation = match node.operation_lock().try_read() {
            Some(guard) => guard,
            None => self.wait_to_read(node)?,
        };
        operation(Shared { server, node })
    }

    #[cold]
    fn wait_to_read<'n, S: ServerImpl>(
        &mut self,
        node: &'n Node<S>,
    ) -> Result<RwLockReadGuard<'n, ()>, Errno> {
        let lock = node.operation_lock();
        while node.is_in_motion() {
            let since = Instant::now();
            if let Some(guard) = lock.try_read_for(IN_THE_WAY) {
                return Ok(guard);
            }
            self.give_way(Duration::ZERO);
            self.left = self.left.saturating_sub(since.elapsed());
            if self.left.is_zero() {
                return Err(Errno::EBUSY);
            }
        }
        Ok(lock.read())
    }

    /// Runs `walk`, which comes by nodes that it does not lock, again while it is told EBUSY, as it is
    /// where one of them is in motion.
    ///
    /// # Errors
    /// EBUSY if it is so for too long: a rename hangs in the host. What `walk` says.
    pub(in crate::server) fn pass_through<R>(
        &mut self,
        mut walk: impl FnMut(&mut Self) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let mut since = None;
        loop {
            let result = walk(self);
            if !matches!(result, Err(Errno::EBUSY)) {
                return result;
            }
            // A back end may have waited as well.
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            if waited >= self.left {
                return result;
            }
            self.give_way(IN_THE_WAY);
        }
    }

    /// Runs `operation` with the write guarantee on `node`.
    ///
    /// # Errors
    /// EBUSY if what runs on the node does not end in time, as a lookup of what a hung file system is
    /// mounted on.
    pub(in crate::server) fn write<S: ServerImpl, R>(
        &mut self,
        server: &S,
        node: &Node<S>,
        operation: impl FnOnce(Exclusive<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let _operation = match node.operation_lock().try_write() {
            Some(guard) => guard,
            None => self.wait_to_write(node)?,
        };
        let result = operation(Exclusive {
            server,
            node,
            child: None,
        });
        node.contention().count();
        result
    }

    #[cold]
    fn wait_to_write<'n, S: ServerImpl>(
        &mut self,
        node: &'n Node<S>,
    ) -> Result<RwLockWriteGuard<'n, ()>, Errno> {
        let mut patience = Patience::begin(node);
        loop {
            if let Some(guard) = node.operation_lock().try_write_until(patience.end()) {
                return Ok(guard);
            }
            patience.next(self, (node, true), None)?;
        }
    }

    /// Runs `operation` with the write guarantee on `directory` and with the operation lock of its child
    /// `name`, if that is a node, held exclusively as well: whatever runs on the child has ended.
    ///
    /// # Errors
    /// EBUSY if it does not end in time: a request stuck in the host on one file must not keep the
    /// directory, and with it everybody who comes by, waiting for ever.
    pub(in crate::server) fn write_entry<S: ServerImpl, R>(
        &mut self,
        server: &S,
        directory: &Node<S>,
        name: Name<'_>,
        operation: impl FnOnce(Exclusive<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let mut patience = Patience::begin(directory);
        loop {
            let mut has_directory = false;
            if let Some(_directory) = directory.operation_lock().try_write_until(patience.end()) {
                has_directory = true;
                let child = directory.existing_child(name);
                let lock = child.as_deref().map(Node::operation_lock);
                let locked = lock.map(|lock| lock.try_write_until(patience.end()));
                if !matches!(locked, Some(None)) {
                    let result = operation(Exclusive {
                        server,
                        node: directory,
                        child: child.as_deref(),
                    });
                    directory.contention().count();
                    return result;
                }
            }
            // Others may have the directory meanwhile.
            let child = directory.existing_child(name);
            match child.as_deref() {
                Some(child) if has_directory => {
                    patience.next(self, (child, false), Some(directory))?;
                }
                child => patience.next(self, (directory, true), child)?,
            }
        }
    }

    /// Runs `operation` with the write guarantee on `directory` and the read guarantee on `target`, which
    /// was no directory when it was walked to.
    ///
    /// # Errors
    /// EBUSY if they cannot be had in time, for the same reason. And for another: the type of a file
    /// orders its lock behind a directory's, but belongs to the file and not to the node. When
    /// somebody else has put another file in its place, the node may be the directory's own, which is
    /// EBUSY at once, or one above it.
    pub(in crate::server) fn write_link<S: ServerImpl, R>(
        &mut self,
        server: &S,
        directory: &Node<S>,
        target: &Node<S>,
        operation: impl FnOnce(Exclusive<'_, S>, Shared<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        if core::ptr::eq(directory, target) {
            return Err(Errno::EBUSY);
        }
        let _operations = self.lock_link(directory, target)?;
        let at = Exclusive {
            server,
            node: directory,
            child: None,
        };
        let node = target;
        let result = operation(at, Shared { server, node });
        directory.contention().count();
        result
    }

    /// Nothing is held while one of the two is waited for: there may be many files whose locks are never
    /// given back, and for each the directory would be kept from everybody for a part of the time.
    fn lock_link<'n, S: ServerImpl>(
        &mut self,
        directory: &'n Node<S>,
        target: &'n Node<S>,
    ) -> Result<(RwLockWriteGuard<'n, ()>, RwLockReadGuard<'n, ()>), Errno> {
        let (first, second) = (directory.operation_lock(), target.operation_lock());
        let mut patience = Patience::begin(directory);
        loop {
            if let Some(at) = first.try_write_until(patience.end()) {
                if let Some(target_at) = second.try_read() {
                    return Ok((at, target_at));
                }
                drop(at);
                let deadline = patience.aside();
                let target_at = self.read_until(target, deadline)?;
                if let Some(at) = first.try_write() {
                    return Ok((at, target_at));
                }
                // Others could have it go on like this for ever.
                if deadline <= Instant::now() {
                    return Err(Errno::EBUSY);
                }
            }
            patience.next(self, (directory, true), None)?;
        }
    }

    /// Takes the lock of `node` shared, which keeps nobody out while it waits.
    ///
    /// # Errors
    /// EBUSY at the deadline, if it has waited.
    fn read_until<'n, S: ServerImpl>(
        &mut self,
        node: &'n Node<S>,
        deadline: Instant,
    ) -> Result<RwLockReadGuard<'n, ()>, Errno> {
        loop {
            if let Some(guard) = node.operation_lock().try_read_for(IN_THE_WAY) {
                return Ok(guard);
            }
            if deadline <= Instant::now() {
                return Err(Errno::EBUSY);
            }
            self.give_way(Duration::ZERO);
        }
    }
}

/// The right to rename, which nobody else has meanwhile.
pub(in crate::server) struct Renaming<'t> {
    writer: Writer<'t>,
    deadline: Instant,
}

/// The two names of a rename. The caller has seen that it closes no ring.
pub(in crate::server) struct Names<'n, S: ServerImpl> {
    pub(in crate::server) old_dir: &'n Arc<Node<S>>,
    pub(in crate::server) old_name: Name<'n>,
    pub(in crate::server) new_dir: &'n Arc<Node<S>>,
    pub(in crate::server) new_name: Name<'n>,
    pub(in crate::server) exchange: bool,
}

impl Renaming<'_> {
    /// Has `operation` rename in the host, with the global guarantee, and then renames in the tree.
    ///
    /// # Errors
    /// EBUSY if requests that are running do not end in time: one stuck in the host must not keep
    /// the rename, and with it everybody behind the rename, waiting for ever. EINVAL if one of the
    /// directories is deleted. What `operation` says.
    pub(in crate::server) fn run<S: ServerImpl>(
        self,
        server: &S,
        names: &Names<'_, S>,
        operation: impl FnOnce(Global<'_, S>) -> Result<RenameOutcome, Errno>,
    ) -> Result<(), Errno> {
        let alone = self.writer.exclusive_until(self.deadline);
        let mut alone = alone.ok_or(Errno::EBUSY)?;
        let (old_dir, new_dir) = (names.old_dir, names.new_dir);
        // They may have been unlinked since they were judged.
        old_dir.live()?;
        new_dir.live()?;
        let moved = old_dir.existing_child(names.old_name);
        let replaced = new_dir.existing_child(names.new_name);
        let (moved, replaced) = (moved.as_deref(), replaced.as_deref());
        // Given up before this rename is over.
        let _motion = Motion::begin([Some(old_dir), Some(new_dir), moved, replaced])?;
        let at = Global {
            server,
            moved,
            replaced,
        };
        alone.enter_host();
        if operation(at)? == RenameOutcome::Renamed {
            alone.leave_host();
            old_dir.renamed(names.old_name, new_dir, names.new_name, names.exchange, at);
        }
        Ok(())
    }
}

/// Nodes in motion, whose operation locks are held exclusively.
struct Motion<'n, S: ServerImpl> {
    nodes: SmallVec<[(&'n Node<S>, RwLockWriteGuard<'n, ()>); 4]>,
}

impl<'n, S: ServerImpl> Motion<'n, S> {
    /// Sets `nodes` in motion, some of which may be the same. Called alone, so nobody has the locks.
    ///
    /// # Errors
    /// EBUSY if somebody has one all the same.
    fn begin(nodes: [Option<&'n Node<S>>; 4]) -> Result<Motion<'n, S>, Errno> {
        let mut motion = Motion {
            nodes: SmallVec::new(),
        };
        for node in nodes.into_iter().flatten() {
            if !motion
                .nodes
                .iter()
                .any(|(other, _)| core::ptr::eq(*other, node))
            {
                let guard = node.operation_lock().try_write().ok_or(Errno::EBUSY)?;
                node.set_in_motion(true);
                motion.nodes.push((node, guard));
            }
        }
        Ok(motion)
    }
}

impl<S: ServerImpl> Drop for Motion<'_, S> {
    fn drop(&mut self) {
        // Behind this the locks are released.
        self.nodes
            .iter()
            .for_each(|(node, _)| node.set_in_motion(false));
    }
}
