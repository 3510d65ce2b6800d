//! A gofer in its sandbox as others see it, on machines and in places that are unlike each other.
//!
//! What this user or this machine cannot do is ignored, and says why.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // a test may panic

mod census;
mod container;
mod mounts;
#[path = "../gofer/process.rs"]
#[allow(dead_code)] // what other tests use
mod process;
mod shortage;

use std::process::ExitCode;

use caps::{CapSet, Capability};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What a trial takes, and whether it is there.
#[derive(Clone, Copy)]
pub(crate) enum Need {
    /// To mount, and to look into a process that is not dumpable.
    Privileges,
    /// That anybody can make a user namespace.
    UserNamespaces,
}

impl Need {
    fn missing(self) -> Option<&'static str> {
        let is_there = match self {
            Need::Privileges => {
                let has = |capability| caps::has_cap(None, CapSet::Effective, capability);
                has(Capability::CAP_SYS_ADMIN).unwrap() && has(Capability::CAP_SYS_PTRACE).unwrap()
            }
            Need::UserNamespaces => shortage::can_unshare(),
        };
        let why = match self {
            Need::Privileges => "needs root, with CAP_SYS_ADMIN and CAP_SYS_PTRACE",
            Need::UserNamespaces => "needs a user who can make user namespaces, with unshare(1)",
        };
        (!is_there).then_some(why)
    }
}

fn trial(name: &'static str, need: Need, test: fn()) -> Trial {
    Trial::ignorable_test(name, move || -> Result<Completion, Failed> {
        if let Some(why) = need.missing() {
            return Ok(Completion::ignored_with(why));
        }
        test();
        Ok(Completion::Completed)
    })
}

fn main() -> ExitCode {
    let trials = [
        census::TRIALS,
        container::TRIALS,
        mounts::TRIALS,
        shortage::TRIALS,
    ];
    let trials = trials.into_iter().flatten();
    let trials = trials.map(|(name, need, test)| trial(name, *need, *test));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
