//! Our gofer under gVisor's `runsc`, unmodified but for the gofer that it starts.
//!
//! Each case runs twice, with gVisor's gofer and with ours, and must succeed with both; what the
//! container says and the tree that it leaves on the host have to be the same.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![allow(dead_code)] // of the modules that it shares with `e2e`

mod bundle;
mod command;
mod flags;
mod hooks;
mod identities;
mod life;
mod metadata;
mod mounts;
mod probe;
mod processes;
mod rebuilt;
mod sandbox;
mod scratch;
mod stage;
mod subject;
mod tree_hash;
mod workload;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

use self::scratch::Role;
use self::stage::{Case, Stage};
use self::subject::Release;

/// What is tried with which release: everything, but of the last one only a [`SAMPLE`].
const MATRIX: [(Release, &str); 3] = [
    (Release::Debian, "ptrace"),
    (Release::Head, "systrap"),
    (Release::Head, "ptrace"),
];

/// What is tried on another platform than the release's own. The gofer is not told the platform:
/// what differs is how its clients take turns.
const SAMPLE: [&str; 10] = [
    "life/create-start-delete",
    "life/exec",
    "life/gofer-killed-while-busy",
    "mounts/many",
    "flags/host-uds-all/connect",
    "identities/user-namespace",
    "exclusive/parallel",
    "shared/parallel",
    "exclusive/exec",
    "exclusive/mmap",
];

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let names = || {
        MATRIX
            .into_iter()
            .flat_map(|(release, platform)| cases(release, platform))
    };
    if args.list {
        let trials = names()
            .map(|case| Trial::test(case.name, || Ok(())))
            .collect();
        return libtest_mimic::run(&args, trials).exit_code();
    }
    let trials = match scratch::enter() {
        Ok(Role::Outside(code)) => return code,
        Ok(Role::Inside) => names().map(stage::trial).collect(),
        // Nothing to be installed helps against that: it is no failure in CI either.
        Err(reason) => {
            let ignored = |case: Case| {
                let reason = reason.clone();
                Trial::ignorable_test(case.name, move || Ok(Completion::ignored_with(reason)))
            };
            names().map(ignored).collect()
        }
    };
    libtest_mimic::run(&args, trials).exit_code()
}

fn cases(release: Release, platform: &'static str) -> Vec<Case> {
    let stage = Stage::new(release, platform);
    let common = [life::CASES, mounts::CASES, flags::CASES, identities::CASES];
    let of_head = [
        flags::CASES_OF_HEAD,
        hooks::CASES_OF_HEAD,
        identities::CASES_OF_HEAD,
        rebuilt::CASES,
    ];
    let of_head = of_head.into_iter().filter(|_| release == Release::Head);
    let named = common.into_iter().chain(of_head).flatten();
    let mut cases: Vec<Case> = named
        .map(|(name, act)| Case {
            name: format!("{}/{platform}/{name}", release.name()),
            stage: stage.clone(),
            act: Box::new(act),
        })
        .collect();
    cases.extend(workload::cases(&stage));
    if (release, platform) == (Release::Head, "ptrace") {
        cases.retain(|case| SAMPLE.iter().any(|name| case.name.ends_with(name)));
    }
    cases
}
