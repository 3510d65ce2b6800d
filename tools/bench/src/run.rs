//! Measuring: slice by slice, the servers in turns.

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use lisafs::client;
use nix::sys::prctl;

use crate::cost::{Usage, Waits, more};
use crate::failure::{Stop, Why};
use crate::pace::{Limit, Monotonic, Pace, Seen, drive};
use crate::place::{Cpus, move_to};
use crate::target::Target;
use crate::task::{BoxTask, Task};
use crate::work::Work;

/// How often a thread does its work before it is measured, in each slice: policies learn, caches
/// fill, CPUs speed up.
const WARM_UP: u32 = 64;

/// How long it does so at the most; one time is always needed.
const WARM_UP_TIME: Duration = Duration::from_millis(50);

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) threads: u32,
    /// Of all threads together, for each server and work.
    pub(crate) limit: Limit,
    /// Requests per second of all threads together: an open loop.
    pub(crate) rate: Option<f64>,
    pub(crate) slices: u32,
}

/// What came of one work on one server.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) seen: Seen,
    pub(crate) elapsed: Duration,
    pub(crate) client: Usage,
    /// None if the server's process cannot be seen.
    pub(crate) server: Option<Usage>,
    pub(crate) waits: Waits,
    /// None if it does not say.
    pub(crate) server_waits: Option<Waits>,
    /// The p50 of each slice, in nanoseconds.
    pub(crate) medians: Vec<u64>,
}

/// The tasks of one work on one server.
pub(crate) struct Crew {
    tasks: Vec<BoxTask>,
    outcome: Outcome,
}

impl Crew {
    /// Makes what the work needs on the server.
    pub(crate) fn new(work: Work, target: &Target, load: &Load) -> Result<Crew, Stopped> {
        let mut tasks = Vec::new();
        for thread in 0..load.threads {
            let number = usize::try_from(thread).unwrap_or_default();
            let seat = target.area()?.seat(number).map_err(Why::from)?;
            tasks.push(work.prepare(&seat).map_err(Why::from)?);
        }
        let parts = tasks.first().map_or(1, |task| task.parts());
        Ok(Crew {
            tasks,
            outcome: Outcome {
                seen: Seen::new(parts, load.rate.is_some()),
                elapsed: Duration::ZERO,
                client: Usage::default(),
                server: Some(Usage::default()),
                waits: Waits::default(),
                server_waits: Some(Waits::default()),
                medians: Vec::new(),
            },
        })
    }

    /// Measures for one slice.
    pub(crate) fn slice(
        &mut self,
        target: &Target,
        cpus: &Cpus,
        load: &Load,
        stop: &AtomicBool,
    ) -> Result<(), Stopped> {
        let threads = u32::try_from(self.tasks.len()).unwrap_or(1);
        let here = cpus.of_client(target.plan.placement);
        let members = usize::try_from(threads).unwrap_or(1) + 1;
        let (warm, go) = (Barrier::new(members), Barrier::new(members));
        let (before, after, waits, results) = thread::scope(|scope| {
            let running: Vec<_> = (0_u32..)
                .zip(&mut self.tasks)
                .map(|(index, task)| {
                    let (warm, go) = (&warm, &go);
                    let pace = load.pace(index, threads);
                    scope.spawn(move || {
                        let placed = move_to(&here);
                        // Open loops sleep; by default the kernel lets them oversleep by 50 µs.
                        let _ = prctl::set_timerslack(1);
                        let warmed = warm_up(task.as_mut());
                        warm.wait();
                        go.wait();
                        placed.map_err(|why| client::Error::Local(why.into()))?;
                        warmed?;
                        drive(&Monotonic(Instant::now()), pace, stop, task.as_mut())
                    })
                })
                .collect();
            warm.wait();
            // Asking is work for the server: that is in none of the other numbers.
            let waited = target.server_waits();
            let before = Reading::take(target);
            go.wait();
            let results: Vec<_> = running.into_iter().map(|thread| thread.join()).collect();
            let after = Reading::take(target);
            (before, after, (waited, target.server_waits()), results)
        });
        let (before, after) = (before?, after?);
        let waits = (waits.0?, waits.1?);
        let mut slice = Seen::new(self.outcome.seen.latency.len(), load.rate.is_some());
        for result in results {
            let seen = result
                .map_err(|_| Stop::Trouble("a thread has panicked".to_owned()))?
                .map_err(Why::from)?;
            slice.merge(&seen);
        }
        let outcome = &mut self.outcome;
        outcome.medians.push(slice.overall().p50());
        outcome.seen.merge(&slice);
        outcome.elapsed += after.at.duration_since(before.at);
        outcome.client += after.client - before.client;
        outcome.waits += after.waits - before.waits;
        outcome.server = more(outcome.server, before.server, after.server);
        outcome.server_waits = more(outcome.server_waits, waits.0, waits.1);
        if stop.load(Relaxed) {
            return Err(Stop::Interrupted.into());
        }
        Ok(())
    }

    pub(crate) fn outcome(self) -> Outcome {
        self.outcome
    }
}

impl Load {
    /// What one of the threads does in one slice.
    fn pace(&self, index: u32, threads: u32) -> Pace {
        let limit = match self.limit {
            Limit::Time(time) => Limit::Time(time / self.slices.max(1)),
            Limit::Count(count) => {
                let shares = u64::from(threads) * u64::from(self.slices.max(1));
                Limit::Count(count.div_ceil(shares.max(1)))
            }
        };
        let open = self.rate.map(|rate| {
            let interval = Duration::from_secs_f64(f64::from(threads) / rate);
            // The threads take turns.
            (interval * index / threads.max(1), interval)
        });
        Pace { open, limit }
    }
}

/// The counters at one moment.
struct Reading {
    at: Instant,
    client: Usage,
    server: Option<Usage>,
    waits: Waits,
}

impl Reading {
    fn take(target: &Target) -> Result<Reading, Stop> {
        Ok(Reading {
            server: target.usage(),
            waits: target.waits(),
            client: Usage::own().map_err(|why| Stop::at("cannot read my CPU time", why))?,
            at: Instant::now(),
        })
    }
}

fn warm_up(task: &mut (dyn Task + Send)) -> Result<(), client::Error> {
    let start = Instant::now();
    for _ in 0..WARM_UP {
        task.ready()?;
        task.run()?;
        if start.elapsed() > WARM_UP_TIME {
            break;
        }
    }
    Ok(())
}

/// Why a work is not measured: this one, or any more.
#[derive(Debug)]
pub(crate) enum Stopped {
    Work(client::Error),
    All(Stop),
}

impl From<Why> for Stopped {
    fn from(why: Why) -> Stopped {
        match why {
            Why::Refused(why) => Stopped::Work(why),
            Why::Gone(why) => Stopped::All(Stop::at("the server does not answer", why)),
        }
    }
}

impl From<Stop> for Stopped {
    fn from(why: Stop) -> Stopped {
        Stopped::All(why)
    }
}
