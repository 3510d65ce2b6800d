//! When to send: at once, or at times that were set beforehand.
//!
//! In a closed loop the next request leaves when the last one is answered, so a server that stalls
//! delays the very requests that would have shown it. In an open loop each request has its time,
//! whatever happened to those before, and its latency counts from then.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::client;

use crate::sample::Sample;
use crate::task::Task;

/// How far behind its schedule an open loop may fall before it gives up the rest, as a multiple of
/// the time it was given.
const OVERTIME: u32 = 1;

/// The time, since a start that all threads share.
pub(crate) trait Clock {
    fn now(&self) -> Duration;
    fn sleep_until(&self, time: Duration);
}

/// CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monotonic(pub(crate) Instant);

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, time: Duration) {
        thread::sleep(time.saturating_sub(self.now()));
    }
}

/// How a thread sends, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The time of the first request and the time between two, in an open loop.
    pub(crate) open: Option<(Duration, Duration)>,
    pub(crate) limit: Limit,
}

/// When it is enough.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Time(Duration),
    Count(u64),
}

/// What a thread has seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// By the parts of the task: from when a request should have been sent to its answer.
    pub(crate) latency: Vec<Sample>,
    /// In an open loop: from when it was sent.
    pub(crate) service: Option<Sample>,
    /// Requests of an open loop that never were sent.
    pub(crate) unsent: u64,
}

impl Seen {
    pub(crate) fn new(parts: usize, open: bool) -> Seen {
        Seen {
            latency: vec![Sample::new(); parts],
            service: open.then(Sample::new),
            unsent: 0,
        }
    }

    pub(crate) fn merge(&mut self, other: &Seen) {
        for (ours, theirs) in self.latency.iter_mut().zip(&other.latency) {
            ours.merge(theirs);
        }
        if let (Some(ours), Some(theirs)) = (&mut self.service, &other.service) {
            ours.merge(theirs);
        }
        self.unsent += other.unsent;
    }

    /// How many were answered.
    pub(crate) fn count(&self) -> u64 {
        self.latency.iter().map(Sample::count).sum()
    }

    /// All parts in one.
    pub(crate) fn overall(&self) -> Sample {
        let mut overall = Sample::new();
        for part in &self.latency {
            overall.merge(part);
        }
        overall
    }
}

/// Repeats `task` until its limit, or until somebody raises `stop`.
pub(crate) fn drive(
    clock: &impl Clock,
    pace: Pace,
    stop: &AtomicBool,
    task: &mut dyn Task,
) -> Result<Seen, client::Error> {
    let mut seen = Seen::new(task.parts(), pace.open.is_some());
    let (time, count) = match pace.limit {
        Limit::Time(time) => (time, u64::MAX),
        Limit::Count(count) => (Duration::MAX, count),
    };
    let overtime = time.saturating_add(time.saturating_mul(OVERTIME));
    let (mut due, interval) = pace.open.unwrap_or_default();
    let mut done = 0;
    while done < count && !stop.load(Relaxed) {
        if pace.open.is_some() {
            if due >= time {
                break;
            }
            if clock.now() >= overtime {
                let left = time.saturating_sub(due).as_nanos();
                let unsent = left.div_ceil(interval.as_nanos().max(1));
                seen.unsent = u64::try_from(unsent).unwrap_or(u64::MAX);
                break;
            }
        }
        task.ready()?;
        if pace.open.is_some() && clock.now() < due {
            clock.sleep_until(due);
        }
        let sent = clock.now();
        task.run()?;
        let answered = clock.now();
        done += 1;
        let since = if pace.open.is_some() { due } else { sent };
        if let Some(part) = seen.latency.get_mut(task.part()) {
            part.record(answered.saturating_sub(since));
        }
        if let Some(service) = &mut seen.service {
            service.record(answered.saturating_sub(sent));
        } else if answered >= time {
            break;
        }
        due = due.saturating_add(interval);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Moves when it is told to.
    #[derive(Clone, Default)]
    struct Fake(Arc<AtomicU64>);

    impl Fake {
        fn advance(&self, by: Duration) {
            self.0.fetch_add(by.as_nanos().try_into().unwrap(), Relaxed);
        }
    }

    impl Clock for Fake {
        fn now(&self) -> Duration {
            Duration::from_nanos(self.0.load(Relaxed))
        }

        fn sleep_until(&self, time: Duration) {
            self.advance(time - self.now());
        }
    }

    /// Takes 10 µs, except that request number 100 takes 100 ms.
    struct Stalls {
        clock: Fake,
        number: Cell<u64>,
    }

    impl Task for Stalls {
        fn run(&mut self) -> Result<(), client::Error> {
            let number = self.number.get();
            self.number.set(number + 1);
            self.clock.advance(match number {
                100 => 100 * MS,
                _ => MS / 100,
            });
            Ok(())
        }
    }

    fn measure(open: Option<(Duration, Duration)>, limit: Limit) -> Seen {
        let clock = Fake::default();
        let mut task = Stalls {
            clock: clock.clone(),
            number: Cell::new(0),
        };
        drive(
            &clock,
            Pace { open, limit },
            &AtomicBool::new(false),
            &mut task,
        )
        .unwrap()
    }

    #[test]
    fn an_open_loop_sees_a_stall_in_every_request_that_it_delays() {
        let seen = measure(Some((Duration::ZERO, MS)), Limit::Time(1000 * MS));
        assert_eq!(seen.count(), 1000);
        assert_eq!(seen.unsent, 0);
        // One of 100 ms, and those that should have left meanwhile: 99 ms, 98 ms …
        let latency = &seen.latency[0];
        assert!(latency.at(0.9) >= 1_000_000, "{}", latency.at(0.9));
        assert!(latency.at(0.95) >= 45_000_000, "{}", latency.at(0.95));
        assert!(latency.p50() <= 10_100, "{}", latency.p50());
        // Of which this knows nothing.
        let service = seen.service.unwrap();
        assert!(service.at(0.998) <= 10_100, "{}", service.at(0.998));
        assert!(service.max() >= 99_000_000);
    }

    #[test]
    fn a_closed_loop_sees_it_once() {
        let seen = measure(None, Limit::Count(1000));
        assert_eq!(seen.count(), 1000);
        assert!(seen.service.is_none());
        assert!(seen.latency[0].at(0.998) <= 10_100);
        assert!(seen.latency[0].max() >= 99_000_000);
    }

    #[test]
    fn a_closed_loop_ends_on_time() {
        let seen = measure(None, Limit::Time(MS / 2));
        assert_eq!(seen.count(), 50);
    }

    #[test]
    fn what_is_too_late_to_be_sent_is_counted() {
        // A request each µs, of which each takes 10 µs.
        let seen = measure(Some((Duration::ZERO, MS / 1000)), Limit::Time(MS / 2));
        assert_eq!(seen.count(), 100);
        assert_eq!(seen.unsent, 400);
    }
}
