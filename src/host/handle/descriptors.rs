//! The descriptors of a connection: how many it may have, and which can do without for a while.
//!
//! Handles that can be opened again stand in a ring. When one more descriptor is wanted and there is no
//! room, the ring is turned until it comes to a file that has not been used since it was passed the
//! last time, and that one's descriptor is closed. A use sets a flag in the file, and neither takes a
//! lock of the ring nor moves anything in it.
//!
//! A file stands in the ring while it is open and a node of the server's tree knows it
//! ([`NodeFiles`](super::place::NodeFiles)): the place of any other does not follow renames, so it
//! might not be found again. It can be closed once it is older than a tick of the clock, so that its
//! identity is that of no file that is made afterwards, and while nobody uses its descriptor.
//!
//! What others have had opened and cannot be found again, since they have moved or removed it, is open for
//! good as far as it takes [half](Descriptors::of_others) of what the connection is sure to have. Beyond
//! that it stands in the ring too, and is closed, and lost, when nothing else can be.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{File, Opened};
use crate::Errno;
use crate::host::identity::Tick;
use crate::server::{Quota, Share};

/// How many files are asked for their descriptor before opening one for a single operation is cheaper.
const ASKED: usize = 64;

/// What the files of one connection may have open.
#[derive(Debug)]
pub(in crate::host) struct Descriptors {
    quota: Arc<Quota>,
    /// What others have open here for good.
    of_others: Arc<Quota>,
    /// Those that may be open and closed again, least recently passed first.
    ring: Mutex<VecDeque<Weak<File>>>,
    /// The directory that was opened last since others have moved files of this connection into it.
    moved_into: Mutex<Weak<File>>,
}

/// What may be closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// What can be found again.
    Placed,
    /// What is lost by that as well.
    Any,
}

/// What becomes of a file that was asked for its descriptor.
pub(super) enum Closing {
    Done(Opened),
    NotNow,
    /// It is closed already, or has to stay open.
    Never,
}

impl Descriptors {
    pub(in crate::host) fn new(quota: Arc<Quota>) -> Arc<Descriptors> {
        Arc::new(Descriptors {
            of_others: Quota::new(quota.sure() / 2),
            quota,
            ring: Mutex::default(),
            moved_into: Mutex::default(),
        })
    }

    /// Remembers the directory until the next one: as a rule more files are moved there.
    pub(super) fn moved_into(&self, directory: &Arc<File>) {
        *self.moved_into.lock() = Arc::downgrade(directory);
    }

    pub(super) fn last_moved_into(&self) -> Option<Arc<File>> {
        self.moved_into.lock().upgrade()
    }

    /// Takes one, for what is going to be open as long as the client likes.
    ///
    /// # Errors
    /// EMFILE when all are taken and none of them can be closed.
    pub(super) fn take(&self) -> Result<Share, Errno> {
        let close_one = || {
            [Of::Placed, Of::Any]
                .into_iter()
                .any(|of| self.close_one(usize::MAX, of))
        };
        loop {
            match self.quota.take() {
                Err(Errno::EMFILE) if close_one() => {}
                taken => return taken,
            }
        }
    }

    /// Counts something that others have open here for good, if they have less than half of what the
    /// connection is sure to have.
    pub(super) fn of_others(&self) -> Option<Share> {
        self.of_others.take().ok()
    }

    /// Takes one for a file that can be closed again: half of all may be kept by such files as they
    /// like, and beyond that one is closed for another.
    pub(super) fn keep(&self) -> Option<Share> {
        let replaced = || {
            self.close_one(ASKED, Of::Placed)
                .then(|| self.quota.take().ok())
                .flatten()
        };
        self.spare().or_else(replaced)
    }

    /// Takes one for something that need not be opened, unless half of all are taken.
    pub(super) fn spare(&self) -> Option<Share> {
        self.quota.spare()
    }

    /// Puts a file that has been opened, and can be closed, at the end of the ring.
    pub(super) fn list(&self, file: &Arc<File>) {
        let mut ring = self.ring.lock();
        if ring.len() == ring.capacity() {
            ring.retain(|file| file.strong_count() > 0);
            // Room for as many again, so that this is not done for each.
            let len = ring.len();
            ring.reserve(len + 1);
        }
        ring.push_back(Arc::downgrade(file));
    }

    /// How many stand in the ring, and how many did that are gone by now.
    #[cfg(test)]
    pub(super) fn listed(&self) -> usize {
        self.ring.lock().len()
    }

    /// Closes the descriptor of a file that has not been used for some time and is one `of` those, if one
    /// of the next `most` is such a file.
    fn close_one(&self, most: usize, of: Of) -> bool {
        let tick = Tick::now();
        // Dropped behind the lock: who is the last to have a file closes it, and may wait for the host to
        // free what was in it.
        let mut passed: SmallVec<[Arc<File>; ASKED]> = SmallVec::new();
        let mut ring = self.ring.lock();
        // Each of them may have been used once since it was passed.
        for _ in 0..most.min(2 * ring.len()) {
            let Some(next) = ring.pop_front() else { break };
            let Some(file) = next.upgrade() else { continue };
            passed.push(Arc::clone(&file));
            if file.is_used.swap(false, Ordering::Relaxed) {
                ring.push_back(next);
                continue;
            }
            match file.close(tick, of) {
                Closing::Done(opened) => {
                    drop(ring);
                    drop(opened);
                    return true;
                }
                Closing::NotNow => ring.push_back(next),
                Closing::Never => {}
            }
        }
        false
    }
}
