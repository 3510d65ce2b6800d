//! The tree of nodes: which positions the clients of a server hold something on.
//!
//! A node lives as long as something refers to it; the tree is no cache. A node holds its parent,
//! and is known to it weakly. One whose name has gone holds none: who keeps it keeps nothing else.
//! Nothing here recurses: clients decide how deep a tree is.

use core::fmt;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use super::backend::ServerImpl;
use super::fd::{ControlFd, OpenFd};
use super::guarantee::{Contention, Global, TreeLocks};
use super::slack::Shrinking;
use super::unwind;
use crate::Errno;
use crate::wire::Name;

/// The nodes of one server and their locks.
pub(super) struct Tree<S: ServerImpl> {
    root: Arc<Node<S>>,
    locks: TreeLocks,
}

impl<S: ServerImpl> Tree<S> {
    pub(super) fn new() -> Tree<S> {
        Tree {
            root: Node::new(None, Arc::default()),
            locks: TreeLocks::default(),
        }
    }

    pub(super) fn root(&self) -> &Arc<Node<S>> {
        &self.root
    }

    pub(super) fn locks(&self) -> &TreeLocks {
        &self.locks
    }

    /// The number of live nodes, the root included. Nodes that come and go meanwhile may or may
    /// not be counted.
    pub(super) fn count(&self) -> usize {
        let mut count = 0;
        self.root.for_each(|_| count += 1);
        count
    }
}

/// A position in the tree.
pub struct Node<S: ServerImpl> {
    this: Weak<Node<S>>,
    /// Changed only with the rename lock held exclusively, but for a parent that is released.
    place: RwLock<Place<S>>,
    children: Mutex<Children<S>>,
    deleted: AtomicBool,
    /// A rename that concerns it is in the host; `guarantee/locks.rs` says more.
    in_motion: AtomicBool,
    operation: RwLock<()>,
    contention: Contention,
    /// Who wants to hear of renames; empty unless `S::NOTIFY_RENAMED`.
    observers: Mutex<Vec<Observer<S>>>,
    data: S::NodeData,
}

/// A name is shared by the entry and by the place of the node.
type Children<S> = Shrinking<Arc<[u8]>, Weak<Node<S>>>;

struct Place<S: ServerImpl> {
    /// `None` in the root and in what is deleted.
    parent: Option<Arc<Node<S>>>,
    name: Arc<[u8]>,
}

/// Something that is told when its node moves.
pub(super) enum Observer<S: ServerImpl> {
    Control(Weak<ControlFd<S>>),
    Open(Weak<OpenFd<S>>),
}

impl<S: ServerImpl> Observer<S> {
    fn is_gone(&self) -> bool {
        match self {
            Observer::Control(fd) => fd.strong_count() == 0,
            Observer::Open(fd) => fd.strong_count() == 0,
        }
    }
}

impl<S: ServerImpl> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("deleted", &self.deleted)
            .finish_non_exhaustive()
    }
}

impl<S: ServerImpl> Node<S> {
    fn new(parent: Option<Arc<Node<S>>>, name: Arc<[u8]>) -> Arc<Node<S>> {
        Arc::new_cyclic(|this| Node {
            this: this.clone(),
            place: RwLock::new(Place { parent, name }),
            children: Mutex::default(),
            deleted: AtomicBool::new(false),
            in_motion: AtomicBool::new(false),
            operation: RwLock::new(()),
            contention: Contention::default(),
            observers: Mutex::default(),
            data: S::NodeData::default(),
        })
    }

    pub(super) fn operation_lock(&self) -> &RwLock<()> {
        &self.operation
    }

    /// Whether a rename is changing its name, or one in it. It does not come to be so while somebody
    /// holds the rename lock shared.
    pub(super) fn is_in_motion(&self) -> bool {
        self.in_motion.load(Ordering::Acquire)
    }

    pub(super) fn set_in_motion(&self, in_motion: bool) {
        self.in_motion.store(in_motion, Ordering::Release);
    }

    /// Of the operation lock.
    pub(super) fn contention(&self) -> &Contention {
        &self.contention
    }

    /// What the back end keeps here.
    pub(super) fn data(&self) -> &S::NodeData {
        &self.data
    }

