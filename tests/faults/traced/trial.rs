//! One request with each of its calls failed.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed, Trial};
use lisafs::client::Error;
use lisafs::wire::FdId;
use lisafs_conformance::{Caller, Stop, ensure};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::call::{PROBED, call};
use super::expected::{Outcome, reason};
use super::matrix::Matrix;
use super::scenario::{SCENARIOS, Scenario, furnish};
use super::server::{Census, Served};
use super::tracer::{Injection, Traced, Trail};
use super::tree::Tree;

/// How long a file is known by its name when it is older: more than a tick of the clock.
const TICK: Duration = Duration::from_millis(11);

/// How long a thread may take to begin. Far more than it does.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the kernel is made out to be.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    name: &'static str,
    /// Calls that it does not have.
    lacks: &'static [(&'static str, i64)],
}

const KERNELS: [Kernel; 2] = [
    Kernel {
        name: "this kernel",
        lacks: &[],
    },
    Kernel {
        name: "the oldest kernel",
        lacks: PROBED.first_chunk::<3>().unwrap(),
    },
];

/// How often a call is failed of those that a request makes again and again, for each mount.
const ENOUGH: usize = 4;

/// How often a request is made before it is taken to make the call no more. Time plays a part in
/// which calls a request makes.
const ATTEMPTS: usize = 5;

/// One for each request and kernel, and for each call that may be lacking.
pub(crate) fn all(matrix: &Arc<Matrix>) -> Vec<Trial> {
    let forbidden = may_not_trace();
    let root = nix::unistd::geteuid().is_root();
    let mut trials = Vec::new();
    for scenario in SCENARIOS {
        for kernel in KERNELS {
            let matrix = Arc::clone(matrix);
            let name = format!("{} on {}", scenario.name, kernel.name);
            trials.push(Trial::ignorable_test(name, move || {
                run(forbidden, root, scenario, || {
                    fail_each(scenario, kernel, &matrix)
                })
            }));
        }
    }
    for lacks in PROBED.chunks(1) {
        let name = format!("every request without {}", lacks[0].0);
        trials.push(Trial::ignorable_test(name, move || {
            if let Some(why) = forbidden {
                return Ok(Completion::ignored_with(why));
            }
            for scenario in SCENARIOS {
                run(forbidden, root, scenario, || without(scenario, lacks))?;
            }
            Ok(Completion::Completed)
        }));
    }
    trials
}

/// Why no thread of another process can be traced, if that is so.
fn may_not_trace() -> Option<&'static str> {
    let served = Served::start().unwrap();
    let seized = Traced::seize(served.pid(), None);
    match seized {
        Err(Errno::EPERM | Errno::ENOSYS) => Some("ptrace(2) is not permitted"),
        _ => None,
    }
}

fn run(
    forbidden: Option<&'static str>,
    root: bool,
    scenario: &Scenario,
    test: impl FnOnce() -> Result<(), Stop>,
) -> Result<Completion, Failed> {
    if let Some(why) = forbidden {
        return Ok(Completion::ignored_with(why));
    }
    if scenario.needs_root && !root {
        return Ok(Completion::ignored_with("needs root"));
    }
    match test() {
        Ok(()) => Ok(Completion::Completed),
        Err(Stop::Skipped(why)) => Ok(Completion::ignored_with(why)),
        Err(Stop::Failed(why)) => Err(why.into()),
    }
}

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
    answer: Result<String, Error>,
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
    /// Makes the request, with these calls failed.
    fn act(
        &mut self,
        served: &Served,
        scenario: &Scenario,
        injections: &[Injection],
    ) -> Result<Made, Stop> {
        let traced = Traced::seize(self.thread, None)?;
        let (caller, ids) = (&mut self.caller, &self.ids);
        let (answer, trail) = thread::scope(|scope| {
            let acting = scope.spawn(|| (scenario.act)(caller, ids));
            let trail = traced.follow(injections);
            (acting.join(), trail)
        });
        Ok(Made {
            answer: answer.map_err(|_| Stop::failed("the request itself panicked"))?,
            trail: trail?,
            tree: Tree::below(&served.root())?,
        })
    }
}

/// Makes the request, with nothing failed, for the calls that it makes.
fn dry(served: &mut Served, scenario: &Scenario) -> Result<(String, Trail, Tree), Stop> {
    let mut ready = ready(served, scenario)?;
    let made = ready.act(served, scenario, &[])?;
    let answer = made.answer?;
    drop(ready);
    served.settle()?.map_err(Stop::failed)?;
    Ok((answer, made.trail, made.tree))
}

