//! From a handle to a descriptor.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{MappedRwLockReadGuard, RwLockReadGuard};
use smallvec::SmallVec;

use super::descriptors::{Closing, Of};
use super::look::{for_the_wire, stat_again};
use super::place::Place;
use super::{ADRIFT, FREE, File, Handle, LEAVING, Opened, PINNED};
use crate::Errno;
use crate::host::identity::Tick;
use crate::server::Share;
use crate::server::guarantee::LOCK_DEADLINE;
use crate::wire::Statx;

/// After how many looks at a file by its name it is opened: a look at an open file is so much cheaper
/// that the next few make up for the opening.
const OFTEN: u8 = 4;

/// How long an operation may go on waiting for renames, as in the server. The time begins with the
/// first one that is in the way and does not begin again with the next.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    at: Option<Instant>,
}

impl Deadline {
    fn get(&mut self) -> Instant {
        *self
            .at
            .get_or_insert_with(|| Instant::now() + LOCK_DEADLINE)
    }
}

/// Longer than a look at a file takes.
const MOMENT: Duration = Duration::from_millis(5);

/// A descriptor of a file: the handle's own, which stays open meanwhile, or one for this time.
pub(in crate::host) enum Reached<'h> {
    Kept(MappedRwLockReadGuard<'h, Opened>),
    Once(OwnedFd),
}

impl AsFd for Reached<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Reached::Kept(opened) => opened.fd.as_fd(),
            Reached::Once(fd) => fd.as_fd(),
        }
    }
}

impl Handle {
    /// Runs `operation` with the descriptor: the one way in which the back end reaches a file. A
    /// handle need not have its descriptor open all the time, so there is no other accessor.
    ///
    /// # Errors
    /// Those of `operation`; ESTALE if the file is no longer where it was walked to; EBUSY if a rename of
    /// the file, or of what leads to it, hangs in the host.
    pub(in crate::host) fn with_fd<R>(
        &self,
        operation: impl FnOnce(BorrowedFd<'_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let reached = self.reach(|| Ok(self.0.descriptors.keep()))?;
        operation(reached.as_fd())
    }

    /// Opens the file for as long as there is a handle of it: nobody will say when its name changes.
    ///
    /// # Errors
    /// As [`reach`](Self::reach); EMFILE.
    pub(in crate::host) fn hold(&self) -> Result<(), Errno> {
        self.stay()?;
        self.pin();
        Ok(())
    }

    /// Opens the file until its name has [gone](Self::pin) or is known to [remain](Self::remain).
    ///
    /// # Errors
    /// As [`hold`](Self::hold).
    fn stay(&self) -> Result<(), Errno> {
        self.stay_with(|| self.reserve(), &mut Deadline::default())
    }

    /// As [`stay`](Self::stay), by `deadline`, with the share that `room` yields if it is not open.
    ///
    /// # Errors
    /// As [`reach`](Self::reach); those of `room`.
    pub(super) fn stay_with(
        &self,
        room: impl Fn() -> Result<Share, Errno>,
        deadline: &mut Deadline,
    ) -> Result<(), Errno> {
        self.change_stay(FREE, LEAVING);
        // From here on it is not closed: who closes it looks at that with the lock that is taken next.
        while let Reached::Once(_) = self.reach_by(deadline, || room().map(Some))? {}
        Ok(())
    }

    /// If the file is open, keeps it so until its name has [gone](Self::pin) or is known to
    /// [remain](Self::remain).
    pub(super) fn stay_if_open(&self) {
        self.change_stay(FREE, LEAVING);
        // Who is closing it already has done so when the lock is there.
        drop(self.0.opened());
    }

    /// The name has gone, or is as good as gone: what is open stays open for good, and what is not is
    /// lost. Where somebody is stuck in looking for it, it keeps its place, and may still be found there.
    pub(super) fn pin(&self) {
        self.0.stays.store(PINNED, Ordering::Relaxed);
        self.leave();
    }

    /// The name has gone, or leads out of what the connection can reach, by the doing of others: what is
    /// open stays so as long as they do not take more than half of what is set aside for it, and
    /// beyond that until a descriptor is wanted and no file can be closed that is found again.
    pub(super) fn strand(&self) {
        let file = &self.0;
        let is_open = file.opened().is_some();
        let counted = is_open.then(|| file.descriptors.of_others()).flatten();
        let mut stays = ADRIFT;
        if let Some(share) = counted {
            // It happens once: what has no place any more is not moved, nor known by a name.
            let _ = file.of_others.set(share);
            stays = PINNED;
        }
        file.stays.store(stays, Ordering::Relaxed);
    }

    /// Gives up the place.
    pub(super) fn leave(&self) {
        // So that the directory is not kept for nothing, and with it all those above. Who looks there has
        // the lock for a moment, unless it hangs in the host.
        let place = self.0.place.try_write_for(MOMENT);
        let left = place.and_then(|mut place| place.take());
        drop(left);
    }

    /// The name has not gone.
    pub(super) fn remain(&self) {
        self.change_stay(LEAVING, FREE);
    }

    fn change_stay(&self, from: u8, to: u8) {
        // Otherwise it is pinned, and remains so.
        let _ = self
            .0
            .stays
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A descriptor of the file, which is kept if `share` yields one.
    ///
    /// # Errors
    /// ESTALE if the file is no longer where it was walked to; EBUSY if a rename of the file, or of what
    /// leads to it, hangs in the host; as open(2); those of `share`.
    pub(in crate::host) fn reach(
        &self,
        share: impl FnOnce() -> Result<Option<Share>, Errno>,
    ) -> Result<Reached<'_>, Errno> {
        self.reach_by(&mut Deadline::default(), share)
    }

    fn reach_by(
        &self,
        deadline: &mut Deadline,
        share: impl FnOnce() -> Result<Option<Share>, Errno>,
    ) -> Result<Reached<'_>, Errno> {
        if let Some(opened) = self.0.used() {
            return Ok(Reached::Kept(opened));
        }
        let mut share = share()?;
        loop {
            if let Some(reached) = self.open_again(&mut share, deadline)? {
                return Ok(reached);
            }
        }
    }