    /// Whether the file has been unlinked or replaced through this server.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// # Errors
    /// EINVAL if it [is deleted](Self::is_deleted).
    pub(super) fn live(&self) -> Result<(), Errno> {
        if self.is_deleted() {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    }

    /// The node called `name` in this directory, made if there is none. The caller holds this
    /// node's operation lock, so the name cannot be unlinked meanwhile.
    pub(super) fn child(self: &Arc<Self>, name: Name<'_>) -> Arc<Node<S>> {
        let mut children = self.children.lock();
        if let Some(child) = children.get(name.as_bytes()).and_then(Weak::upgrade) {
            return child;
        }
        let name: Arc<[u8]> = name.as_bytes().into();
        let child = Node::new(Some(Arc::clone(self)), Arc::clone(&name));
        // A dying node may still stand here; it removes itself by identity, so it will find that
        // its place has been taken.
        children.insert(name, Weak::clone(&child.this));
        child
    }

    /// The node called `name` in this directory, if anybody holds something on it.
    pub(super) fn existing_child(&self, name: Name<'_>) -> Option<Arc<Node<S>>> {
        self.children
            .lock()
            .get(name.as_bytes())
            .and_then(Weak::upgrade)
    }

    /// Takes the entry `name` out of this directory.
    fn detach(&self, name: Name<'_>) -> Option<Arc<Node<S>>> {
        self.children
            .lock()
            .remove(name.as_bytes())
            .as_ref()
            .and_then(Weak::upgrade)
    }

    /// Enters `child`, which is in no directory, as `name` into this one.
    fn attach(self: &Arc<Self>, child: &Arc<Node<S>>, name: Name<'_>) {
        let name: Arc<[u8]> = name.as_bytes().into();
        self.children
            .lock()
            .insert(Arc::clone(&name), Weak::clone(&child.this));
        let place = Place {
            parent: Some(Arc::clone(self)),
            name,
        };
        // Dropped behind the statement: releasing the old parent locks its parent's children.
        let _old = core::mem::replace(&mut *child.place.write(), place);
    }

    /// The host has unlinked `name` in this directory, whose operation lock is held exclusively.
    pub(super) fn unlinked(&self, name: Name<'_>) {
        if let Some(child) = self.detach(name) {
            child.mark_deleted();
        }
    }

    /// The host has renamed `old_name` in this directory to `new_name` in `new_dir`.
    pub(super) fn renamed(
        self: &Arc<Self>,
        old_name: Name<'_>,
        new_dir: &Arc<Node<S>>,
        new_name: Name<'_>,
        exchange: bool,
        at: Global<'_, S>,
    ) {
        let replaced = new_dir.detach(new_name);
        let renamed = self.detach(old_name);
        let mut moved: SmallVec<[_; 2]> = SmallVec::new();
        let mut arrive = |node: Arc<Self>, directory: &Arc<Self>, name| {
            // What is above may have been unlinked while the host renamed, and took along what it had
            // then: the place is for another node.
            if node.is_deleted() || directory.is_deleted() {
                node.mark_deleted();
            } else {
                directory.attach(&node, name);
                moved.push(node);
            }
        };
        if let Some(replaced) = replaced {
            if exchange {
                arrive(replaced, self, old_name);
            } else {
                replaced.mark_deleted();
            }
        }
        if let Some(renamed) = renamed {
            arrive(renamed, new_dir, new_name);
        }
        // All is as on the host before anybody is told, who may panic.
        let mut result = Ok(());
        for node in moved {
            let told = node.notify_renamed(at);
            result = result.and(told);
        }
        result.unwrap_or_else(|why| resume_unwind(why));
    }

    /// Whether that rename would put a directory below itself. The host refuses it as well, but goes
    /// by where directories are by now: one that somebody else has moved meanwhile still stands at
    /// its old place here, and a ring of nodes would be walked, and held, for ever.
    ///
    /// Takes time with the depth of the tree, so others may hold the rename lock shared, but no other
    /// rename runs. If it is false it stays so for as long as both directories are live: only renames
    /// give a node another parent, and what loses its parent is deleted with all that is below.
    pub(super) fn would_close_ring(
        self: &Arc<Self>,
        old_name: Name<'_>,
        new_dir: &Arc<Node<S>>,
        new_name: Name<'_>,
        exchange: bool,
    ) -> bool {
        let moves_above = |from: &Self, name, to: &Arc<Self>| {
            from.existing_child(name)
                .is_some_and(|moved| to.is_within(&moved))
        };
        !Arc::ptr_eq(self, new_dir)
            && (moves_above(self, old_name, new_dir)
                || (exchange && moves_above(new_dir, new_name, self)))
    }

    /// Whether this node is `top` or below it. The caller keeps renames out.
    fn is_within(self: &Arc<Self>, top: &Arc<Node<S>>) -> bool {
        let mut next = Some(Arc::clone(self));
        while let Some(node) = next {
            if Arc::ptr_eq(&node, top) {
                return true;
            }
            next = node.place.read().parent.clone();
        }
        false
    }

    /// Marks this node, which is in no directory any more, and those below it: the host has removed their
    /// names. Nobody asks them for their parents again, and a client could have as many of these as it
    /// likes hang on one id: directories that are made in each other and removed from below.
    fn mark_deleted(self: &Arc<Self>) {
        let mut pending: SmallVec<[_; 2]> = SmallVec::new();
        pending.push(Arc::clone(self));
        while let Some(node) = pending.pop() {
            node.deleted.store(true, Ordering::Release);
            // Released behind the locks. One that is deleted, too, has come before and has no parent
            // itself; the one above all of these is in use.
            let parent = node.place.write().parent.take();
            let children = core::mem::take(&mut *node.children.lock());
            pending.extend(children.values().filter_map(Weak::upgrade));
            drop(parent);
        }
    }

    /// Calls `visit` for this node and all below it.
    fn for_each(self: &Arc<Self>, mut visit: impl FnMut(&Arc<Node<S>>)) {
        let mut pending: SmallVec<[_; 2]> = SmallVec::new();
        pending.push(Arc::clone(self));
        while let Some(node) = pending.pop() {
            visit(&node);
            pending.extend(node.children.lock().values().filter_map(Weak::upgrade));
        }
    }

    /// The path from the root of the tree. For what is deleted, and what is below that, it is what is left
    /// of it, behind a NUL: nobody is to take that for another file. The caller holds the rename lock.
    pub(super) fn path(&self) -> Vec<u8> {
        let mut names: Vec<Arc<[u8]>> = Vec::new();
        let mut next = self.this.upgrade();
        while let Some(node) = next {
            let place = node.place.read();
            names.push(Arc::clone(&place.name));
            next = place.parent.clone();
        }
        names.reverse();
        match names.as_slice() {
            // The root has no name.
            [root] if root.is_empty() => b"/".to_vec(),
            [root, ..] if root.is_empty() => names.join(&b'/'),
            left => [&b"\0"[..], &left.join(&b'/')].concat(),
        }
    }

    /// Has `observer` told when this node moves.
    pub(super) fn observe(&self, observer: Observer<S>) {
        let mut observers = self.observers.lock();
        if observers.len() == observers.capacity() {
            observers.retain(|observer| !observer.is_gone());
        }
        observers.push(observer);
    }

    /// # Errors
    /// The first panic of those who were told. It keeps no other from being told.
    fn notify_renamed(self: &Arc<Self>, at: Global<'_, S>) -> thread::Result<()> {
        let mut result = Ok(());
        if !S::NOTIFY_RENAMED {
            return result;
        }
        self.for_each(|node| {
            // Collected first: no back-end code runs under a lock of the node.
            let (mut controls, mut opens) = (Vec::new(), Vec::new());
            for observer in node.observers.lock().iter() {
                match observer {
                    Observer::Control(fd) => controls.extend(fd.upgrade()),
                    Observer::Open(fd) => opens.extend(fd.upgrade()),
                }
            }
            let told = unwind::for_each(controls, |fd: Arc<ControlFd<S>>| fd.notify_renamed(at));
            let opens = unwind::for_each(opens, |fd: Arc<OpenFd<S>>| fd.notify_renamed(at));
            if result.is_ok() {
                result = told.and(opens);
            }
        });
        result
    }

    /// Leaves the parent's map and hands the parent over to be released.
    fn leave(&mut self) -> Option<Arc<Node<S>>> {
        let place = self.place.get_mut();
        let parent = place.parent.take()?;
        let mut children = parent.children.lock();
        if children
            .get(&place.name)
            .is_some_and(|entry| Weak::ptr_eq(entry, &self.this))
        {
            children.remove(&place.name);
        }
        drop(children);
        Some(parent)
    }
}

impl<S: ServerImpl> Drop for Node<S> {
    fn drop(&mut self) {
        let mut released = self.leave();
        while let Some(parent) = released {
            // The last reference to a parent may be the one in hand. Releasing it here rather than
            // in its own drop keeps a chain of any length off the stack.
            released = Arc::into_inner(parent).and_then(|mut parent| parent.leave());
        }
    }
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;
    use crate::host::HostFs;

