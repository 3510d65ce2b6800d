//! Latencies.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told apart from longer ones, in nanoseconds: ten minutes.
const LONGEST: u64 = 600_000_000_000;

/// The percentiles that are shown, and what they are called.
pub(crate) const PERCENTILES: [(f64, &str); 5] = [
    (0.5, "p50"),
    (0.9, "p90"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
];

/// How long something took, many times, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    took: Histogram<u64>,
}

impl Sample {
    pub(crate) fn new() -> Sample {
        let took = Histogram::new_with_bounds(1, LONGEST, 3).or_else(|_| Histogram::new(3));
        Sample {
            // Three digits are known to be possible.
            took: took.unwrap_or_else(|_| unreachable!("three digits are supported")),
        }
    }

    pub(crate) fn record(&mut self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(LONGEST);
        self.took.saturating_record(nanoseconds);
    }

    /// Records so many that took as long, in nanoseconds.
    pub(crate) fn record_many(&mut self, took: u64, count: u64) {
        self.took.saturating_record_n(took, count);
    }

    pub(crate) fn merge(&mut self, other: &Sample) {
        // Both have the same bounds.
        let _ = self.took.add(&other.took);
    }

    pub(crate) fn count(&self) -> u64 {
        self.took.len()
    }

    /// In nanoseconds.
    pub(crate) fn at(&self, quantile: f64) -> u64 {
        self.took.value_at_quantile(quantile)
    }

    /// In nanoseconds.
    pub(crate) fn p50(&self) -> u64 {
        self.at(0.5)
    }

    /// In nanoseconds.
    pub(crate) fn min(&self) -> u64 {
        self.took.min()
    }

    /// In nanoseconds.
    pub(crate) fn max(&self) -> u64 {
        self.took.max()
    }

    /// In nanoseconds.
    pub(crate) fn mean(&self) -> f64 {
        self.took.mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merged_counts_as_if_recorded_in_one() {
        let (mut first, mut second) = (Sample::new(), Sample::new());
        for microseconds in 1..=50 {
            first.record(Duration::from_micros(microseconds));
            second.record(Duration::from_micros(50 + microseconds));
        }
        first.merge(&second);
        assert_eq!(first.count(), 100);
        let near = |nanoseconds: u64, wanted: u64| nanoseconds.abs_diff(wanted) <= wanted / 500;
        assert!(near(first.p50(), 50_000), "{}", first.p50());
        assert!(near(first.at(0.99), 99_000), "{}", first.at(0.99));
        assert!(near(first.max(), 100_000), "{}", first.max());
        first.record(Duration::from_secs(3600));
        assert_eq!(first.count(), 101);
    }
}
