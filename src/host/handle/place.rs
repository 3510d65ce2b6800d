//! Names instead of descriptors: where a file is found again, and who has to know when that changes.
//!
//! The server's locks keep walks from a directory while one of its names is unlinked, and from the
//! whole tree during a rename. They do not keep away what runs without them, the back end's unguarded
//! operations. So:
//!
//! - Before a name is unlinked or replaced, the handles of its node are opened and stay so
//!   ([`hold_all`]), for good if it succeeds: from then on nobody asks for the name, and who has just
//!   asked for it in vain looks whether the file is open by now. A handle that cannot be opened, because
//!   an outsider was first or its connection has all the descriptors that it may have, is lost and
//!   answers ESTALE: what one connection holds must not keep another from removing files, nor itself
//!   from making room.
//! - While a name is changed, the places of its node are locked ([`lock`]), from before the host's
//!   rename to after their own ([`arrive`]). Whoever wants to open or look at such a file meanwhile
//!   waits, and finds it by its new name; what it is told is true at one moment.
//!
//! Names of directories above do not matter: a place has the directory itself.
//!
//! [`hold_all`]: NodeFiles::hold_all
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use parking_lot::{Mutex, RwLockWriteGuard};
use smallvec::SmallVec;

use super::look::{look, look_at};
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

/// The files that clients know on a node of the server's tree.
#[derive(Debug, Default)]
pub struct NodeFiles {
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// Those that have a place: one for each walk to a file, a directory left aside.
    placed: SmallVec<[Weak<File>; 1]>,
    /// The directory that was walked to last.
    directory: Weak<File>,
}

impl NodeFiles {
    /// Adds what a handle stands for. From now on its place is kept right, so it can be closed.
    pub(in crate::host) fn add(&self, handle: &Handle) {
        let file = &handle.0;
        let (is_pinned, is_directory) = (file.is_pinned(), file.file_type == FileType::Directory);
        if is_pinned && !is_directory {
            return;
        }
        let mut files = self.files.lock();
        if is_directory {
            let last = core::mem::replace(&mut files.directory, Arc::downgrade(file));
            if is_pinned || core::ptr::eq(last.as_ptr(), Arc::as_ptr(file)) {
                return;
            }
        }
        let placed = &mut files.placed;
        if placed.len() == placed.capacity() {
            placed.retain(|file| file.strong_count() > 0);
            // Room for as many again, so that this is not done for each.
            let len = placed.len();
            if len > 0 {
                placed.reserve(len + 1);
            }
        }
        placed.push(Arc::downgrade(file));
        drop(files);
        if !file.is_listed.swap(true, Ordering::Relaxed) && file.opened.read().is_some() {
            file.descriptors.list(file);
        }
    }

    /// How many more are added before those that are gone are looked for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        let files = self.files.lock();
        files.placed.capacity() - files.placed.len()
    }

    /// The directory that was walked to last, if the connection with these descriptors has a handle of
    /// it. It may be another one than the name leads to by now.
    pub(in crate::host) fn directory(&self, descriptors: &Arc<Descriptors>) -> Option<Handle> {
        let directory = self.files.lock().directory.upgrade()?;
        Arc::ptr_eq(&directory.descriptors, descriptors).then(|| Handle(directory))
    }

    /// The handles that are found by the name, or would be if they were closed, each once.
    pub(in crate::host) fn handles(&self) -> Handles {
        let files = self.files.lock();
        let placed = files.placed.iter().filter_map(Weak::upgrade);
        let mut handles: Handles = placed.map(Handle).collect();
        drop(files);
        handles.retain(|handle| handle.0.needs_place());
        handles.sort_unstable_by_key(|handle| Arc::as_ptr(&handle.0));
        handles.dedup_by_key(|handle| Arc::as_ptr(&handle.0));
        handles
    }

    /// Opens all handles, if that can be done: the name is about to go.
    pub(in crate::host) fn hold_all(&self) -> Leaving {
        let handles = self.handles();
        for handle in &handles {
            if let Err(errno) = handle.stay() {
                tracing::debug!(%errno, "a handle will be lost with its name");
            }
        }
        Leaving { handles }
    }
}

/// Handles whose name is about to go. None of them is closed meanwhile; if the name has not gone when
/// this is dropped, they may be again.
#[derive(Debug)]
pub(in crate::host) struct Leaving {
    handles: Handles,
}

impl Leaving {
    /// The name has gone.
    pub(in crate::host) fn gone(self) {
        self.handles.iter().for_each(Handle::pin);
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.handles.iter().for_each(Handle::remain);
    }
}

/// Handles of one node: as a rule one.
pub(in crate::host) type Handles = SmallVec<[Handle; 1]>;

/// The place of a file, locked.
pub(in crate::host) type Locked<'h> = RwLockWriteGuard<'h, Option<Place>>;

/// Locks the places of `handles`, whose name is about to change.
///
/// # Errors
/// EBUSY if somebody is stuck in looking for one of the files.
pub(in crate::host) fn lock(handles: &[Handle]) -> Result<SmallVec<[Locked<'_>; 1]>, Errno> {
    let deadline = Instant::now() + PATIENCE;
    handles
        .iter()
        .map(|handle| handle.0.place.try_write_until(deadline).ok_or(Errno::EBUSY))
        .collect()
}

/// Has the files that are still known by a name known by `name` in `directory`.
pub(in crate::host) fn arrive(locked: &mut [Locked<'_>], directory: &Handle, name: Name<'_>) {
    for place in locked.iter_mut().filter_map(|place| place.as_mut()) {
        *place = Place::new(directory, name);
    }
}
