//! A request that is made, with nothing failed or one call.

use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use lisafs::client::Error;
use lisafs::wire::FdId;
use lisafs_conformance::{Caller, Stop, ensure};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::call::is_certain;
use super::expected::Outcome;
use super::scenario::{REFUSED, Refusal, Scenario, TICK, furnish};
use super::server::{Census, Served};
use super::tracer::{Injection, Traced, Trail};
use super::tree::{Touched, Tree};
use super::trial::Kernel;

/// How long a thread may take to begin. Far more than it does.
const PATIENCE: Duration = Duration::from_secs(10);

/// By this, something that was made is removed again.
const UNDOING: i64 = libc::SYS_unlinkat;

/// A connection that is about to make its request.
struct Ready {
    caller: Caller,
    ids: Vec<FdId>,
    thread: Pid,
    census: Census,
    tree: Tree,
    /// Somebody to connect to.
    _listener: UnixListener,
}

/// What a request came to.
struct Made {
    answer: Result<String, Refusal>,
    trail: Trail,
    tree: Tree,
}

fn ready(served: &mut Served, scenario: &Scenario) -> Result<Ready, Stop> {
    let listener = furnish(&served.root())?;
    thread::sleep(TICK);
    let before = served.threads()?;
    let mut caller = Caller::new(served.connect()?)?;
    let ids = (scenario.begin)(&mut caller)?;
    // Mount has not been asked for by all of them.
    let since = Instant::now();
    let thread = loop {
        let now = served.threads()?;
        let new = now.iter().filter(|id| !before.contains(id));
        let new: Vec<_> = new.filter(|id| served.is_for_a_client(**id)).collect();
        match new.as_slice() {
            [thread] => break **thread,
            _ if since.elapsed() > PATIENCE => return Err(Stop::failed("no thread serves it")),
            _ => thread::sleep(Duration::from_micros(100)),
        }
    };
    Ok(Ready {
        caller,
        ids,
        thread,
        census: served.census()?,
        tree: Tree::below(&served.root())?,
        _listener: listener,
    })
}

impl Ready {
    /// Makes the request, with a call failed.
    fn act(
        &mut self,
        served: &Served,
        scenario: &Scenario,
        kernel: Kernel,
        injection: Option<Injection>,
    ) -> Result<Made, Stop> {
        let lacks = kernel.lacks_always.iter().map(|&number| Injection {
            number,
            occurrence: None,
            errno: Errno::ENOSYS,
        });
        let injections: Vec<_> = injection.into_iter().chain(lacks).collect();
        let traced = Traced::seize(self.thread, None)?;
        let (caller, ids) = (&mut self.caller, &self.ids);
        let (answer, trail) = thread::scope(|scope| {
            let acting = scope.spawn(|| (scenario.act)(caller, ids));
            let trail = traced.follow(&injections);
            (acting.join(), trail)
        });
        Ok(Made {
            answer: answer.map_err(|_| Stop::failed("the request itself panicked"))?,
            trail: trail?,
            tree: Tree::below(&served.root())?,
        })
    }
}

/// What a request comes to when nothing fails.
pub(super) struct Dry {
    pub(super) answer: String,
    pub(super) trail: Trail,
    tree: Tree,
    touched: Touched,
}

/// Makes the request, with nothing failed, for the calls that it makes.
pub(super) fn dry(served: &mut Served, scenario: &Scenario, kernel: Kernel) -> Result<Dry, Stop> {
    let mut ready = ready(served, scenario)?;
    let made = ready.act(served, scenario, kernel, None)?;
    let answer = made.done()?;
    let first = served.census()?.first;
    ensure!(
        Some(first) == scenario.message(),
        "{} asks for {first}",
        scenario.name
    );
    let calls = &made.trail.calls;
    ensure!(
        calls.is_empty() != scenario.makes_calls(),
        "{} makes the calls {calls:?}",
        scenario.name
    );
    let uncertain = calls.iter().find(|number| !is_certain(**number));
    ensure!(uncertain.is_none(), "call {uncertain:?} may be missing");
    let touched = made.tree.touched(&ready.tree);
    if answer.starts_with(REFUSED) {
        let changes = made.tree.changes(&ready.tree);
        ensure!(
            changes.is_none() && touched.is_empty(),
            "{answer}, but {changes:?} and touched {touched:?}"
        );
    }
    drop(ready);
    served.settle()?.map_err(Stop::failed)?;
    Ok(Dry {
        answer,
        touched,
        trail: made.trail,
        tree: made.tree,
    })
}

