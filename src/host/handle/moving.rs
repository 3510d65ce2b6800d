//! Files whose name changes.
//!
//! A file is found in a directory that its own connection has, also where another one has moved it: what
//! that one leaves behind when it ends nobody would close, and the descriptors that are set aside for it
//! would stay so. As a rule such a file only gets another name where it is. Where it gets into another
//! directory, that is opened for its connection, once for all that get there in a row, and stays open
//! until they are closed or walked to again, if it can take the place of files that are merely kept open.
//! Where there is no room, the file is lost as it would be with its name, unless it is open. Such files
//! and directories are open for good up to half of what the connection is sure to have, and beyond
//! that until it wants their descriptors ([`strand`](Handle::strand)).
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLockWriteGuard;
use smallvec::SmallVec;

use super::place::{PATIENCE, Place};
use super::{Descriptors, Handle};
use crate::Errno;
use crate::wire::Name;

/// A file whose name is about to change, locked against who looks for it by a name.
pub(in crate::host) struct Moving<'h> {
    handle: &'h Handle,
    place: RwLockWriteGuard<'h, Option<Place>>,
    /// Where it will be; `None` if its connection has no room for that.
    directory: Option<Handle>,
}

impl Moving<'_> {
    fn descriptors(&self) -> &Arc<Descriptors> {
        &self.handle.0.descriptors
    }

    /// `directory` as the connection of the file has it already.
    fn at_hand(&self, directory: &Handle) -> Option<Handle> {
        if Arc::ptr_eq(self.descriptors(), &directory.0.descriptors) {
            return Some(directory.clone());
        }
        let last = || self.descriptors().last_moved_into().map(Handle);
        let place = self.place.as_ref();
        let own = place.map(|place| place.directory().clone());
        let is_it = |own: &Handle| own.is_same(directory) && !own.0.is_lost();
        own.filter(is_it).or_else(|| last().filter(is_it))
    }

    /// Opens `directory` for the connection of the file.
    ///
    /// # Errors
    /// EMFILE when it has no room for it; as dup(2) and statx(2).
    fn open(&self, directory: &Handle, fd: BorrowedFd<'_>) -> Result<Handle, Errno> {
        let descriptors = self.descriptors();
        let share = descriptors.keep().ok_or(Errno::EMFILE)?;
        let opened = directory.duplicate_with(fd, share, descriptors)?;
        opened.strand();
        // If it is open for good, it leaves the ring when it is asked.
        descriptors.list(&opened.0);
        descriptors.moved_into(&opened.0);
        Ok(opened)
    }

    fn arrive(&mut self, name: Name<'_>) {
        if self.place.is_none() {
            return;
        }
        if self.directory.is_none() {
            self.handle.strand();
        }
        *self.place = self
            .directory
            .as_ref()
            .map(|directory| Place::new(directory, name));
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.handle.remain();
    }
}

/// Locks the places of `handles`, whose name is about to become one in `directory`, of which `fd` is.
///
/// # Errors
/// EBUSY if somebody is stuck in looking for one of the files.
pub(in crate::host) fn lock<'h>(
    handles: &'h [Handle],
    directory: &Handle,
    fd: BorrowedFd<'_>,
) -> Result<SmallVec<[Moving<'h>; 1]>, Errno> {
    let deadline = Instant::now() + PATIENCE;
    let lock = |handle: &'h Handle| {
        let place = handle.0.place.try_write_until(deadline);
        let directory = None;
        place.ok_or(Errno::EBUSY).map(|place| Moving {
            handle,
            place,
            directory,
        })
    };
    let moving: Result<SmallVec<[Moving<'h>; 1]>, Errno> = handles.iter().map(lock).collect();
    let mut moving = moving?;
    // Where there is no room for one there is none for the next.
    let mut full: Option<&Arc<Descriptors>> = None;
    for file in moving.iter_mut().filter(|file| file.place.is_some()) {
        file.directory = file.at_hand(directory);
        if file.directory.is_some() {
            continue;
        }
        file.handle.stay_if_open();
        let descriptors = &file.handle.0.descriptors;
        if full.is_some_and(|full| Arc::ptr_eq(full, descriptors)) {
            continue;
        }
        match file.open(directory, fd) {
            Ok(directory) => file.directory = Some(directory),
            Err(errno) => {
                full = Some(descriptors);
                tracing::debug!(%errno, "a handle will be lost where it is moved");
            }
        }
    }
    Ok(moving)
}

/// Has the files that are still known by a name known by `name`, in the directory they were locked for.
pub(in crate::host) fn arrive(moving: &mut [Moving<'_>], name: Name<'_>) {
    moving.iter_mut().for_each(|file| file.arrive(name));
}
