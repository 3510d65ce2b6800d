//! Names instead of descriptors: where a file is found again, and who has to know when that changes.
//!
//! The server's locks keep walks from a directory while one of its names is unlinked, and from both
//! directories during a rename. They do not keep away what runs without them, the back end's unguarded
//! operations. So:
//!
//! - Before a name is unlinked or replaced, the handles of its node are opened and stay so
//!   ([`hold_all`]), for good if it succeeds: from then on nobody asks for the name, and who has just
//!   asked for it in vain looks whether the file is open by now. A handle that cannot be opened, because
//!   an outsider was first or its connection has all the descriptors that it may have, is lost and
//!   answers ESTALE: what one connection holds must not keep another from removing files, nor itself
//!   from making room. What others remove does not keep it from opening files either: beyond half of
//!   what it is sure to have it is lost when there is no other room ([`strand`](Handle::strand)).
//! - While a name is changed, the places of its node are locked ([`lock`]), from before the host's
//!   rename to after their own ([`arrive`]). Whoever wants to open or look at such a file meanwhile
//!   waits, and finds it by its new name; what it is told is true at one moment.
//!
//! Names of directories above do not matter: a place has the directory itself.
//!
//! [`hold_all`]: NodeFiles::hold_all
//! [`lock`]: super::moving::lock
//! [`arrive`]: super::moving::arrive
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::fcntl::OFlag;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::look::{look, look_at};
use super::reach::Deadline;
use super::{AHEAD, Attributes, Descriptors, File, Handle, open_path};
use crate::Errno;
use crate::wire::{FileType, Name, Statx};

/// How long a rename waits for those who are looking for the file at the moment. Everybody else waits
/// for the rename, and who takes longer than this is stuck in the host.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// Where a file was found.
#[derive(Debug)]
pub(in crate::host) struct Place {
    directory: Handle,
    /// Most are short enough to stand here.
    name: SmallVec<[u8; 24]>,
}

impl Place {
    pub(super) fn new(directory: &Handle, name: Name<'_>) -> Place {
        Place {
            directory: directory.clone(),
            name: name.as_bytes().into(),
        }
    }

    pub(super) fn directory(&self) -> &Handle {
        &self.directory
    }

    /// Opens `file`, whose place it is, with O_PATH; `directory` is the descriptor of the directory.
    ///
    /// # Errors
    /// ESTALE if it is not there any more; as open(2).
    pub(super) fn open(&self, file: &File, directory: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let name = Name::new(&self.name)?;
        let fd = open_path(directory, name, OFlag::empty()).map_err(gone)?;
        check(file, &look(fd.as_fd())?)?;
        if file.file_type != FileType::Directory {
            self.directory.0.ahead.store(AHEAD, Ordering::Relaxed);
        }
        Ok(fd)
    }

    /// The attributes of `file`, whose place it is.
    ///
    /// # Errors
    /// ESTALE if it is not there any more; as statx(2).
    pub(super) fn look(&self, file: &File) -> Result<Statx, Errno> {
        let name = Name::new(&self.name)?;
        let found = self.directory.with_fd(|directory| look_at(directory, name));
        let attributes = found.map_err(gone)?;
        check(file, &attributes).map(|()| attributes.stat)
    }

    pub(super) fn into_parent(self) -> Handle {
        self.directory
    }
}

fn check(file: &File, found: &Attributes) -> Result<(), Errno> {
    if file.is(found) {
        Ok(())
    } else {
        Err(Errno::ESTALE)
    }
}

/// A name that leads nowhere says of the file what a name that leads elsewhere says.
fn gone(errno: Errno) -> Errno {
    match errno {
        Errno::ENOENT => Errno::ESTALE,
        errno => errno,
    }
}

/// How many files a connection can know by one name, which they have had one after the other: others
/// have put them there, or the client has where the directory is served twice. The next are opened for
/// good, so the quota of descriptors bounds them; one that cannot be is lost, though the walk to it has
/// succeeded.
const KNOWN: usize = 8;

