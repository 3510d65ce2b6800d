//! A file that the server knows, without having opened it.
//!
//! A handle is one of two things:
//!
//! - *Open*: it has an O_PATH descriptor. Opening it had no effect on the file and needed no
//!   permission on it, and it means that file whatever becomes of its name.
//! - *Named*: it has the name, the open directory in which the name was looked up, and the
//!   [`Identity`] of what was found there ([`place`]). Most files that are walked to are only looked
//!   at, which costs a named handle one statx(2) and no descriptor.
//!
//! A named handle is opened when something needs the descriptor: relative to its directory, with
//! O_PATH and O_NOFOLLOW. Then the identity of what was opened is compared, and if it is not that of
//! the file that was walked to, the answer is ESTALE and nothing has been done. So there is no moment
//! at which a name is trusted: what is acted upon is a descriptor whose file has been identified, and
//! what is told about a name (its attributes) comes from the very call that identified it. Names are
//! single components and never followed; a client cannot reach by a named handle what it cannot reach
//! by walking again.
//!
//! A file keeps its descriptor from then on if there is [room](Descriptors::keep), and is opened as
//! well when it is looked at again and again. A descriptor that has not been used for long is closed
//! when another one is wanted and there is no room ([`descriptors`]): the handle is a named one again.
//! So what has to stay open is what cannot be found again: files younger than the last tick of the
//! clock, for that long, and files whose name has gone, as far as others do not make them too many
//! ([`strand`](Handle::strand)).
//!
//! Handles are named only where an identity is good for telling files apart
//! ([`FileSystem::remembers`], [`Identity::outlasts`]); all others are opened at once. So are the
//! next files of a directory in which one had to be opened after all, as long as there is room.
#![forbid(unsafe_code)]

mod descriptors;
mod look;
pub(super) mod moving;
pub(super) mod place;
mod reach;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use parking_lot::RwLock;

pub(super) use self::descriptors::Descriptors;
#[cfg(test)]
use self::descriptors::Of;
#[cfg(test)]
pub(super) use self::look::stat;
pub(super) use self::look::{Lasting, stat_again, stat_name};
use self::look::{for_the_wire, look, look_at};
use self::place::{NodeFiles, Place};
use super::filesystem::FileSystem;
use super::identity::{Identity, Tick};
use super::sys::Attributes;
use crate::Errno;
use crate::server::Share;
use crate::wire::{FileType, Name, Statx};

/// How many files that are walked to in a directory are opened at once, after one that was not has
/// been opened nevertheless. Who reads, changes or removes one file of a directory does so with the
/// next; who only looks has so many opened for nothing.
const AHEAD: u8 = 16;

/// It may be closed.
const FREE: u8 = 0;
/// It must not be closed for the time being: it may be about to lose its place.
const LEAVING: u8 = 1;
/// It must not be closed any more: it has no place.
const PINNED: u8 = 2;
/// It has no place, and is closed if nothing else can be, which loses it.
const ADRIFT: u8 = 3;

/// A file of any type, symlinks included. Clones are the same handle.
#[derive(Clone, Debug)]
pub(super) struct Handle(Arc<File>);

#[derive(Debug)]
struct File {
    file_type: FileType,
    filesystem: FileSystem,
    /// What it is found again by; `None` where files cannot be told apart for good.
    identity: Option<Identity>,
    /// Those of the connection that walked to it.
    descriptors: Arc<Descriptors>,
    /// SYNC: whoever uses the descriptor holds this shared, whatever that takes; it is put there and
    /// taken away only if nobody does.
    opened: RwLock<Option<Opened>>,
    /// It has been used since it was last considered for closing.
    is_used: AtomicBool,
    /// The descriptors know that it can be closed: a node knows the file, so its place is kept right.
    is_listed: AtomicBool,
    /// Whether it may be closed: [`FREE`], [`LEAVING`], [`PINNED`] or [`ADRIFT`].
    stays: AtomicU8,
    /// Others have it pinned.
    of_others: OnceLock<Share>,
    /// How often it was looked at by its name.
    looks: AtomicU8,
    /// How many more files in this directory are opened as soon as they are walked to.
    ahead: AtomicU8,
    /// `None` only in a file that is pinned or adrift: it is open, or it is lost.
    ///
    /// SYNC: whoever opens the file by its name, or says that it is not there, holds this shared;
    /// whoever renames the file through the server holds it exclusively until the name in it is the
    /// new one. A walk that has found the file elsewhere changes it as well.
    place: RwLock<Option<Place>>,
}

