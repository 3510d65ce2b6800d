//! The counters of one thread, or the sum of several.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use lisafs::Errno;
use lisafs::wire::MESSAGE_COUNT;

/// Error numbers below this are counted one by one. Linux has none above that a file system returns.
const ERRNOS: usize = 134;

/// The upper bounds of the buckets of a histogram, in nanoseconds. There is one more, for the rest.
const BOUNDS: [u64; 22] = [
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
];

/// Counters that one thread writes and any may read.
#[derive(Debug)]
pub(super) struct Sheet {
    requests: [AtomicU64; MESSAGE_COUNT],
    latency: [Latency; MESSAGE_COUNT],
    errors: [AtomicU64; ERRNOS],
    read: AtomicU64,
    written: AtomicU64,
}

/// How long requests took.
#[derive(Debug, Default)]
pub(super) struct Latency {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In nanoseconds.
    sum: AtomicU64,
}

impl Default for Sheet {
    fn default() -> Sheet {
        Sheet {
            requests: array::from_fn(|_| AtomicU64::new(0)),
            latency: array::from_fn(|_| Latency::default()),
            errors: array::from_fn(|_| AtomicU64::new(0)),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }
}

impl Sheet {
    pub(super) fn count_request(&self, message: usize) {
        bump(self.requests.get(message), 1);
    }

    /// Counts an error; those without a place of their own as number 0.
    pub(super) fn count_error(&self, errno: Errno) {
        let number = usize::from(errno.raw());
        bump(self.errors.get(number).or(self.errors.first()), 1);
    }

    pub(super) fn add_read(&self, bytes: u64) {
        bump(Some(&self.read), bytes);
    }

    pub(super) fn add_written(&self, bytes: u64) {
        bump(Some(&self.written), bytes);
    }

    /// Counts `weight` requests that took so long.
    pub(super) fn time(&self, message: usize, took: Duration, weight: u64) {
        let Some(latency) = self.latency.get(message) else {
            return;
        };
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        bump(latency.buckets.get(bucket), weight);
        bump(Some(&latency.sum), took.saturating_mul(weight));
    }

    pub(super) fn requests(&self, message: usize) -> u64 {
        self.requests.get(message).map_or(0, load)
    }

    pub(super) fn latency(&self, message: usize) -> &Latency {
        static NONE: Latency = Latency {
            buckets: [const { AtomicU64::new(0) }; BOUNDS.len() + 1],
            sum: AtomicU64::new(0),
        };
        self.latency.get(message).unwrap_or(&NONE)
    }

    /// The errors that there were, `None` for those without a number here.
    pub(super) fn errors(&self) -> impl Iterator<Item = (Option<Errno>, u64)> {
        (0..).zip(&self.errors).filter_map(|(number, count)| {
            let count = load(count);
            (count > 0).then(|| (Errno::new(number), count))
        })
    }

    pub(super) fn read(&self) -> u64 {
        load(&self.read)
    }

    pub(super) fn written(&self) -> u64 {
        load(&self.written)
    }

    /// Adds what another sheet has. This one is the caller's alone.
    pub(super) fn add(&self, other: &Sheet) {
        self.counters()
            .zip(other.counters())
            .for_each(|(sum, counter)| bump(Some(sum), load(counter)));
    }

    fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        let latencies = self.latency.iter();
        let latencies = latencies.flat_map(|latency| latency.buckets.iter().chain([&latency.sum]));
        self.requests
            .iter()
            .chain(latencies)
            .chain(&self.errors)
            .chain([&self.read, &self.written])
    }
}

impl Latency {
    /// The upper bounds in seconds, and how many requests are below each and not below the last. The
    /// last bound is the largest number that there is.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        #[expect(clippy::cast_precision_loss, reason = "they are below 2^53")]
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1e9);
        bounds
            .chain([f64::MAX])
            .zip(self.buckets.iter().map(load))
            .collect()
    }

    /// The sum in seconds.
    pub(super) fn seconds(&self) -> f64 {
        Duration::from_nanos(load(&self.sum)).as_secs_f64()
    }
}

/// There is one writer, so no locked instruction is needed.
fn bump(counter: Option<&AtomicU64>, by: u64) {
    if let Some(counter) = counter {
        counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let sheet = Sheet::default();
        for nanoseconds in [0, 500, 501, 1_000_000_000, 5_000_000_001, u64::MAX] {
            sheet.time(1, Duration::from_nanos(nanoseconds), 1);
        }
        let buckets = sheet.latency(1).buckets();
        let filled: Vec<_> = buckets.iter().filter(|(_, count)| *count > 0).collect();
        let bounds: Vec<f64> = filled.iter().map(|(bound, _)| *bound).collect();
        assert_eq!(bounds, [0.000_000_5, 0.000_001, 1.0, f64::MAX]);
        let counts: Vec<u64> = filled.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 1, 2]);
    }

    #[test]
    fn errors_without_a_place_are_counted_together() {
        let sheet = Sheet::default();
        for number in [2, 2, 133, 134, 4095] {
            sheet.count_error(Errno::new(number).unwrap());
        }
        let errors: Vec<_> = sheet.errors().collect();
        let expected = [(None, 2), (Some(Errno::ENOENT), 2), (Errno::new(133), 1)];
        assert_eq!(errors, expected);
        let sum = Sheet::default();
        sum.add(&sheet);
        sum.add(&sheet);
        assert_eq!(sum.errors().nth(1), Some((Some(Errno::ENOENT), 4)));
    }
}
