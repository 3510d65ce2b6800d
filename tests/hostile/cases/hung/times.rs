//! How long those wait who ask for something else than what hangs.

use std::os::unix::net::UnixStream;
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

/// How long they took over the time in which something hangs.
pub(super) struct Course {
    /// Before anything hangs.
    pub(super) before: Times,
    /// Beside what hangs.
    pub(super) beside: Vec<Times>,
    /// When all that has hung is answered, from [`ask_after`].
    pub(super) after: Result<Times, Stop>,
}

impl Times {
    fn max(self, other: Times) -> Times {
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

/// With more of the time than that held up, little is left of what may be.
const NOISY: f64 = 0.3;

/// Twice as long as `alone` is what the 99th of a hundred rounds may take. A short run has too few of them.
fn is_seldom(stage: &Stage, alone: Times, times: Times) -> bool {
    const NOISE: Duration = Duration::from_millis(5);
    stage.scale == Scale::Short || times.p99 <= 2 * alone.p99 + NOISE
}

fn noise(times: Times) -> Stop {
    Stop::skipped(format!(
        "something else on this machine holds up as much: {times:?} without what hangs"
    ))
}

/// What is asked once all is answered that has hung: it leaves nothing behind. Whether the server is slow or
/// the machine, another server says in which nothing has hung. What else the machine does need not be there
/// each time, nor hold up both of them.
///
/// # Errors
/// In the result that is returned, if it is not as quiet as `before`: a failure, or that the machine is not.
pub(super) fn ask_after(
    stage: &Stage,
    channel: &mut Caller,
    root: FdId,
    before: Times,
) -> Result<Result<Times, Stop>, Stop> {
    const LOOKS: usize = 3;
    let mut slow = Vec::new();
    for _ in 0..LOOKS {
        let after = ask(stage, channel, root)?;
        if after.held_up <= NOISY && is_seldom(stage, before, after) {
            return Ok(Ok(after));
        }
        let other = stage.another(&[])?;
        let mut caller = Caller::new(UnixStream::connect(&other.socket)?)?;
        let theirs = caller.mount()?.root.control_fd;
        let fresh = ask(stage, &mut caller.channel()?, theirs)?;
        stage.tell(format_args!(
            "{after:?} after what has hung, {fresh:?} in another server"
        ));
        if after.held_up <= fresh.held_up + NOISY && is_seldom(stage, fresh, after) {
            return Ok(Err(noise(fresh)));
        }
        slow.push((after, fresh));
    }
    Ok(Err(Stop::failed(format_args!(
        "slow after what has hung, and another server is not: {slow:?}; {before:?} before"
    ))))
}

/// What hangs leaves others three quarters of the time, and half of it by what is measured on a machine that
/// does something else as well.
fn is_bearable(stage: &Stage, course: Course) -> Verdict {
    let (before, after) = (course.before, course.after?);
    if before.held_up > NOISY {
        return Err(noise(before));
    }
    // Whatever else the machine does by now, it does to both.
    let alone = before.max(after);
    for beside in course.beside {
        ensure!(
            is_seldom(stage, alone, beside) && beside.held_up <= alone.held_up + 0.5,
            "{beside:?} beside what hangs, {alone:?} without"
        );
    }
    Ok(())
}

/// Has `measure` say how long rounds took before something hangs, beside it and afterwards. Once more if that
/// was not bearable: what else the machine does need not have been there both times. When it did too much,
/// nothing is known, and what was seen at another time stays true.
pub(super) fn is_bearable_at_last(
    stage: &Stage,
    mut measure: impl FnMut(usize) -> Result<Course, Stop>,
) -> Verdict {
    /// So often the one or the other.
    const ENOUGH: usize = 2;
    let (mut failed, mut noisy) = (Vec::new(), Vec::new());
    while failed.len() < ENOUGH && noisy.len() < ENOUGH {
        let attempt = failed.len() + noisy.len();
        let Err(why) = is_bearable(stage, measure(attempt)?) else {
            return Ok(());
        };
        stage.tell(format_args!("measured {attempt}: {why:?}"));
        match why {
            Stop::Failed(_) => failed.push(why),
            Stop::Skipped(_) => noisy.push(why),
        }
    }
    failed.pop().or(noisy.pop()).map_or(Ok(()), Err)
}
