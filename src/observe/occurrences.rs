//! Counting what others can have happen, for a log that must not fill up.

use core::sync::atomic::{AtomicU64, Ordering};

/// How often something has happened that a peer can have happen as often as it likes.
///
/// The first time is worth a line in a log, and so is each whose number is a power of two: whoever
/// reads it sees that it goes on, and how fast, and the peer cannot fill a disk.
///
/// ```
/// use lisafs::observe::Occurrences;
///
/// static REFUSALS: Occurrences = Occurrences::new();
///
/// let told: Vec<_> = (0..100).filter_map(|_| REFUSALS.happened()).collect();
/// assert_eq!(told, [1, 2, 4, 8, 16, 32, 64]);
/// ```
#[derive(Debug, Default)]
pub struct Occurrences(AtomicU64);

impl Occurrences {
    /// It has not happened.
    #[must_use]
    pub const fn new() -> Occurrences {
        Occurrences(AtomicU64::new(0))
    }

    /// It has happened once more. Returns how often that makes, if it is worth a line.
    #[must_use]
    pub fn happened(&self) -> Option<u64> {
        let count = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        count.is_power_of_two().then_some(count)
    }
}

/// An event of `tracing` that a client can cause: logged the first time and each whose number is a power
/// of two, with that number. Counted by itself, for the whole process.
#[cfg(feature = "server")]
macro_rules! rarely {
    ($level:ident, $($event:tt)+) => {{
        static TIMES: $crate::observe::Occurrences = $crate::observe::Occurrences::new();
        if let Some(count) = TIMES.happened() {
            tracing::$level!(count, $($event)+);
        }
    }};
}

#[cfg(feature = "server")]
pub(crate) use rarely;
