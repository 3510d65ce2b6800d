//! The wait for a lock that somebody may never give back.
//!
//! Who waits for a node's operation lock exclusively keeps new readers out. So it is waited for in
//! *windows*, as by the `RenameLock`, and after one in vain nobody begins another on that node for three
//! times as long: readers that are slow are outwaited, and one that is stuck costs the others a bounded
//! part of their time, however many wait for it. In between it is only looked whether the lock is free.
//! Nothing is held then, the rename lock neither.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::locks::{LOCK_DEADLINE, Stable};
use crate::Errno;
use crate::server::backend::ServerImpl;
use crate::server::rename_lock::{FIRST_WINDOW, LONGEST_WINDOW};
use crate::server::tree::Node;

/// Between two looks at a lock that nobody is to wait for now.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// What times are told from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Until when nobody is to wait for a lock exclusively, in milliseconds.
#[derive(Debug, Default)]
pub(in crate::server) struct Rest {
    until: AtomicU64,
}

impl Rest {
    fn now() -> u64 {
        // Half a billion years.
        u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn left(&self) -> Duration {
        Duration::from_millis(
            self.until
                .load(Ordering::Relaxed)
                .saturating_sub(Rest::now()),
        )
    }

    /// Has it last for so long, unless it lasts longer already.
    fn begin(&self, rest: Duration) {
        let millis = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        let until = Rest::now().saturating_add(millis.max(1));
        self.until.fetch_max(until, Ordering::Relaxed);
    }
}

/// Somebody's wait for one lock.
pub(super) struct Patience {
    deadline: Instant,
    window: Duration,
    /// When the last window began; `None` if that was a look, which keeps nobody out.
    since: Option<Instant>,
}

impl Patience {
    pub(super) fn begin() -> Patience {
        Patience {
            deadline: Instant::now() + LOCK_DEADLINE,
            window: FIRST_WINDOW,
            since: None,
        }
    }

    /// The end of the first window, which is a look.
    pub(super) fn first(&self) -> Instant {
        self.deadline - LOCK_DEADLINE
    }

    /// The last window was in vain, since somebody has the lock of the node that is `in_the_way`; that of
    /// the `other` is wanted as well. Returns the end of the next one, when it is time for that, or for
    /// another look.
    ///
    /// # Errors
    /// EBUSY at the deadline.
    pub(super) fn next<S: ServerImpl>(
        &mut self,
        stable: &mut Stable<'_>,
        in_the_way: &Node<S>,
        other: Option<&Node<S>>,
    ) -> Result<Instant, Errno> {
        if let Some(since) = self.since.take() {
            in_the_way.rest().begin(3 * since.elapsed());
            self.window = LONGEST_WINDOW.min(2 * self.window);
        }
        loop {
            let now = Instant::now();
            let left = self.deadline.saturating_duration_since(now);
            if left.is_zero() {
                return Err(Errno::EBUSY);
            }
            let rest = other.map_or(Duration::ZERO, |other| other.rest().left());
            let rest = in_the_way.rest().left().max(rest).min(left);
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
        let rest = Rest::default();
        rest.begin(Duration::from_secs(5));
        let left = rest.left();
        assert!(left > Duration::from_secs(4), "{left:?}");
        rest.begin(Duration::from_millis(1));
        assert!(rest.left() > Duration::from_secs(3));
    }
}
