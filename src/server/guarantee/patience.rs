//! The wait for a lock that somebody may never give back.
//!
//! Who waits for a node's operation lock exclusively keeps new readers out. So it is waited for in
//! *windows*, as by the `RenameLock`, and after one in vain nobody begins another on that node for three
//! times as long: readers that are slow are outwaited, and one that is stuck costs the others a bounded
//! part of their time, however many wait for it. In between it is only looked whether the lock is free.
//! Nothing is held then, the rename lock neither.
//!
//! Who finds nothing in the way but the first node, and that others get through with it, is in a queue
//! that moves, and has its time again.

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

    fn left(&self) -> Duration {
        Duration::from_millis(
            self.until
                .load(Ordering::Relaxed)
                .saturating_sub(Contention::now()),
        )
    }

    /// Has it last for so long, unless it lasts longer already.
    fn begin(&self, rest: Duration) {
        let millis = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        let until = Contention::now().saturating_add(millis.max(1));
        self.until.fetch_max(until, Ordering::Relaxed);
    }
}

/// Somebody's wait for one lock.
pub(super) struct Patience {
    deadline: Instant,
    /// How many were done with the first node when this time began; `None` if something else was in the
    /// way since.
    done: Option<u32>,
    window: Duration,
    /// When the last window began; `None` if that was a look, which keeps nobody out.
    since: Option<Instant>,
}

impl Patience {
    pub(super) fn begin<S: ServerImpl>(first: &Node<S>) -> Patience {
        Patience {
            deadline: Instant::now() + LOCK_DEADLINE,
            done: Some(first.contention().done()),
            window: FIRST_WINDOW,
            since: None,
        }
    }

    /// The end of the first window, which is a look.
    pub(super) fn first(&self) -> Instant {
        self.deadline - LOCK_DEADLINE
    }

    /// The last window was in vain, since somebody has the lock of the node that is `in_the_way`, which
    /// is the first or not; that of the `other` is wanted as well. Returns the end of the next window,
    /// when it is time for that, or for another look.
    ///
    /// # Errors
    /// EBUSY at the deadline, unless this is a queue that moves.
    pub(super) fn next<S: ServerImpl>(
        &mut self,
        stable: &mut Stable<'_>,
        (in_the_way, is_first): (&Node<S>, bool),
        other: Option<&Node<S>>,
    ) -> Result<Instant, Errno> {
        let done = in_the_way.contention().done();
        self.done = self.done.filter(|_| is_first);
        if let Some(since) = self.since.take() {
            in_the_way.contention().begin(3 * since.elapsed());
            self.window = LONGEST_WINDOW.min(2 * self.window);
        }
        loop {
            let now = Instant::now();
            let left = self.deadline.saturating_duration_since(now);
            if left.is_zero() {
                if self.done.is_none_or(|before| before == done) {
                    return Err(Errno::EBUSY);
                }
                (self.deadline, self.done) = (now + LOCK_DEADLINE, Some(done));
                continue;
            }
            let rest = other.map_or(Duration::ZERO, |other| other.contention().left());
            let rest = in_the_way.contention().left().max(rest).min(left);
            if rest.is_zero() {
                self.since = Some(now);
                return Ok(now + self.window);
            }
            stable.give_way(rest.min(BETWEEN_LOOKS));
            if !in_the_way.operation_lock().is_locked() {
                return Ok(now);
            }
        }
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
