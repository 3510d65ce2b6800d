//! One request with each of its calls failed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use libtest_mimic::{Completion, Failed, Trial};
use lisafs_conformance::Stop;
use nix::errno::Errno;

use super::Record;
use super::attempt::{dry, fail};
use super::call::{CLONE3, PROBED, Probed, all_are_probed, call};
use super::expected::Outcome;
use super::scenario::{Scenario, Setting, cover_all_messages, refusal, scenarios};
use super::server::Served;
use super::tracer::{Injection, Traced};

/// What the kernel is made out to be.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    name: &'static str,
    /// Calls that it does not have, which the back end finds out when it starts.
    lacks: &'static [Probed],
    /// Those whose want is found out each time.
    pub(super) lacks_always: &'static [i64],
}

const KERNELS: [Kernel; 2] = [
    Kernel {
        name: "this kernel",
        lacks: &[],
        lacks_always: &[],
    },
    Kernel {
        name: "the oldest kernel",
        lacks: PROBED.first_chunk::<3>().unwrap(),
        lacks_always: &[CLONE3],
    },
];

/// How often a call is failed of those that a request makes again and again, for each mount.
const ENOUGH: usize = 4;

/// How often a request is made before it is taken to make the call no more. Time plays a part in
/// which calls a request makes.
const ATTEMPTS: usize = 5;

/// One for each request and kernel, for each call that may be lacking, and for what is listed here.
pub(super) fn all(record: &Arc<Record>) -> Vec<Trial> {
    let forbidden = may_not_trace();
    let root = nix::unistd::geteuid().is_root();
    let mut trials = vec![
        Trial::test("each message has a scenario", || Ok(cover_all_messages()?)),
        Trial::test("each call that is looked for is listed", || {
            Ok(all_are_probed()?)
        }),
    ];
    for scenario in scenarios() {
        for kernel in KERNELS {
            let record = Arc::clone(record);
            let name = format!("{} on {}", scenario.name, kernel.name);
            trials.push(Trial::ignorable_test(name, move || {
                run(forbidden, root, scenario, || {
                    fail_each(scenario, kernel, &record)
                })
            }));
        }
    }
    for lacks in PROBED.chunks(1) {
        let name = format!("every request without {}", lacks[0].name);
        trials.push(Trial::ignorable_test(name, move || {
            without(forbidden, root, lacks)
        }));
    }
    trials
}

/// Why no thread of another process can be traced, if that is so.
fn may_not_trace() -> Option<&'static str> {
    let served = Served::start(Setting::Plain).unwrap();
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

/// A server of the setting, on the kernel.
fn start(setting: Setting, kernel: Kernel) -> Result<Served, Stop> {
    let mut served = Served::start(setting)?;
    match served.begin(kernel.lacks) {
        Err(why) if setting == Setting::Mounted && why.kind() == ErrorKind::PermissionDenied => {
            Err(Stop::skipped("mount(2) is not permitted"))
        }
        begun => Ok(begun.map(|()| served)?),
    }
}

/// Makes every request where there are no such calls, and says which could not be made.
fn without(
    forbidden: Option<&'static str>,
    root: bool,
    lacks: &'static [Probed],
) -> Result<Completion, Failed> {
    if let Some(why) = forbidden {
        return Ok(Completion::ignored_with(why));
    }
    let name = lacks[0].name;
    if !Served::start(Setting::Plain)?.asks_for(lacks)? {
        let why = format!("on this kernel {name}(2) is not asked for");
        return Ok(Completion::ignored_with(why));
    }
    let mut left_out = BTreeMap::<_, usize>::new();
    for scenario in scenarios() {
        let made = run(forbidden, root, scenario, || make_without(scenario, lacks))?;
        if let Completion::Ignored { reason } = made {
            *left_out.entry(reason.unwrap_or_default()).or_default() += 1;
        }
    }
    for (why, requests) in left_out {
        eprintln!("skipped: every request without {name}: {requests} of them, {why}");
    }
    Ok(Completion::Completed)
}

/// The request has to succeed.
fn make_without(scenario: &Scenario, lacks: &'static [Probed]) -> Result<(), Stop> {
    let kernel = Kernel {
        lacks,
        ..KERNELS[0]
    };
    let mut served = start(scenario.setting, kernel)?;
    let trail = dry(&mut served, scenario, kernel)?.trail;
    let is_made = |probed: &&Probed| trail.calls.contains(&probed.number);
    match lacks.iter().find(is_made) {
        Some(Probed { name, .. }) => {
            Err(Stop::failed(format_args!("{} calls {name}", scenario.name)))
        }
        None => Ok(()),
    }
}

fn fail_each(scenario: &Scenario, kernel: Kernel, record: &Record) -> Result<(), Stop> {
    let mut served = start(scenario.setting, kernel)?;
    let dry = dry(&mut served, scenario, kernel)?;
    let mut wrong = Vec::new();
    for (index, &number) in dry.trail.calls.iter().enumerate() {
        let Some(call) = call(number) else {
            wrong.push(format!("call {number} is not in the table"));
            continue;
        };
        let earlier = dry.trail.calls[..index].iter();
        let occurrence = earlier.filter(|made| **made == number).count();
        if occurrence >= ENOUGH {
            continue;
        }
        for &errno in call.errnos {
            // That is how it fails when nothing is made to.
            if dry.answer == refusal(errno.into()) {
                continue;
            }
            let injection = Injection {
                number,
                occurrence: Some(occurrence),
                errno,
            };
            let attempt = |_| fail(&mut served, scenario, kernel, injection, &dry).transpose();
            match (0..ATTEMPTS).find_map(attempt) {
                None => wrong.push(format!("{} {occurrence} is made no more", call.name)),
                Some(Ok(outcome)) => {
                    if !record.expected.allows(scenario.name, call.name, &outcome) {
                        wrong.push(format!("{} {occurrence} {errno:?}: {outcome:?}", call.name));
                    }
                    let row = (kernel.name, scenario.name, index, call.name, occurrence);
                    if outcome == Outcome::Aborted {
                        served = start(scenario.setting, kernel)?;
                    }
                    record.matrix.add(row, errno, outcome);
                }
                Some(Err(Stop::Failed(why))) => {
                    wrong.push(format!("{} {occurrence} {errno:?}: {why}", call.name));
                    // What is left of this one is not to be taken for the next one's.
                    served = start(scenario.setting, kernel)?;
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
