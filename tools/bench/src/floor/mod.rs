//! What no request can beat, measured in the same run: handing over from one CPU to another, and
//! the system calls that requests end in.

mod bare;
mod handover;
mod whole;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use flipcall::WaitPolicy;
use lisafs::client::Error;

use crate::failure::Stop;
use crate::op::Op;
use crate::pace::{Limit, Monotonic, Pace, drive};
use crate::place::{Cpus, only};
use crate::progress::Progress;
use crate::sample::Sample;
use crate::task::Task;
use crate::work::Work;

/// How long each row is measured at the most.
const TIME: Duration = Duration::from_millis(300);

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The operation that ends in it.
    pub(crate) op: Option<Op>,
    pub(crate) sample: Sample,
}

/// How many steps [`measure`] takes.
pub(crate) fn steps(cpus: &Cpus, waits: &[WaitPolicy], works: &[Work]) -> usize {
    // The clock, and the calls that are no operation's alone.
    2 + handover::all(cpus, waits).len() + works.len()
}

/// Measures the floor below `works`: hand-overs with `waits`, and system calls in a directory.
pub(crate) fn measure(
    cpus: &Cpus,
    waits: &[WaitPolicy],
    works: &[Work],
    dir: &Path,
    progress: &Progress,
) -> Result<Vec<Row>, Stop> {
    progress.begin("floor: the clock".to_owned());
    let mut rows = vec![Row {
        name: "the clock itself".to_owned(),
        op: None,
        sample: repeat(&mut Nothing)?,
    }];
    progress.step(1);
    for hand_over in handover::all(cpus, waits) {
        progress.begin(format!("floor: {hand_over}"));
        rows.extend(hand_over.measure()?);
        progress.step(1);
    }
    // The calls have a CPU for themselves, whose caches stay warm.
    let calls = cpus.during(&only(cpus.first()), || -> Result<Vec<Row>, Stop> {
        let mut rows = Vec::new();
        progress.begin("floor: calls".to_owned());
        for (name, mut task) in bare::general(dir)? {
            rows.push(Row {
                name,
                op: None,
                sample: repeat(task.as_mut())?,
            });
        }
        progress.step(1);
        for work in works {
            progress.begin(format!("floor: {work}"));
            progress.step(1);
            let Work::Op(op) = *work else { continue };
            if let Some((name, mut task)) = bare::below(op, dir)? {
                rows.push(Row {
                    name,
                    op: Some(op),
                    sample: repeat(task.as_mut())?,
                });
            }
            if let Some((name, mut task)) = whole::calls(op, dir)? {
                rows.push(Row {
                    name,
                    op: None,
                    sample: repeat(task.as_mut())?,
                });
            }
        }
        Ok(rows)
    });
    rows.extend(calls.map_err(|why| Stop::at("floor", why))??);
    Ok(rows)
}

/// What is below an operation.
pub(crate) fn below(rows: &[Row], work: Work) -> Option<&Row> {
    let Work::Op(op) = work else { return None };
    rows.iter().find(|row| row.op == Some(op))
}

struct Nothing;

impl Task for Nothing {
    fn run(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

fn repeat(task: &mut dyn Task) -> Result<Sample, Stop> {
    let pace = Pace {
        open: None,
        limit: Limit::Time(TIME),
    };
    let never = AtomicBool::new(false);
    let seen = drive(&Monotonic(Instant::now()), pace, &never, task)
        .map_err(|why| Stop::at("floor", why))?;
    Ok(seen.overall())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Mix;

    #[test]
    fn all_steps_are_told_of() {
        let cpus = Cpus::usable().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (ping, mix) = ("ping".parse().unwrap(), Mix::Shared);
        // One that has no floor, one that has no calls of its own.
        let works = [Work::Op(ping), Work::Mix(mix)];
        let steps = steps(&cpus, &[WaitPolicy::Park], &works);
        let progress = Progress::new(0);
        let rows = measure(&cpus, &[WaitPolicy::Park], &works, dir.path(), &progress).unwrap();
        assert_eq!(progress.done(), u64::try_from(steps).unwrap());
        let name = "hand-over and back, spinning, same CPU";
        assert!(rows.iter().any(|row| row.name == name), "{rows:?}");
        assert!(rows.iter().all(|row| row.sample.count() > 0), "{rows:?}");
    }
}
