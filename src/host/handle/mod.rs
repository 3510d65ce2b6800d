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
//! A file keeps its descriptor from then on if there is [room](Quota::spare), and is opened as well
//! when it is looked at again and again; a directory always keeps it, so that the directory of a
//! named handle is open. Handles are named only where an identity is good for telling files apart
//! ([`FileSystem::remembers`], [`Identity::outlasts`]); all others are opened at once. So are the
//! next files of a directory in which one had to be opened after all, as long as there is room.
#![forbid(unsafe_code)]

pub(super) mod place;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use nix::NixPath;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use parking_lot::RwLock;

use self::place::{NodeFiles, Place};
use super::filesystem::FileSystem;
use super::identity::{Identity, Tick};
use super::sys::{self, Attributes};
use crate::Errno;
use crate::server::{Quota, Share};
use crate::wire::{FileType, Name, Statx};

/// The attributes that the protocol carries.
const WIRE_MASK: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;

/// After how many looks at a file by its name it is opened: a look at an open file is so much cheaper
/// that the next few make up for the opening.
const OFTEN: u8 = 4;

/// How many files that are walked to in a directory are opened at once, after one that was not has
/// been opened nevertheless. Who reads, changes or removes one file of a directory does so with the
/// next; who only looks has so many opened for nothing.
const AHEAD: u8 = 16;

/// A file of any type, symlinks included. Clones are the same handle.
#[derive(Clone, Debug)]
pub(super) struct Handle(Arc<File>);

#[derive(Debug)]
struct File {
    file_type: FileType,
    filesystem: FileSystem,
    /// What it is found again by; `None` where files cannot be told apart for good.
    identity: Option<Identity>,
    /// The descriptors of the connection that walked to it.
    quota: Arc<Quota>,
    opened: OnceLock<Opened>,
    /// How often it was looked at by its name.
    looks: AtomicU8,
    /// How many more files in this directory are opened as soon as they are walked to.
    ahead: AtomicU8,
    /// Of no account once the file is opened, and never `None` before.
    ///
    /// SYNC: whoever opens the file by its name, or says that it is not there, holds this shared;
    /// whoever renames the file through the server holds it exclusively until the name in it is the
    /// new one.
    place: RwLock<Option<Place>>,
}

#[derive(Debug)]
struct Opened {
    fd: OwnedFd,
    _share: Share,
}

/// A descriptor of the file: the handle's own, or one for this time.
enum Reached<'h> {
    Kept(BorrowedFd<'h>),
    Once(OwnedFd),
}

impl Handle {
    /// The handle of the root behind `fd`, an O_PATH descriptor.
    ///
    /// # Errors
    /// As [`child`](Self::child).
    pub(super) fn root(fd: OwnedFd, quota: Arc<Quota>) -> Result<Handle, Errno> {
        let attributes = look(fd.as_fd())?;
        let filesystem = FileSystem::of_root(fd.as_fd(), &attributes.stat)?;
        let share = quota.take()?;
        Handle::open(Opened { fd, _share: share }, &attributes, filesystem, quota)
    }

    /// The handle of what `fd` holds, an O_PATH descriptor of a file in this directory, for which
    /// `share` was taken.
    ///
    /// # Errors
    /// EPERM for a block device and for a file of unknown type.
    pub(super) fn child(&self, fd: OwnedFd, share: Share) -> Result<(Handle, Statx), Errno> {
        let attributes = look(fd.as_fd())?;
        let filesystem = self.0.filesystem.of_child(fd.as_fd(), &attributes.stat)?;
        let quota = Arc::clone(&self.0.quota);
        let opened = Opened { fd, _share: share };
        let child = Handle::open(opened, &attributes, filesystem, quota)?;
        Ok((child, for_the_wire(attributes.stat)))
    }

