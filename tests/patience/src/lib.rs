//! How tests wait for what other threads and processes do, on machines that do ten other things.
#![forbid(unsafe_code)]

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

#[cfg(test)]
mod tests {
    use super::{Duration, within};

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