#[derive(Debug)]
pub(in crate::host) struct Opened {
    fd: OwnedFd,
    _share: Share,
}

impl Handle {
    fn new(
        file_type: FileType,
        filesystem: FileSystem,
        identity: Option<Identity>,
        descriptors: &Arc<Descriptors>,
        opened: Option<Opened>,
        place: Option<Place>,
    ) -> Handle {
        Handle(Arc::new(File {
            file_type,
            filesystem,
            identity,
            descriptors: Arc::clone(descriptors),
            opened: RwLock::new(opened),
            is_used: AtomicBool::new(false),
            is_listed: AtomicBool::new(false),
            stays: AtomicU8::new(if place.is_none() { PINNED } else { FREE }),
            of_others: OnceLock::new(),
            looks: AtomicU8::new(0),
            ahead: AtomicU8::new(0),
            place: RwLock::new(place),
        }))
    }

    /// The handle of the root behind `fd`, an O_PATH descriptor.
    ///
    /// # Errors
    /// As [`child`](Self::child); EMFILE.
    pub(super) fn root(fd: OwnedFd, descriptors: &Arc<Descriptors>) -> Result<Handle, Errno> {
        let attributes = look(fd.as_fd())?;
        let filesystem = FileSystem::of_root(fd.as_fd(), &attributes.stat)?;
        let share = descriptors.take()?;
        Handle::open((fd, share), &attributes, filesystem, descriptors, None)
    }

    /// The handle of what `fd` holds, an O_PATH descriptor of the file `name` in this directory, for
    /// which `share` was taken.
    ///
    /// # Errors
    /// EPERM for a block device and for a file of unknown type.
    pub(super) fn child(
        &self,
        name: Name<'_>,
        fd: OwnedFd,
        share: Share,
    ) -> Result<(Handle, Statx), Errno> {
        let attributes = look(fd.as_fd())?;
        let filesystem = self.0.filesystem.of_child(fd.as_fd(), &attributes.stat)?;
        let (opened, place) = ((fd, share), Some(Place::new(self, name)));
        let child = Handle::open(opened, &attributes, filesystem, &self.0.descriptors, place)?;
        Ok((child, for_the_wire(attributes.stat)))
    }

    /// The handle of an open file, which can be found again at `place` if it has an identity.
    fn open(
        (fd, share): (OwnedFd, Share),
        attributes: &Attributes,
        filesystem: FileSystem,
        descriptors: &Arc<Descriptors>,
        place: Option<Place>,
    ) -> Result<Handle, Errno> {
        let identity = Identity::of(attributes).filter(|_| filesystem.remembers);
        Ok(Handle::new(
            served(&attributes.stat)?,
            filesystem,
            identity,
            descriptors,
            Some(Opened { fd, _share: share }),
            place.filter(|_| identity.is_some()),
        ))
    }

    /// The handle of the file `name` in this directory, with these attributes; `None` if it cannot be
    /// told from all others.
    fn named(
        &self,
        name: Name<'_>,
        attributes: &Attributes,
        tick: Tick,
    ) -> Result<Option<Handle>, Errno> {
        let file_type = served(&attributes.stat)?;
        let filesystem = self.0.filesystem;
        let identity = Identity::of(attributes).filter(|identity| {
            filesystem.remembers
                && filesystem.device == identity.device()
                && identity.outlasts(tick)
        });
        Ok(identity.map(|identity| {
            let place = Some(Place::new(self, name));
            let identity = Some(identity);
            Handle::new(
                file_type,
                filesystem,
                identity,
                &self.0.descriptors,
                None,
                place,
            )
        }))
    }

    /// A handle of the same file with a descriptor of its own, counted in `descriptors`. It is open
    /// for good.
    ///
    /// # Errors
    /// As [`with_fd`](Self::with_fd); EMFILE.
    pub(super) fn duplicate(&self, descriptors: &Arc<Descriptors>) -> Result<Handle, Errno> {
        let share = descriptors.take()?;
        self.with_fd(|fd| self.duplicate_with(fd, share, descriptors))
    }

    /// As [`duplicate`](Self::duplicate), of `fd`, which is of this file, with a share of `descriptors`.
    fn duplicate_with(
        &self,
        fd: BorrowedFd<'_>,
        share: Share,
        descriptors: &Arc<Descriptors>,
    ) -> Result<Handle, Errno> {
        let fd = fd.try_clone_to_owned()?;
        let attributes = look(fd.as_fd())?;
        Handle::open(
            (fd, share),
            &attributes,
            self.0.filesystem,
            descriptors,
            None,
        )
    }

