//! The wait for a lock that somebody may never give back.
//!
//! Who waits for a node's operation lock exclusively keeps new readers out. So it is waited for in
//! *windows*, as by the `RenameLock`, and after one in vain nobody begins another on that node for three
//! times as long: readers that are slow are outwaited, and one that is stuck costs the others a bounded
//! part of their time, however many wait for it. Nothing is held in between, the rename lock neither.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::locks::{LOCK_DEADLINE, Stable};
use crate::Errno;
use crate::server::rename_lock::{FIRST_WINDOW, LONGEST_WINDOW};

/// What times are told from, so that they fit into a node.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Until when nobody is to wait for a lock exclusively, in milliseconds that wrap around.
#[derive(Debug, Default)]
pub(in crate::server) struct Rest {
    until: AtomicU32,
}

impl Rest {
    /// What lies further ahead is past, and the milliseconds have wrapped around.
    const LONGEST: u32 = 10_000;

    fn now() -> u32 {
        let millis = EPOCH.elapsed().as_millis() & u128::from(u32::MAX);
        u32::try_from(millis).unwrap_or_default()
    }

    fn left(&self) -> Duration {
        match self.until.load(Ordering::Relaxed).wrapping_sub(Rest::now()) {
            ahead @ 0..=Rest::LONGEST => Duration::from_millis(ahead.into()),
            _ => Duration::ZERO,
        }
    }

    /// Has it last for so long, unless it lasts longer already.
    fn begin(&self, rest: Duration) {
        let millis = u32::try_from(rest.as_millis()).unwrap_or(Rest::LONGEST);
        let millis = millis.clamp(1, Rest::LONGEST);
        // Of two that come at a time either will do.
        if self.left() < Duration::from_millis(millis.into()) {
            let until = Rest::now().wrapping_add(millis);
            self.until.store(until, Ordering::Relaxed);
        }
    }
}

/// Somebody's wait for one lock.
pub(super) struct Patience {
    deadline: Instant,
    window: Duration,
    /// When the last window began.
    since: Instant,
}

impl Patience {
    pub(super) fn begin() -> Patience {
        let since = Instant::now();
        Patience {
            deadline: since + LOCK_DEADLINE,
            // Just to look.
            window: Duration::ZERO,
            since,
        }
    }

    /// The end of the first window, which has none: it keeps nobody out.
    pub(super) fn first(&self) -> Instant {
        self.since
    }

    /// The last window was in vain. Returns the end of the next one, when it is time for that.
    ///
    /// # Errors
    /// EBUSY at the deadline.
    pub(super) fn next(&mut self, stable: &mut Stable<'_>, rest: &Rest) -> Result<Instant, Errno> {
        if self.window.is_zero() {
            self.window = FIRST_WINDOW;
        } else {
            rest.begin(3 * self.since.elapsed());
            self.window = LONGEST_WINDOW.min(2 * self.window);
        }
        loop {
            self.since = Instant::now();
            let left = self.deadline.saturating_duration_since(self.since);
            if left.is_zero() {
                return Err(Errno::EBUSY);
            }
            let rest = rest.left().min(left);
            if rest.is_zero() {
                return Ok(self.since + self.window);
            }
            stable.give_way(rest);
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
        // Long ago, and before the milliseconds wrapped around.
        for ago in [1, 1000, u32::MAX / 2, u32::MAX - Rest::LONGEST - 1000] {
            let until = Rest::now().wrapping_sub(ago);
            rest.until.store(until, Ordering::Relaxed);
            assert_eq!(rest.left(), Duration::ZERO, "{ago} ms ago");
        }
        rest.begin(Duration::from_secs(1 << 40));
        assert!(rest.left() <= Duration::from_millis(Rest::LONGEST.into()));
    }
}