    #[test]
    fn what_is_deleted_has_no_path_that_leads_anywhere() {
        let tree = Tree::<HostFs>::new();
        let name = |name: &'static str| Name::new(name.as_bytes()).unwrap();
        let top = tree.root().child(name("top"));
        let middle = top.child(name("middle"));
        let bottom = middle.child(name("bottom"));
        assert_eq!(tree.root().path(), b"/");
        assert_eq!(bottom.path(), b"/top/middle/bottom");
        tree.root().unlinked(name("top"));
        let gone = [&top, &middle, &bottom];
        assert!(gone.iter().all(|node| node.is_deleted()));
        let paths = gone.map(|node| node.path());
        assert_eq!(paths, [&b"\0top"[..], b"\0middle", b"\0bottom"]);
        // As if it had been walked to in the middle of that.
        assert_eq!(middle.child(name("late")).path(), b"\0middle/late");
    }

    #[test]
    fn a_directory_has_no_room_for_children_that_are_gone() {
        const COUNT: usize = 10_000;
        let tree = Tree::<HostFs>::new();
        let root = tree.root();
        let names: Vec<_> = (0..COUNT).map(|number| number.to_string()).collect();
        let names = names.iter().map(|name| Name::new(name.as_bytes()).unwrap());
        let children: Vec<_> = names.clone().map(|name| root.child(name)).collect();
        let room = || root.children.lock().capacity();
        assert!(room() >= COUNT);
        // Some lose their names, the others those who hold them.
        names.take(COUNT / 2).for_each(|name| root.unlinked(name));
        assert_eq!(tree.count(), 1 + COUNT / 2);
        drop(children);
        assert_eq!(tree.count(), 1);
        assert!(room() <= COUNT / 50);
    }
}