    /// The handle of `name` in this directory.
    ///
    /// # Errors
    /// As open(2) with O_PATH, and as [`child`](Self::child); as [`reach`](Self::reach), of this directory;
    /// EMFILE.
    pub(super) fn walk(&self, name: Name<'_>) -> Result<(Handle, Statx), Errno> {
        if !self.0.filesystem.remembers {
            return self.walk_open(name);
        }
        if let Some(share) = self.share_ahead() {
            return self.walk_open_with(share, name);
        }
        let tick = Tick::now();
        let attributes = self.with_fd(|directory| look_at(directory, name))?;
        match self.named(name, &attributes, tick)? {
            Some(handle) => Ok((handle, for_the_wire(attributes.stat))),
            None => self.walk_open(name),
        }
    }

    /// As [`walk`](Self::walk), for a file in which something is going to be looked up.
    ///
    /// # Errors
    /// As `walk`.
    pub(super) fn walk_through(
        &self,
        name: Name<'_>,
        known: Option<&NodeFiles>,
    ) -> Result<(Handle, Statx), Errno> {
        let known = known.and_then(|known| known.directory(&self.0.descriptors));
        if let Some(directory) = known.filter(|known| known.is_in(self)) {
            match directory.reach(|| Ok(self.0.descriptors.keep())) {
                Ok(_open) => {
                    // Whatever has the name by now is looked at. If that is the directory that is open,
                    // it need not be opened again: its number is not given to another as long as it is
                    // held.
                    let attributes = self.with_fd(|directory| look_at(directory, name))?;
                    if directory.0.is(&attributes) {
                        return Ok((Handle::clone(&directory), for_the_wire(attributes.stat)));
                    }
                }
                // It has been waited for.
                Err(Errno::EBUSY) => return Err(Errno::EBUSY),
                Err(_) => {}
            }
        }
        self.walk_open(name)
    }

    /// The share for opening a file at once that is walked to, if it will have to be opened by
    /// experience and can be.
    fn share_ahead(&self) -> Option<Share> {
        let ahead = &self.0.ahead;
        // Several threads may count as one: it is no more than experience.
        let left = ahead.load(Ordering::Relaxed).checked_sub(1)?;
        ahead.store(left, Ordering::Relaxed);
        self.0.descriptors.spare()
    }

    /// As [`walk`](Self::walk), and the handle is open.
    ///
    /// # Errors
    /// As `walk`.
    pub(super) fn walk_open(&self, name: Name<'_>) -> Result<(Handle, Statx), Errno> {
        let descriptors = &self.0.descriptors;
        let share = descriptors.keep().map_or_else(|| descriptors.take(), Ok)?;
        self.walk_open_with(share, name)
    }

    fn walk_open_with(&self, share: Share, name: Name<'_>) -> Result<(Handle, Statx), Errno> {
        let fd = self.with_fd(|directory| open_path(directory, name, OFlag::empty()))?;
        self.child(name, fd, share)
    }

    /// Whether the file is found in `directory`, or need not be found: it is open for good.
    fn is_in(&self, directory: &Handle) -> bool {
        let place = self.0.place.read();
        place
            .as_ref()
            .is_none_or(|place| place.directory().is_same(directory))
    }

    /// Whether both are certainly of one file.
    fn is_same(&self, other: &Handle) -> bool {
        let identity = self.0.identity;
        Arc::ptr_eq(&self.0, &other.0) || (identity.is_some() && identity == other.0.identity)
    }

    /// The handle of the regular file behind `file`, which has just been created as `name` in this
    /// directory, and for whose descriptor `share` was taken. `identify` is told which file that is,
    /// before anything can fail for another reason; `reopen` opens the file once more, with O_PATH.
    ///
    /// # Errors
    /// As statx(2) and `reopen`; as [`child`](Self::child).
    pub(super) fn created(
        &self,
        name: Name<'_>,
        file: BorrowedFd<'_>,
        share: Share,
        identify: impl FnOnce(&Statx),
        reopen: impl FnOnce() -> Result<OwnedFd, Errno>,
    ) -> Result<(Handle, Statx), Errno> {
        let attributes = look(file)?;
        identify(&attributes.stat);
        let filesystem = self.0.filesystem.of_child(file, &attributes.stat)?;
        let (opened, place) = ((reopen()?, share), Some(Place::new(self, name)));
        let child = Handle::open(opened, &attributes, filesystem, &self.0.descriptors, place)?;
        Ok((child, for_the_wire(attributes.stat)))
    }

