//! A gofer in its sandbox as others see it, on machines and in places that are unlike each other.
//!
//! What this user or this machine cannot do is ignored, and says why; where `CI` is set, root can do
//! all of it.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // a test may panic

mod attributes;
mod census;
mod container;
mod mounts;
#[path = "../gofer/process.rs"]
#[allow(dead_code)] // what other tests use
mod process;
mod runsc;
mod shortage;
#[path = "../gofer/tracer.rs"]
mod tracer;

use std::process::ExitCode;

use caps::{CapSet, Capability};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::unistd::geteuid;

/// What a trial takes, and whether it is there.
#[derive(Clone, Copy)]
pub(crate) enum Need {
    /// To mount, and to look into a process that is not dumpable.
    Privileges,
    /// That anybody can make a user namespace.
    UserNamespaces,
    /// To have mounts of one's own.
    MountNamespaces,
    /// To trace a child.
    Tracing,
    Nothing,
}

impl Need {
    fn missing(self) -> Option<&'static str> {
        let is_there = match self {
            Need::Privileges => {
                let has = |capability| caps::has_cap(None, CapSet::Effective, capability);
                has(Capability::CAP_SYS_ADMIN).unwrap() && has(Capability::CAP_SYS_PTRACE).unwrap()
            }
            Need::UserNamespaces => shortage::can_unshare(),
            Need::MountNamespaces => runsc::can_unshare(),
            Need::Tracing => tracer::may_trace(),
            Need::Nothing => true,
        };
        let why = match self {
            Need::Privileges => "needs root, with CAP_SYS_ADMIN and CAP_SYS_PTRACE",
            Need::UserNamespaces => "needs a user who can make user namespaces, with unshare(1)",
            Need::MountNamespaces => "needs a user who can make mount namespaces, with unshare(1)",
            Need::Tracing => "ptrace(2) is not permitted",
            Need::Nothing => "",
        };
        (!is_there).then_some(why)
    }
}

fn trial(name: &'static str, need: Need, test: fn()) -> Trial {
    Trial::ignorable_test(name, move || -> Result<Completion, Failed> {
        match need.missing() {
            Some(why) if geteuid().is_root() && std::env::var_os("CI").is_some() => {
                return Err(why.into());
            }
            Some(why) => return Ok(Completion::ignored_with(why)),
            None => {}
        }
        test();
        Ok(Completion::Completed)
    })
}

fn main() -> ExitCode {
    let trials = [
        attributes::TRIALS,
        census::TRIALS,
        container::TRIALS,
        mounts::TRIALS,
        runsc::TRIALS,
        shortage::TRIALS,
    ];
    let trials = trials.into_iter().flatten();
    let trials = trials.map(|(name, need, test)| trial(name, *need, *test));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