    /// Opens the file by its name, and on the way to it the directories that are closed; `None` if
    /// something on the way has changed meanwhile.
    ///
    /// In a loop: how many they are is for clients to choose.
    fn open_again(
        &self,
        share: &mut Option<Share>,
        deadline: &mut Deadline,
    ) -> Result<Option<Reached<'_>>, Errno> {
        // From the directory of the file up to the first that is open.
        let mut above: SmallVec<[Handle; 2]> = SmallVec::new();
        loop {
            let lowest = above.last().unwrap_or(self);
            if lowest.0.opened().is_some() {
                break;
            }
            let Some(directory) = lowest.directory_by(deadline)? else {
                // It has no place since it is open by now, or since it is lost.
                if lowest.0.opened().is_none() {
                    return Err(Errno::ESTALE);
                }
                break;
            };
            above.push(directory);
        }
        let mut above = above.iter().rev();
        let Some(mut directory) = above.next() else {
            return Ok(self.0.opened().map(Reached::Kept));
        };
        let Some(opened) = directory.0.opened() else {
            return Ok(None);
        };
        let mut reached = Reached::Kept(opened);
        for below in above {
            let mut share = below.0.descriptors.keep();
            let Some(opened) = below.open_in(directory, reached.as_fd(), &mut share, deadline)?
            else {
                return Ok(None);
            };
            (directory, reached) = (below, opened);
        }
        self.open_in(directory, reached.as_fd(), share, deadline)
    }

    /// # Errors
    /// As [`place`](File::place).
    fn directory_by(&self, deadline: &mut Deadline) -> Result<Option<Handle>, Errno> {
        let place = self.0.place(deadline)?;
        Ok(place.as_ref().map(|place| place.directory().clone()))
    }

    /// Opens the file in `directory`, whose descriptor is `fd`; `None` if it is in another one by now.
    fn open_in(
        &self,
        directory: &Handle,
        fd: BorrowedFd<'_>,
        share: &mut Option<Share>,
        deadline: &mut Deadline,
    ) -> Result<Option<Reached<'_>>, Errno> {
        let file = &self.0;
        let place = file.place(deadline)?;
        let Some(place) = &*place else {
            return Ok(file.opened().map(Reached::Kept));
        };
        if !Arc::ptr_eq(&place.directory().0, &directory.0) {
            return Ok(None);
        }
        let fd = match place.open(file, fd) {
            Ok(fd) => fd,
            // Whoever removes the name through the server has opened the file before.
            Err(errno) => {
                let opened = file.opened().map(Reached::Kept);
                return opened.map(Some).ok_or(errno);
            }
        };
        let Some(share) = share.take() else {
            return Ok(Some(Reached::Once(fd)));
        };
        let opened = Opened { fd, _share: share };
        Ok(self.keep(opened).map(Reached::Kept))
    }

    /// Keeps the descriptor, unless another thread was first, with one of the same file; `None` if
    /// that has been closed again.
    pub(super) fn keep(&self, opened: Opened) -> Option<MappedRwLockReadGuard<'_, Opened>> {
        let file = &self.0;
        let mut opened = Some(opened);
        loop {
            if let Some(kept) = file.opened() {
                return Some(kept);
            }
            // Not waited for: that is whoever looks whether the file is open, or has opened it now
            // and uses it, which may take long and want a file that this thread has in use.
            let Some(mut slot) = file.opened.try_write() else {
                thread::yield_now();
                continue;
            };
            let opened = opened.take()?;
            if slot.is_none() {
                *slot = Some(opened);
                if file.is_listed.load(Ordering::Relaxed) {
                    file.descriptors.list(file);
                }
            }
        }
    }

    /// The attributes of the file.
    ///
    /// # Errors
    /// As statx(2) and [`reach`](Self::reach).
    pub(in crate::host) fn stat(&self) -> Result<Statx, Errno> {
        let file = &self.0;
        if let Some(opened) = file.used() {
            return stat_again(opened.fd.as_fd(), file.lasting());
        }
        if file.looks.load(Ordering::Relaxed) >= OFTEN {
            if let Some(share) = file.descriptors.spare() {
                match self.reach(|| Ok(Some(share))) {
                    Ok(reached) => return stat_again(reached.as_fd(), file.lasting()),
                    // It has been waited for.
                    Err(Errno::EBUSY) => return Err(Errno::EBUSY),
                    Err(_) => {}
                }
            }
        } else {
            file.looks.fetch_add(1, Ordering::Relaxed);
        }
        let place = file.place(&mut Deadline::default())?;
        if let Some(place) = &*place {
            let looked = place.look(file).map(for_the_wire);
            let Err(errno) = looked else { return looked };
            // As for opening it: what was looked for may have been opened and removed meanwhile.
            let opened = file.used().ok_or(errno)?;
            return stat_again(opened.fd.as_fd(), file.lasting());
        }
        drop(place);
        self.with_fd(|fd| stat_again(fd, file.lasting()))
    }
}

