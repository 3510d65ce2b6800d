//! The tests, where a thread can be traced.

mod call;
mod expected;
mod matrix;
mod scenario;
mod server;
mod tracer;
mod tree;
mod trial;

use std::process::ExitCode;
use std::sync::Arc;

pub(crate) use self::server::called;
use crate::Args;

/// Runs the tests.
pub(crate) fn run(args: &Args) -> ExitCode {
    let matrix = Arc::new(matrix::Matrix::default());
    let conclusion = libtest_mimic::run(&args.harness, trial::all(&matrix));
    if let Some(path) = &args.matrix
        && let Err(why) = std::fs::write(path, matrix.to_string())
    {
        eprintln!("faults: {}: {why}", path.display());
        return ExitCode::from(2);
    }
    if !args.harness.list {
        println!("{}", matrix.sums());
    }
    conclusion.exit_code()
}