    fn open(
        opened: Opened,
        attributes: &Attributes,
        filesystem: FileSystem,
        quota: Arc<Quota>,
    ) -> Result<Handle, Errno> {
        let identity = Identity::of(attributes).filter(|_| filesystem.remembers);
        Ok(Handle(Arc::new(File {
            file_type: served(&attributes.stat)?,
            filesystem,
            identity,
            quota,
            opened: OnceLock::from(opened),
            looks: AtomicU8::new(0),
            ahead: AtomicU8::new(0),
            place: RwLock::new(None),
        })))
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
            Handle(Arc::new(File {
                file_type,
                filesystem,
                identity: Some(identity),
                quota: Arc::clone(&self.0.quota),
                opened: OnceLock::new(),
                looks: AtomicU8::new(0),
                ahead: AtomicU8::new(0),
                place: RwLock::new(Some(Place::new(self, name))),
            }))
        }))
    }

    /// A handle of the same file with a descriptor of its own, counted in `quota`.
    ///
    /// # Errors
    /// EMFILE.
    pub(super) fn duplicate(&self, quota: &Arc<Quota>) -> Result<Handle, Errno> {
        let share = quota.take()?;
        let fd = self.with_fd(|fd| Ok(fd.try_clone_to_owned()?))?;
        let attributes = look(fd.as_fd())?;
        let opened = Opened { fd, _share: share };
        Handle::open(opened, &attributes, self.0.filesystem, Arc::clone(quota))
    }

    /// The handle of `name` in this directory, by which clients know what `known` returns. It is asked
    /// only for directories.
    ///
    /// # Errors
    /// As open(2) with O_PATH, and as [`child`](Self::child); EMFILE.
    pub(super) fn walk(
        &self,
        name: Name<'_>,
        known: impl FnOnce(&Arc<Quota>) -> Option<Handle>,
    ) -> Result<(Handle, Statx), Errno> {
        if !self.0.filesystem.remembers {
            return self.walk_open(name);
        }
        if let Some(share) = self.share_ahead() {
            return self.walk_open_with(share, name);
        }
        let tick = Tick::now();
        let attributes = self.with_fd(|directory| look_at(directory, name))?;
        let stat = for_the_wire(attributes.stat);
        let Some(handle) = self.named(name, &attributes, tick)? else {
            return self.walk_open(name);
        };
        // Only one that is open is the same wherever it is known to be.
        let open = || {
            known(&self.0.quota).filter(|known| {
                known.0.opened.get().is_some() && known.0.identity == handle.0.identity
            })
        };
        if handle.file_type() == FileType::Directory
            && let Some(open) = open()
        {
            return Ok((open, stat));
        }
        Ok((handle, stat))
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
        if let Some(directory) = known.and_then(|known| known.directory(&self.0.quota))
            && directory.hold().is_ok()
        {
            // Whatever has the name by now is looked at. If that is the directory that is open, it
            // need not be opened again: its number is not given to another as long as it is held.
            let attributes = self.with_fd(|directory| look_at(directory, name))?;
            if directory.0.is(&attributes) {
                return Ok((directory, for_the_wire(attributes.stat)));
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
        self.0.quota.spare()
    }

    /// As [`walk`](Self::walk), and the handle is open.
    ///
    /// # Errors
    /// As `walk`.
    pub(super) fn walk_open(&self, name: Name<'_>) -> Result<(Handle, Statx), Errno> {
        self.walk_open_with(self.reserve()?, name)
    }

    fn walk_open_with(&self, share: Share, name: Name<'_>) -> Result<(Handle, Statx), Errno> {
        let fd = self.with_fd(|directory| open_path(directory, name, OFlag::empty()))?;
        self.child(fd, share)
    }

    /// The handle of the regular file behind `file`, which has just been created as `name` in this
    /// directory, and for whose descriptor `share` was taken. `identify` is told which file that is,
    /// before anything can fail for another reason.
    ///
    /// Opening by the name is half as dear as opening what is open once more, which `reopen` does. What
    /// has the name by now may be something else. As long as `file` is open nothing else has its
    /// number, so whatever has that is the file.
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
        let identity = Identity::of(&attributes).filter(|_| filesystem.remembers);
        let is_it = |fd: &OwnedFd| look(fd.as_fd()).is_ok_and(|it| Identity::of(&it) == identity);
        let by_name = identity
            .and_then(|_| self.with_fd(|fd| open_path(fd, name, OFlag::empty())).ok())
            .filter(is_it);
        let fd = by_name.map_or_else(reopen, Ok)?;
        let opened = Opened { fd, _share: share };
        let quota = Arc::clone(&self.0.quota);
        let child = Handle::open(opened, &attributes, filesystem, quota)?;
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
        self.child(fd.try_clone_to_owned()?, share)
    }

    /// Runs `operation` with the descriptor: the one way in which the back end reaches a file. A
    /// handle need not have its descriptor open all the time, so there is no other accessor.
    ///
    /// # Errors
    /// Those of `operation`; ESTALE if the file is no longer where it was walked to; EMFILE.
    pub(super) fn with_fd<R>(
        &self,
        operation: impl FnOnce(BorrowedFd<'_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let share = || match self.0.file_type {
            FileType::Directory => self.reserve().map(Some),
            _ => Ok(self.0.quota.spare()),
        };
        match self.reach(share)? {
            Reached::Kept(fd) => operation(fd),
            Reached::Once(fd) => operation(fd.as_fd()),
        }
    }

    /// Opens the file for as long as there is a handle of it.
    ///
    /// # Errors
    /// ESTALE if the file is no longer where it was walked to; EMFILE.
    pub(super) fn hold(&self) -> Result<(), Errno> {
        self.reach(|| self.reserve().map(Some)).map(drop)
    }

    /// A descriptor of the file, which is kept if `share` yields one.
    fn reach(
        &self,
        share: impl FnOnce() -> Result<Option<Share>, Errno>,
    ) -> Result<Reached<'_>, Errno> {
        let file = &*self.0;
        let kept = || {
            file.opened
                .get()
                .map(|opened| Reached::Kept(opened.fd.as_fd()))
        };
        if let Some(kept) = kept() {
            return Ok(kept);
        }
        let share = share()?;
        let place = file.place.read();
        let found = place.as_ref().map(|place| place.open(file)).transpose()?;
        drop(place);
        match (found, share) {
            (Some(fd), Some(share)) => {
                // Another thread may have been first, with a descriptor of the same file.
                let opened = file.opened.get_or_init(|| Opened { fd, _share: share });
                // So that the directory is not kept open for nothing.
                let left = file.place.try_write().and_then(|mut place| place.take());
                drop(left);
                Ok(Reached::Kept(opened.fd.as_fd()))
            }
            (Some(fd), None) => Ok(Reached::Once(fd)),
            (None, _) => kept().ok_or(Errno::ESTALE),
        }
    }

    /// Whether the files of its file system can be known by their identity.
    #[cfg(test)]
    pub(super) fn remembers(&self) -> bool {
        self.0.filesystem.remembers
    }

    /// Whether it has no descriptor.
    #[cfg(test)]
    pub(super) fn is_named(&self) -> bool {
        self.0.opened.get().is_none()
    }

    /// As [`with_fd`](Self::with_fd) where there is no room to keep the descriptor.
    #[cfg(test)]
    pub(super) fn reach_once<R>(
        &self,
        operation: impl FnOnce(BorrowedFd<'_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let place = self.0.place.read();
        let fd = place.as_ref().ok_or(Errno::ESTALE)?.open(&self.0)?;
        operation(fd.as_fd())
    }

    /// Takes a share of the connection's descriptors for something that will be opened.
    ///
    /// # Errors
    /// EMFILE.
    pub(super) fn reserve(&self) -> Result<Share, Errno> {
        self.0.quota.take()
    }

    /// The type of the file, which never changes.
    pub(super) fn file_type(&self) -> FileType {
        self.0.file_type
    }

    /// Whether the file lies in a file system below the root whose files are the kernel's own, such
    /// as procfs and sysfs. They are shown but not opened: `self/mem` is the memory of this process,
    /// and a regular file.
    pub(super) fn in_kernel_fs(&self) -> bool {
        self.0.filesystem.is_kernels
    }

    /// The attributes of the file.
    ///
    /// # Errors
    /// As statx(2); ESTALE if the file is no longer where it was walked to.
    pub(super) fn stat(&self) -> Result<Statx, Errno> {
        if let Some(opened) = self.0.opened.get() {
            return stat(opened.fd.as_fd());
        }
        if self.0.looks.fetch_add(1, Ordering::Relaxed) >= OFTEN
            && let Some(share) = self.0.quota.spare()
            && let Ok(Reached::Kept(fd)) = self.reach(|| Ok(Some(share)))
        {
            return stat(fd);
        }
        match &*self.0.place.read() {
            Some(place) => place.look(&self.0).map(for_the_wire),
            None => self.with_fd(stat),
        }
    }
}

impl File {
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

/// The attributes of the file behind `fd`.
pub(super) fn stat(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    Ok(for_the_wire(look(fd)?.stat))
}

/// The attributes of `name` in `directory`, without following it.
pub(super) fn stat_name(directory: BorrowedFd<'_>, name: Name<'_>) -> Result<Statx, Errno> {
    Ok(for_the_wire(look_at(directory, name)?.stat))
}

/// As [`stat`], with the mount.
fn look(fd: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let mask = WIRE_MASK | Identity::MASK;
    Ok(sys::statx(fd, c"", libc::AT_EMPTY_PATH, mask)?)
}

/// As [`stat_name`], with the mount.
fn look_at(directory: BorrowedFd<'_>, name: Name<'_>) -> Result<Attributes, Errno> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let mask = WIRE_MASK | Identity::MASK;
    Ok(name
        .as_bytes()
        .with_nix_path(|name| sys::statx(directory, name, flags, mask))??)
}

/// Leaves out what the protocol does not carry.
fn for_the_wire(mut stat: Statx) -> Statx {
    stat.mask &= WIRE_MASK;
    stat.attributes = 0;
    stat.attributes_mask = 0;
    stat
}