impl File {
    /// Where it is found, which stays so meanwhile.
    ///
    /// # Errors
    /// EBUSY if a rename of the file hangs in the host.
    fn place(&self, deadline: &mut Deadline) -> Result<RwLockReadGuard<'_, Option<Place>>, Errno> {
        let place = self.place.try_read();
        let in_time = || self.place.try_read_until(deadline.get());
        place.or_else(in_time).ok_or(Errno::EBUSY)
    }

    /// The descriptor, if it is open. It stays open as long as it is in use.
    fn opened(&self) -> Option<MappedRwLockReadGuard<'_, Opened>> {
        // Recursive: a rename within a directory has that in use twice.
        RwLockReadGuard::try_map(self.opened.read_recursive(), Option::as_ref).ok()
    }

    /// As [`opened`](Self::opened), for something that keeps it from being closed for some time.
    fn used(&self) -> Option<MappedRwLockReadGuard<'_, Opened>> {
        let opened = self.opened()?;
        // Written once only, since many may use it at a time.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        Some(opened)
    }

    /// Whether the directory in which it would be found is lost: others have moved it there, and the
    /// directory was opened for that.
    fn is_stranded(&self) -> bool {
        let place = self.place.try_read();
        let place = place.as_ref().and_then(|place| place.as_ref());
        place.is_some_and(|place| place.directory().0.is_lost())
    }

    /// Takes the descriptor away, if the file is one `of` those that can be closed.
    pub(super) fn close(&self, tick: Tick, of: Of) -> Closing {
        let Some(mut slot) = self.opened.try_write() else {
            return Closing::NotNow;
        };
        match (self.stays.load(Ordering::Relaxed), self.identity) {
            (ADRIFT, _) if of == Of::Any => {}
            (ADRIFT, _) => return Closing::NotNow,
            (PINNED, _) | (_, None) => return Closing::Never,
            (FREE, Some(identity)) if identity.outlasts(tick) => {
                if of == Of::Placed && self.is_stranded() {
                    return Closing::NotNow;
                }
            }
            _ => return Closing::NotNow,
        }
        self.looks.store(0, Ordering::Relaxed);
        slot.take().map_or(Closing::Never, Closing::Done)
    }
}
