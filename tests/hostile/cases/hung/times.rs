//! How long those wait who ask for something else than what hangs.

use std::time::{Duration, Instant};

use lisafs::wire::FdId;
use lisafs_conformance::{Caller, Stop, Verdict, ensure};

use crate::case::Scale;
use crate::cases::liveness::at_once;
use crate::stage::Stage;

/// How long requests are asked for at the most, one after the other.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// A round that takes longer was held up.
const HELD_UP: Duration = Duration::from_millis(25);

/// How long rounds took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// 99 of a hundred, at the most.
    pub(super) p99: Duration,
    /// The part of the time that went into those which somebody held up.
    held_up: f64,
}

impl Times {
    pub(super) fn max(self, other: Times) -> Times {
        Times {
            p99: self.p99.max(other.p99),
            held_up: self.held_up.max(other.held_up),
        }
    }
}

/// What anybody asks, beside what hangs.
pub(super) fn ask(stage: &Stage, channel: &mut Caller, root: FdId) -> Result<Times, Stop> {
    let rounds = stage.count(2000, 20_000);
    let mut times = Vec::new();
    let begun = Instant::now();
    for round in 0..rounds {
        let since = Instant::now();
        at_once("a request beside one that hangs", || -> Verdict {
            let found = channel.find(root, b"file")?.control_fd;
            channel.stat(found)?;
            let open = channel.open(found, 0)?.id;
            let work = channel.find(root, b"work")?.control_fd;
            if round % 10 == 0 {
                let new = channel.mkdir(work, b"new")?.control_fd;
                channel.rmdir(work, b"new")?;
                channel.close(&[new])?;
            }
            channel.close(&[open, found, work])?;
            Ok(())
        })??;
        times.push(since.elapsed());
        // What is so slow has been seen by then.
        if begun.elapsed() > LONG_ENOUGH {
            break;
        }
    }
    stage.count_tries(times.len() as u64);
    times.sort_unstable();
    let slow = times.iter().filter(|took| **took > HELD_UP);
    let (held_up, all): (Duration, Duration) = (slow.sum(), times.iter().sum());
    Ok(Times {
        p99: times[times.len() * 99 / 100],
        held_up: held_up.as_secs_f64() / all.as_secs_f64(),
    })
}

/// What hangs leaves others three quarters of the time, and half of it by what is measured on a machine that
/// does something else as well. And it may make the 99th of a hundred requests take twice as long at
/// most; a short run has too few of them.
fn is_bearable(stage: &Stage, alone: Times, beside: Times) -> Verdict {
    const NOISE: Duration = Duration::from_millis(5);
    let is_seldom = stage.scale == Scale::Short || beside.p99 <= 2 * alone.p99 + NOISE;
    ensure!(
        is_seldom && beside.held_up <= alone.held_up + 0.5,
        "{beside:?} beside what hangs, {alone:?} without"
    );
    Ok(())
}

/// Has `measure` say how long rounds took without anything that hangs, and beside it. Once more if that
/// was not bearable: what else the machine does need not have been there both times.
pub(super) fn is_bearable_at_last(
    stage: &Stage,
    mut measure: impl FnMut(usize) -> Result<(Times, Vec<Times>), Stop>,
) -> Verdict {
    /// With more than that, little is left of what may be held up.
    const NOISY: f64 = 0.3;
    let mut verdict = Ok(());
    for attempt in 0..2 {
        let (alone, beside) = measure(attempt)?;
        verdict = if alone.held_up > NOISY {
            Err(Stop::skipped(format!(
                "something else on this machine holds up as much: {alone:?} without what hangs"
            )))
        } else {
            let mut beside = beside.into_iter();
            beside.try_for_each(|beside| is_bearable(stage, alone, beside))
        };
        match &verdict {
            Ok(()) => break,
            Err(why) => stage.tell(format_args!("measured {attempt}: {why:?}")),
        }
    }
    verdict
}
