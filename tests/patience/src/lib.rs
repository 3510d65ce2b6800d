//! How tests wait for what other threads and processes do, on machines that do ten other things.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that should take no time. Generous, as it only shows in failures.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what happens in another thread or process.
///
/// # Panics
/// If it does not happen.
pub fn eventually(what: &str, happened: impl FnMut() -> bool) {
    assert!(within(PATIENCE, happened), "it did not happen: {what}");
}

/// Waits so long at the most, and says whether it has happened. A process that is stopped meanwhile, or
/// now and again, has not waited.
pub fn within(limit: Duration, mut happened: impl FnMut() -> bool) -> bool {
    const TURN: Duration = Duration::from_millis(50);
    let mut left = limit;
    while !happened() {
        if left.is_zero() {
            return false;
        }
        let since = Instant::now();
        thread::sleep(Duration::from_millis(2));
        left = left.saturating_sub(since.elapsed().min(TURN));
    }
    true
}

/// Set when dropped: ends the other threads of a test, also when it fails. The scope of these threads would
/// wait for them for ever.
#[derive(Debug)]
pub struct Ended<'a>(pub &'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::{AtomicBool, Duration, Ended, SeqCst, thread, within};

    #[test]
    fn threads_end_with_a_test_that_fails() {
        let over = AtomicBool::new(false);
        let failed = std::panic::catch_unwind(|| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(SeqCst) {
                        thread::yield_now();
                    }
                });
                let _ended = Ended(&over);
                panic!("injected");
            });
        });
        failed.unwrap_err();
    }

    #[test]
    fn what_happens_late_has_happened_and_what_never_does_has_not() {
        let mut looks = 0;
        let limit = Duration::from_millis(100);
        assert!(within(Duration::MAX, || {
            looks += 1;
            looks == 3
        }));
        assert!(!within(limit, || false));
        // It is looked for in any case.
        assert!(within(Duration::ZERO, || true));
    }
}
