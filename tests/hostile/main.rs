//! Clients that break every rule they can, against a server in a process of its own.
//!
//! `cargo test -p lisafs-gofer --test hostile -- --long` runs the full counts, `--json FILE` writes
//! what happened, `--gvisor GOSERVER` has gVisor's server attacked as well. Each case has a server of
//! its own, and a directory next to what is served that nobody may reach; when the case is over,
//! the process is looked at from outside ([`stage`]): it must be alive, answer others, have given
//! everything back, have logged no bug, and have left that directory alone.
//!
//! [`attacks`] is the table of what is attacked, by the numbers that the threat model gives it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)] // a test may panic

mod accomplice;
mod attacks;
mod case;
mod cases;
mod chance;
mod documented;
mod hung;
#[path = "../server/lingering.rs"]
mod lingering;
mod observed;
mod outside;
#[path = "../../tools/gofer/tests/gofer/process.rs"]
#[allow(dead_code)] // what other tests use
mod process;
mod report;
mod sources;
mod stage;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use libtest_mimic::Trial;

use self::case::Scale;
use self::report::Report;
use self::stage::Program;

/// Attacks a server, and looks at what is left of it.
#[derive(Parser)]
#[command(
    help_template = "{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}\n"
)]
struct Args {
    /// Run the full counts: a million requests under scribbling, a million swaps, 100,000 levels,
    /// 10,000 kills. Takes an hour or so
    #[arg(long)]
    long: bool,

    /// Where the random choices begin
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// What sandbox our server is to be in
    ///
    /// `off` by default: the checks have to hold without one.
    #[arg(long, value_name = "HOW", default_value = "off")]
    sandbox: String,

    /// Write what happened to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Attack gVisor's server, too: `goserver`, built from tests/interop/go
    ///
    /// What it does not survive is printed, and is no failure.
    #[arg(long, value_name = "GOSERVER")]
    gvisor: Option<PathBuf>,

    #[command(flatten)]
    harness: libtest_mimic::Arguments,
}

fn main() -> ExitCode {
    if let Some(code) = accomplice::called() {
        return code;
    }
    let args = Args::parse();
    if let Err(why) = hung::leave_mounts_alone() {
        eprintln!("hostile: no mounts of its own: {why}");
        return ExitCode::from(2);
    }
    let scale = if args.long { Scale::Long } else { Scale::Short };
    let ours = Program::ours(args.sandbox);
    let theirs = args.gvisor.map(Program::gvisors);
    let report = Arc::new(Report::default());
    let mut trials = vec![
        Trial::test("every_attack_has_an_answer", || {
            attacks::check().map_err(Into::into)
        }),
        Trial::test("what_clients_cause_is_logged_rarely", || {
            attacks::check_log().map_err(Into::into)
        }),
        Trial::test("every_answer_is_documented", || {
            documented::check().map_err(Into::into)
        }),
        Trial::test("every_incident_is_answered", || {
            documented::check_incidents().map_err(Into::into)
        }),
    ];
    for case in cases::all() {
        let report = Arc::clone(&report);
        let (ours, theirs) = (ours.clone(), theirs.clone());
        trials.push(Trial::ignorable_test(case.full_name(), move || {
            if let Some(theirs) = theirs.filter(|_| case.ours_only.is_none()) {
                report.add(case.run(&theirs, scale, args.seed));
            }
            let outcome = case.run(&ours, scale, args.seed);
            let completion = outcome.completion();
            report.add(outcome);
            completion
        }));
    }
    let conclusion = libtest_mimic::run(&args.harness, trials);
    if !args.harness.list {
        print!("{report}");
    }
    if let Some(path) = args.json
        && let Err(why) = std::fs::write(&path, report.json().to_string())
    {
        eprintln!("hostile: {}: {why}", path.display());
        return ExitCode::from(2);
    }
    conclusion.exit_code()
}
