//! The wait for a lock that somebody may never give back.
//!
//! Who waits for a node's operation lock exclusively keeps new readers out. So it is waited for in
//! *windows*, as by the `RenameLock`, and after one in vain nobody begins another on that node for three
//! times as long: readers that are slow are outwaited, and one that is stuck costs the others a bounded
//! part of their time, however many wait for it. In between it is only looked whether the lock is free.
//! Nothing is held then, the rename lock neither.
//!
//! Who sees that others get through with the first node is in a queue that moves, and has its time again.
//! What else is wanted has what is left of the time when it is first in the way, and no more: nobody knows
//! whether something moves there. Readers come to it at any time, so it is no reason to give up before a
//! window was in vain.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::LOCK_DEADLINE;
use super::locks::Stable;
use crate::Errno;
use crate::server::backend::ServerImpl;
use crate::server::rename_lock::{FIRST_WINDOW, LONGEST_WINDOW};
use crate::server::tree::Node;

/// Between two looks at a lock that nobody is to wait for now.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What times are told from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How the waits for a lock go.
#[derive(Debug, Default)]
pub(in crate::server) struct Contention {
    /// Until when nobody is to wait for it exclusively, in milliseconds.
    until: AtomicU64,
    /// How many have had it exclusively, and have done what they wanted.
    done: AtomicU32,
}

impl Contention {
    fn now() -> u64 {
        // Half a billion years.
        u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// To be called by who has the lock exclusively.
    pub(super) fn count(&self) {
        let done = self.done.load(Ordering::Relaxed).wrapping_add(1);
        self.done.store(done, Ordering::Relaxed);
    }

    fn done(&self) -> u32 {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) fn left(&self) -> Duration {
        Duration::from_millis(
            self.until
                .load(Ordering::Relaxed)
                .saturating_sub(Contention::now()),
        )
    }

    /// Has it last for so long, unless it lasts longer already.
    pub(super) fn begin(&self, rest: Duration) {
        let millis = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        let until = Contention::now().saturating_add(millis.max(1));
        self.until.fetch_max(until, Ordering::Relaxed);
    }
}

/// Somebody's wait for the locks of one node or two.
pub(super) struct Patience {
    deadline: Instant,
    /// How many were done with the first node when this time began.
    done: u32,
    /// The deadline of what else is wanted; `None` if it was not in the way yet.
    others: Option<Instant>,
    window: Duration,
    /// When this window began; `None` if it is a look, which keeps nobody out.
    since: Option<Instant>,
}

impl Patience {
    /// Begins with a look.
    pub(super) fn begin<S: ServerImpl>(first: &Node<S>) -> Patience {
        Patience {
            deadline: Instant::now() + LOCK_DEADLINE,
            done: first.contention().done(),
            others: None,
            window: FIRST_WINDOW,
            since: None,
        }
    }

    /// Until when a lock is waited for from now on: a window for each, or not at all.
    pub(super) fn end(&self) -> Instant {
        match self.since {
            Some(_) => Instant::now() + self.window,
            None => self.deadline - LOCK_DEADLINE,
        }
    }

    /// The last attempt was in vain, since somebody has the lock of the node that is `in_the_way`, which
    /// is the first or not; that of the `other` is wanted as well. Returns when it is time for the next
    /// window, or for another look.
    ///
    /// # Errors
    /// EBUSY at the deadline, when the last attempt was a window.
    pub(super) fn next<S: ServerImpl>(
        &mut self,
        stable: &mut Stable<'_>,
        (in_the_way, is_first): (&Node<S>, bool),
        other: Option<&Node<S>>,
    ) -> Result<(), Errno> {
        let in_vain = self.since.take();
        if let Some(since) = in_vain {
            // There may have been a window for each of two. More is a process that was stopped.
            let kept = since.elapsed().min(2 * self.window);
            in_the_way.contention().begin(3 * kept);
            self.window = LONGEST_WINDOW.min(2 * self.window);
        }
        loop {
            let now = Instant::now();
            let deadline = if is_first {
                self.renewed(in_the_way, now)
            } else {
                self.others()
            };
            if in_vain.is_some() && deadline <= now {
                return Err(Errno::EBUSY);
            }
            let rest = other.map_or(Duration::ZERO, |other| other.contention().left());
            let rest = in_the_way.contention().left().max(rest);
            if rest.is_zero() {
                self.since = Some(now);
                return Ok(());
            }
            stable.give_way(rest.min(BETWEEN_LOOKS));
            if !in_the_way.operation_lock().is_locked() {
                return Ok(());
            }
        }
    }

    /// The deadline, which is another if somebody was done with the `first` node.
    fn renewed<S: ServerImpl>(&mut self, first: &Node<S>, now: Instant) -> Instant {
        let done = first.contention().done();
        if self.done != done {
            (self.deadline, self.done) = (now + LOCK_DEADLINE, done);
        }
        self.deadline
    }

    /// The deadline of what else is wanted, which is in the way.
    fn others(&mut self) -> Instant {
        *self.others.get_or_insert(self.deadline)
    }

    /// The same, for who has had the first and waits for the other with nothing held: behind that, this
    /// attempt counts as a look.
    pub(super) fn aside(&mut self) -> Instant {
        self.since = None;
        self.others()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_ends_and_is_not_cut_short() {
        let rest = Contention::default();
        rest.begin(Duration::from_secs(5));
        let left = rest.left();
        assert!(left > Duration::from_secs(4), "{left:?}");
        rest.begin(Duration::from_millis(1));
        assert!(rest.left() > Duration::from_secs(3));
    }
}
