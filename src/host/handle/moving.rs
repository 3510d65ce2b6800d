//! Files whose name changes.
//!
//! A file is found in a directory that its own connection has, also where another one has moved it: what
//! that one leaves behind when it ends nobody would close, and the descriptors that are set aside for it
//! would stay so. As a rule such a file only gets another name where it is. Where it gets into another
//! directory, that is opened for its connection for good, once for all that get there in a row. If the
//! connection has all the descriptors that it may have, the file is lost as it would be with its name,
//! unless it is open.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::RwLockWriteGuard;
use smallvec::SmallVec;

use super::place::{PATIENCE, Place};
use super::{Descriptors, File, Handle, PINNED};
use crate::Errno;
use crate::wire::Name;

/// A file whose name is about to change, locked against who looks for it by a name.
pub(in crate::host) struct Moving<'h> {
    file: &'h File,
    place: RwLockWriteGuard<'h, Option<Place>>,
    /// Where it will be; `None` if its connection has no room for that.
    directory: Option<Handle>,
}

impl Moving<'_> {
    /// `directory` as the connection of the file has it.
    ///
    /// # Errors
    /// As [`duplicate`](Handle::duplicate).
    fn own(&self, directory: &Handle) -> Result<Handle, Errno> {
        let descriptors = &self.file.descriptors;
        if Arc::ptr_eq(descriptors, &directory.0.descriptors) {
            return Ok(directory.clone());
        }
        if let Some(place) = &*self.place
            && place.directory().is_same(directory)
        {
            return Ok(place.directory().clone());
        }
        let last = descriptors.last_moved_into().map(Handle);
        if let Some(last) = last.filter(|last| last.is_same(directory)) {
            return Ok(last);
        }
        let opened = directory.duplicate(descriptors)?;
        descriptors.moved_into(&opened.0);
        Ok(opened)
    }

    fn arrive(&mut self, name: Name<'_>) {
        if self.place.is_none() {
            return;
        }
        if self.directory.is_none() {
            self.file.stays.store(PINNED, Ordering::Relaxed);
        }
        *self.place = self
            .directory
            .as_ref()
            .map(|directory| Place::new(directory, name));
    }
}

/// Locks the places of `handles`, whose name is about to become one in `directory`.
///
/// # Errors
/// EBUSY if somebody is stuck in looking for one of the files.
pub(in crate::host) fn lock<'h>(
    handles: &'h [Handle],
    directory: &Handle,
) -> Result<SmallVec<[Moving<'h>; 1]>, Errno> {
    let deadline = Instant::now() + PATIENCE;
    let lock = |handle: &'h Handle| {
        let place = handle.0.place.try_write_until(deadline);
        let directory = None;
        place.ok_or(Errno::EBUSY).map(|place| Moving {
            file: &handle.0,
            place,
            directory,
        })
    };
    let moving: Result<SmallVec<[Moving<'h>; 1]>, Errno> = handles.iter().map(lock).collect();
    let mut moving = moving?;
    // Where there is no room for one there is none for the next.
    let mut full: Option<&Arc<Descriptors>> = None;
    for file in &mut moving {
        let descriptors = &file.file.descriptors;
        let is_full = full.is_some_and(|full| Arc::ptr_eq(full, descriptors));
        if is_full || file.place.is_none() {
            continue;
        }
        match file.own(directory) {
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