/// The files that clients know on a node of the server's tree.
#[derive(Debug, Default)]
pub struct NodeFiles {
    /// Those that have a place. However often a connection walks to one of them, that is one handle: what
    /// has to be done for each when the name changes or goes is not for clients to multiply.
    ///
    /// Sorted by connection, so that one's own are found among those of many, and within that by when they
    /// were walked to last.
    placed: Mutex<SmallVec<[Placed; 1]>>,
}

#[derive(Debug)]
struct Placed {
    connection: Address,
    file: Weak<File>,
}

/// Where the descriptors of a connection are in memory. No others are there while a file is of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Address(usize);

impl Address {
    fn of(descriptors: &Arc<Descriptors>) -> Address {
        Address(Arc::as_ptr(descriptors).addr())
    }
}

/// What became of a file that was to be entered.
enum Entry {
    New,
    /// The connection has another handle of it.
    Known(Handle),
    /// The connection knows too many others.
    Refused,
}

impl NodeFiles {
    /// Adds what a handle stands for. From now on its place is kept right, so it can be closed. If the
    /// connection has a handle of the same file here already, `handle` becomes that one.
    pub(in crate::host) fn add(&self, handle: &mut Handle) {
        let file = &handle.0;
        if file.has_left() {
            return;
        }
        match self.enter(file) {
            Entry::New => {
                if !file.is_listed.swap(true, Ordering::Relaxed) && file.opened.read().is_some() {
                    file.descriptors.list(file);
                }
            }
            Entry::Known(known) => {
                let other = core::mem::replace(handle, known);
                if let Err(other) = handle.take_over(other) {
                    *handle = other;
                    handle.hold_or_lose();
                }
            }
            Entry::Refused => handle.hold_or_lose(),
        }
    }

    fn enter(&self, file: &Arc<File>) -> Entry {
        let (connection, identity) = (Address::of(&file.descriptors), file.identity);
        // Dropped behind the lock.
        let mut others: SmallVec<[Arc<File>; KNOWN]> = SmallVec::new();
        let mut placed = self.placed.lock();
        let start = placed.partition_point(|known| known.connection < connection);
        let mut end = start;
        while let Some(known) = placed.get(end)
            && known.connection == connection
        {
            match known.file.upgrade() {
                Some(file) if !file.has_left() && file.identity == identity => {
                    // Behind those that the client knew there until it came back.
                    let behind = placed.partition_point(|known| known.connection <= connection);
                    if let Some(known) = placed.get_mut(end..behind) {
                        known.rotate_left(1);
                    }
                    return Entry::Known(Handle(file));
                }
                Some(file) if !file.has_left() => {
                    end += 1;
                    others.push(file);
                }
                gone => {
                    placed.remove(end);
                    others.extend(gone);
                }
            }
        }
        if end - start >= KNOWN {
            return Entry::Refused;
        }
        if placed.len() == placed.capacity() {
            placed.retain(|known| known.file.strong_count() > 0);
            // Room for as many again, so that this is not done for each.
            let len = placed.len();
            if len > 0 {
                placed.reserve(len + 1);
            }
            end = placed.partition_point(|known| known.connection <= connection);
        }
        let file = Arc::downgrade(file);
        placed.insert(end, Placed { connection, file });
        Entry::New
    }

    /// How many stand here, those that are gone included.
    #[cfg(test)]
    pub(in crate::host) fn len(&self) -> usize {
        self.placed.lock().len()
    }