fn unexpected(refusal: &Refusal) -> Stop {
    match refusal {
        Refusal::Error(error) => Stop::failed(format_args!("{error:?}")),
        Refusal::Partly(kept, errno) => Stop::failed(format_args!("all but {kept:?}: {errno:?}")),
        Refusal::Untrue(answer) => Stop::failed(format_args!("it is told: {answer}")),
    }
}

impl Made {
    /// The answer, which has to be that all was done.
    fn done(&self) -> Result<String, Stop> {
        match &self.answer {
            Ok(answer) => Ok(answer.clone()),
            Err(refusal) => Err(unexpected(refusal)),
        }
    }

    /// Fails unless all is as when nothing fails.
    fn is_as(&self, dry: &Dry, before: &Tree) -> Result<(), Stop> {
        let got = self.done()?;
        ensure!(got == dry.answer, "the answer is {got}, not {}", dry.answer);
        let changes = self.tree.changes(&dry.tree);
        ensure!(changes.is_none(), "done otherwise: {changes:?}");
        let touched = self.tree.touched(before);
        ensure!(
            touched == dry.touched,
            "touched {touched:?}, not {:?}",
            dry.touched
        );
        Ok(())
    }
}

/// Makes the request with one call failed; `None` if it does not make that call this time.
pub(super) fn fail(
    served: &mut Served,
    scenario: &Scenario,
    kernel: Kernel,
    injection: Injection,
    dry: &Dry,
) -> Result<Option<Outcome>, Stop> {
    let mut ready = ready(served, scenario)?;
    let made = ready.act(served, scenario, kernel, Some(injection))?;
    let injected = lisafs::Errno::from(injection.errno);
    let outcome = match &made.answer {
        _ if made.trail.injected == 0 => None,
        Ok(_) => {
            made.is_as(dry, &ready.tree)?;
            Some(Outcome::Done)
        }
        Err(Refusal::Error(Error::Remote(errno))) => {
            let changes = made.tree.changes(&ready.tree);
            ensure!(changes.is_none(), "{errno:?}, but {changes:?}");
            let touched = made.tree.touched(&ready.tree);
            // What was removed again was made where it is when nothing fails.
            let undoings = made.trail.calls.iter().filter(|made| **made == UNDOING);
            let is_undone = undoings.count() > usize::from(injection.number == UNDOING);
            ensure!(
                touched.is_empty()
                    || is_undone && *errno == injected && touched.is_subset(&dry.touched),
                "{errno:?}, but touched {touched:?}"
            );
            let (now, before) = (served.census()?.counts, &ready.census.counts);
            ensure!(now == *before, "{errno:?}, but {now} is held, not {before}");
            let again = ready.act(served, scenario, kernel, None)?;
            again.is_as(dry, &ready.tree)?;
            Some(match (*errno == injected, touched.is_empty()) {
                (true, true) => Outcome::Refused,
                (true, false) => Outcome::Undone,
                (false, _) => Outcome::RefusedAs(*errno),
            })
        }
        Err(Refusal::Partly(kept, errno)) if *errno == injected => {
            let changes = made.tree.changes(&dry.tree.but(*kept, &ready.tree));
            ensure!(changes.is_none(), "all but {kept:?}, but {changes:?}");
            let (now, before) = (served.census()?.counts, &ready.census.counts);
            ensure!(now == *before, "{errno:?}, but {now} is held, not {before}");
            let again = ready.act(served, scenario, kernel, None)?;
            again.is_as(dry, &ready.tree)?;
            Some(Outcome::Partly(*kept))
        }
        Err(_) if made.trail.ended && served.aborts()? => return Ok(Some(Outcome::Aborted)),
        Err(other) => return Err(unexpected(other)),
    };
    drop(ready);
    served.settle()?.map_err(Stop::failed)?;
    Ok(outcome)
}
