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

/// Measures the floor below `works`: hand-overs with `waits`, and system calls in a directory.
pub(crate) fn measure(
    cpus: &Cpus,
    waits: &[WaitPolicy],
    works: &[Work],
    dir: &Path,
) -> Result<Vec<Row>, Stop> {
    let mut rows = vec![Row {
        name: "the clock itself".to_owned(),
        op: None,
        sample: repeat(&mut Nothing)?,
    }];
    rows.extend(handover::measure(cpus, waits)?);
    // The calls have a CPU for themselves, whose caches stay warm.
    let calls = cpus.during(&only(cpus.first()), || -> Result<Vec<Row>, Stop> {
        let mut rows = Vec::new();
        for (name, mut task) in bare::general(dir)? {
            rows.push(Row {
                name,
                op: None,
                sample: repeat(task.as_mut())?,
            });
        }
        for work in works {
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