    /// How many more are added before those that are gone are looked for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let placed = self.placed.lock();
        placed.capacity() - placed.len()
    }

    /// The directory that the connection with these descriptors has walked to here last, of those that it
    /// knows. The name may lead to another one by now.
    pub(in crate::host) fn directory(&self, descriptors: &Arc<Descriptors>) -> Option<Handle> {
        let connection = Address::of(descriptors);
        let placed = self.placed.lock();
        let behind = placed.partition_point(|known| known.connection <= connection);
        let ours = placed.get(..behind)?.iter().rev();
        let ours = ours.take_while(|known| known.connection == connection);
        let file = ours.filter_map(|known| known.file.upgrade()).next()?;
        drop(placed);
        (file.file_type == FileType::Directory).then_some(Handle(file))
    }

    /// The handles that are found by the name, or would be if they were closed, those of a connection
    /// together.
    pub(in crate::host) fn handles(&self) -> Handles {
        let placed = self.placed.lock();
        let files = placed.iter().filter_map(|known| known.file.upgrade());
        let mut handles: Handles = files.map(Handle).collect();
        drop(placed);
        handles.retain(|handle| handle.0.needs_place());
        handles
    }

    /// Opens all handles, if that can be done: the name is about to go.
    pub(in crate::host) fn hold_all(&self) -> Leaving {
        let handles = self.handles();
        let of_one =
            |one: &Handle, next: &Handle| Arc::ptr_eq(&one.0.descriptors, &next.0.descriptors);
        // For all of them together: others wait for this.
        let mut deadline = Deadline::default();
        for handles in handles.chunk_by(of_one) {
            // Where there is no room for one there is none for the next, and to look for some takes the
            // longer the more there is open: others wait for this.
            let mut is_full = false;
            for handle in handles {
                let room = || {
                    if is_full {
                        Err(Errno::EMFILE)
                    } else {
                        handle.reserve()
                    }
                };
                if let Err(errno) = handle.stay_with(room, &mut deadline) {
                    is_full |= errno == Errno::EMFILE;
                    tracing::debug!(%errno, "a handle will be lost with its name");
                }
            }
        }
        Leaving { handles }
    }
}

impl Handle {
    /// Has the file found where `other`, another handle of it, was found just now, and opened if that
    /// is.
    ///
    /// # Errors
    /// `other`, if somebody is stuck in looking for the file where it was.
    fn take_over(&self, mut other: Handle) -> Result<(), Handle> {
        // Somebody else has it only if it was just made, and then it remains with that.
        let Some(file) = Arc::get_mut(&mut other.0) else {
            return Ok(());
        };
        let found = file.place.get_mut().take();
        if let Some(found) = found.filter(|place| !self.finds_by(place.directory())) {
            // Whoever looks for it in the old place at the moment finds it there, or not. Not waited for
            // any longer than by a rename: who takes so long is stuck, and so would the next be.
            let Some(mut known) = self.0.place.try_write_for(PATIENCE) else {
                *file.place.get_mut() = Some(found);
                return Err(other);
            };
            let left = known.as_mut().map(|known| core::mem::replace(known, found));
            drop(known);
            drop(left);
        }
        if let Some(opened) = file.opened.get_mut().take() {
            self.keep(opened);
        }
        Ok(())
    }

    /// Whether there is nothing to be gained from looking for the file in `directory`, where it is.
    fn finds_by(&self, directory: &Handle) -> bool {
        let place = self.0.place.read();
        place.as_ref().is_none_or(|place| {
            let own = place.directory();
            // One that others have had opened for it can be closed then.
            Arc::ptr_eq(&own.0, &directory.0) || (own.is_same(directory) && !own.0.has_left())
        })
    }

    /// Opens the file for good, since the node does not know it. If that cannot be done it is lost.
    fn hold_or_lose(&self) {
        if let Err(errno) = self.hold() {
            tracing::debug!(%errno, "a file that its node does not know is lost");
            self.pin();
        }
    }
}

/// Handles whose name is about to go. None of them is closed meanwhile; if the name has not gone when
/// this is dropped, they may be again.
#[derive(Debug)]
pub(in crate::host) struct Leaving {
    handles: Handles,
}

impl Leaving {
    /// The name has gone from `directory`, by the doing of the connection that this is of.
    pub(in crate::host) fn gone(self, directory: &Handle) {
        for handle in &self.handles {
            if Arc::ptr_eq(&handle.0.descriptors, &directory.0.descriptors) {
                handle.pin();
            } else {
                handle.strand();
                handle.leave();
            }
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.handles.iter().for_each(Handle::remain);
    }
}

/// Handles of one node: as a rule one.
pub(in crate::host) type Handles = SmallVec<[Handle; 1]>;