/// All requests have to succeed.
fn without(scenario: &Scenario, lacks: &[(&str, i64)]) -> Result<(), Stop> {
    let mut served = Served::start()?;
    served.begin(lacks)?;
    let (_, trail, _) = dry(&mut served, scenario)?;
    let made = |number| trail.calls.contains(number);
    match lacks.iter().find(|(_, number)| made(number)) {
        Some((call, _)) => Err(Stop::failed(format_args!("{} calls {call}", scenario.name))),
        None => Ok(()),
    }
}

fn fail_each(scenario: &Scenario, kernel: Kernel, matrix: &Matrix) -> Result<(), Stop> {
    let mut served = Served::start()?;
    served.begin(kernel.lacks)?;
    let (answer, trail, tree) = dry(&mut served, scenario)?;
    let mut wrong = Vec::new();
    for (index, &number) in trail.calls.iter().enumerate() {
        let Some(call) = call(number) else {
            wrong.push(format!("call {number} is not in the table"));
            continue;
        };
        let earlier = trail.calls[..index].iter();
        let occurrence = earlier.filter(|made| **made == number).count();
        if occurrence >= ENOUGH {
            continue;
        }
        for &errno in call.errnos {
            let injection = Injection {
                number,
                occurrence: Some(occurrence),
                errno,
            };
            let expected = (&answer, &tree);
            let attempt = |_| fail(&mut served, scenario, injection, expected).transpose();
            match (0..ATTEMPTS).find_map(attempt) {
                None => wrong.push(format!("{} {occurrence} is made no more", call.name)),
                Some(Ok(outcome)) => {
                    if reason(scenario.name, call.name, &outcome).is_none() {
                        wrong.push(format!("{} {occurrence} {errno:?}: {outcome:?}", call.name));
                    }
                    let row = (kernel.name, scenario.name, index, call.name, occurrence);
                    if outcome == Outcome::Aborted {
                        served = Served::start()?;
                        served.begin(kernel.lacks)?;
                    }
                    matrix.add(row, errno, outcome);
                }
                Some(Err(Stop::Failed(why))) => {
                    wrong.push(format!("{} {occurrence} {errno:?}: {why}", call.name));
                    // What is left of this one is not to be taken for the next one's.
                    served = Served::start()?;
                    served.begin(kernel.lacks)?;
                }
                Some(Err(skipped)) => return Err(skipped),
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Stop::failed(wrong.join("\n")))
    }
}

/// Makes the request with one call failed; `None` if it does not make that call this time.
fn fail(
    served: &mut Served,
    scenario: &Scenario,
    injection: Injection,
    (answer, tree): (&String, &Tree),
) -> Result<Option<Outcome>, Stop> {
    let mut ready = ready(served, scenario)?;
    let made = ready.act(served, scenario, &[injection])?;
    let outcome = match made.answer {
        _ if made.trail.injected == 0 => None,
        Ok(got) => {
            ensure!(got == *answer, "the answer is {got}, not {answer}");
            let changes = made.tree.changes(tree);
            ensure!(changes.is_none(), "done otherwise: {changes:?}");
            Some(Outcome::Done)
        }
        Err(Error::Remote(errno)) => {
            let changes = made.tree.changes(&ready.tree);
            ensure!(changes.is_none(), "{errno:?}, but {changes:?}");
            let (now, before) = (served.census()?.counts, &ready.census.counts);
            ensure!(now == *before, "{errno:?}, but {now} is held, not {before}");
            let again = ready.act(served, scenario, &[])?;
            let got = again.answer?;
            ensure!(got == *answer, "then the answer is {got}, not {answer}");
            let changes = again.tree.changes(tree);
            ensure!(changes.is_none(), "then done otherwise: {changes:?}");
            Some(if errno == lisafs::Errno::from(injection.errno) {
                Outcome::Refused
            } else {
                Outcome::RefusedAs(errno)
            })
        }
        Err(_) if made.trail.ended && served.aborts()? => return Ok(Some(Outcome::Aborted)),
        Err(broken) => return Err(broken.into()),
    };
    drop(ready);
    served.settle()?.map_err(Stop::failed)?;
    Ok(outcome)
}