    /// The handle of `name` in this directory, which has just been made a name of the file behind `fd`.
    /// `identify` is told which file that is, before anything can fail for another reason.
    ///
    /// # Errors
    /// As statx(2); EMFILE.
    pub(super) fn linked(
        &self,
        name: Name<'_>,
        fd: BorrowedFd<'_>,
        identify: impl FnOnce(&Statx),
    ) -> Result<(Handle, Statx), Errno> {
        // Both names are of one file, so nothing needs to be looked up that could have been replaced.
        let tick = Tick::now();
        let attributes = look(fd)?;
        let stat = for_the_wire(attributes.stat);
        identify(&stat);
        if let Some(handle) = self.named(name, &attributes, tick)? {
            return Ok((handle, stat));
        }
        let share = self.reserve()?;
        self.child(name, fd.try_clone_to_owned()?, share)
    }

    /// Whether it has no descriptor.
    #[cfg(test)]
    pub(super) fn is_named(&self) -> bool {
        self.0.opened.read().is_none()
    }

    /// Closes the descriptor as if there were no room for it, and returns whether it was.
    #[cfg(test)]
    pub(super) fn give_up(&self) -> bool {
        matches!(
            self.0.close(Tick::now(), Of::Placed),
            descriptors::Closing::Done(_)
        )
    }

    /// Takes a share of the connection's descriptors for something that will be open as long as the
    /// client likes.
    ///
    /// # Errors
    /// EMFILE.
    pub(super) fn reserve(&self) -> Result<Share, Errno> {
        self.0.descriptors.take()
    }

    /// The type of the file, which never changes.
    pub(super) fn file_type(&self) -> FileType {
        self.0.file_type
    }

    /// What need not be asked of the kernel again.
    pub(super) fn lasting(&self) -> Option<Lasting> {
        self.0.lasting()
    }

    /// Whether the file lies in a file system below the root whose files are the kernel's own, such
    /// as procfs and sysfs. They are shown but not opened: `self/mem` is the memory of this process,
    /// and a regular file.
    pub(super) fn in_kernel_fs(&self) -> bool {
        self.0.filesystem.is_kernels
    }

    /// Asked before the file, or a name in this directory, is changed: a directory that is made can
    /// be a cgroup, and a mode that is given away a door.
    ///
    /// # Errors
    /// EPERM for what is the [kernel's own](Self::in_kernel_fs).
    pub(super) fn may_change(&self) -> Result<(), Errno> {
        if self.in_kernel_fs() {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

impl File {
    /// Whether it may ever be looked for by its name.
    fn needs_place(&self) -> bool {
        !self.has_left() || self.opened.read().is_none()
    }

    /// Whether it has no place any more.
    fn has_left(&self) -> bool {
        matches!(self.stays.load(Ordering::Relaxed), PINNED | ADRIFT)
    }

    /// Whether it is neither open nor found. Waits for nobody, since who asks may have the ring: it is not
    /// lost while somebody opens it, who wants the ring then.
    fn is_lost(&self) -> bool {
        self.has_left()
            && self
                .opened
                .try_read()
                .is_some_and(|opened| opened.is_none())
    }

    fn lasting(&self) -> Option<Lasting> {
        let identity = self.identity.as_ref()?;
        Some(Lasting::new(identity, self.filesystem))
    }

    /// Whether it is the file with these attributes.
    fn is(&self, found: &Attributes) -> bool {
        self.identity.is_some() && self.identity == Identity::of(found)
    }
}

impl Drop for File {
    /// A chain of directories, each named in the one before, is as long as a client likes: it is
    /// released in a loop.
    fn drop(&mut self) {
        let mut next = self.place.get_mut().take();
        while let Some(place) = next {
            let parent = Arc::into_inner(place.into_parent().0);
            next = parent.and_then(|mut parent| parent.place.get_mut().take());
        }
    }
}

/// The type of a file, if files of the type are served.
///
/// # Errors
/// EPERM if they are not.
pub(super) fn served(stat: &Statx) -> Result<FileType, Errno> {
    match stat.file_type() {
        FileType::BlockDevice | FileType::Unknown => Err(Errno::EPERM),
        served => Ok(served),
    }
}

/// Opens `name` in `directory` with O_PATH, without following it.
pub(super) fn open_path(
    directory: BorrowedFd<'_>,
    name: Name<'_>,
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory, name.as_bytes(), flags, Mode::empty())?)
}
