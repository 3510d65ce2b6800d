//! Tests that run in a process of their own, which they may ruin.
#![forbid(unsafe_code)]

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use crate::skipped::pass_on;

const CASE: &str = "LISAFS_GOFER_TEST_CASE";

/// Which case this process is to be, if it is not the one that runs them all.
pub(super) fn case() -> Option<String> {
    env::var(CASE).ok()
}

/// Runs the test `name` once more, in another process, where [`case`] is `case`.
pub(super) fn run(name: &str, case: &str) -> Output {
    run_by(&[], name, case)
}

/// The same, started by the program and the words in `around`.
pub(super) fn run_by(around: &[&str], name: &str, case: &str) -> Output {
    again(around, name, (CASE, case))
}

/// The same with a variable of the environment that says so.
pub(super) fn again(around: &[&str], name: &str, (variable, value): (&str, &str)) -> Output {
    // A process that is restricted for good cannot remove what it has made.
    let scratch = tempfile::tempdir().unwrap();
    let program = env::current_exe().unwrap();
    let mut command = match around {
        [] => Command::new(program),
        [first, words @ ..] => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    };
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .env("TMPDIR", scratch.path())
        .output()
        .unwrap()
}

/// The signal that has ended the process, if one has.
pub(super) fn signal_of(output: &Output) -> Option<i32> {
    output.status.signal()
}

/// # Panics
/// If the test failed, or there is none of that name.
pub(super) fn assert_passed(case: &str, output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{case}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    pass_on(&output.stderr);
}
