//! The tests, where a thread can be traced.

mod attempt;
mod call;
mod expected;
mod matrix;
mod scenario;
mod server;
mod serving;
mod tracer;
mod tree;
mod trial;

use std::process::ExitCode;
use std::sync::Arc;

pub(crate) use self::serving::called;
use crate::Args;

/// Runs the tests.
pub(crate) fn run(args: &Args) -> ExitCode {
    let record = Arc::new(Record::default());
    let trials = trial::all(&record);
    let conclusion = libtest_mimic::run(&args.harness, trials);
    if let Some(path) = &args.matrix
        && let Err(why) = std::fs::write(path, record.matrix.to_string())
    {
        eprintln!("faults: {}: {why}", path.display());
        return ExitCode::from(2);
    }
    if args.harness.list {
        return conclusion.exit_code();
    }
    println!("{}", record.matrix.sums());
    // A failure may have kept others from being looked at.
    if conclusion.num_filtered_out > 0 || conclusion.has_failed() {
        return conclusion.exit_code();
    }
    let complete = conclusion.num_ignored == 0;
    let unused = record.expected.unused(&record.matrix.failed(), complete);
    for exception in &unused.out_of_reach {
        println!("not met, for want of the request or the call: {exception}");
    }
    for exception in &unused.needless {
        eprintln!("faults: an exception is needless: {exception}");
    }
    if unused.needless.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What a run has come to.
#[derive(Debug, Default)]
struct Record {
    matrix: matrix::Matrix,
    expected: expected::Expected,
}
