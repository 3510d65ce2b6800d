//! Every system call that a request makes the host back end make, failed once.
//!
//! A server in a process of its own serves a directory (`server`). Each request (`scenario`) is made
//! once to see which calls the thread makes that serves it, and then once for each call and each
//! errno that this call may fail with (`call`): the thread is traced (`tracer`), and the call is
//! answered by the tracer and not made. Then (`trial`)
//!
//! - the client has been told that errno, or what `expected` says, or the request has succeeded
//!   where that says so;
//! - a request that was refused has changed nothing, neither files, their times and extended attributes
//!   (`tree`), nor ids, objects and nodes;
//! - the same request succeeds when it is made again;
//! - when the client is gone the process has the descriptors and threads that it had before.
//!
//! All of it is done twice: on this kernel, and where all newer calls that the back end asks for are
//! answered ENOSYS from the start, as by the oldest kernel that it runs on. `--matrix FILE` writes down
//! what each failure has led to.
//!
//! Each message has a request here, and what `expected` says has come about at least once: a run in which
//! it has not fails.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)] // a test may panic

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod traced;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Fails each system call of each request once.
#[derive(Parser)]
#[command(
    help_template = "{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}\n"
)]
struct Args {
    /// Write to a file what became of each request for each call that has failed
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,

    #[command(flatten)]
    harness: libtest_mimic::Arguments,
}

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn main() -> ExitCode {
    traced::called().unwrap_or_else(|| traced::run(&Args::parse()))
}

/// The registers of a traced thread are those of one architecture.
#[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
fn main() -> ExitCode {
    let Args { matrix: _, harness } = Args::parse();
    let trial = libtest_mimic::Trial::ignorable_test("every_call_fails_once", || {
        Ok(libtest_mimic::Completion::ignored_with(
            "needs x86-64 and glibc",
        ))
    });
    libtest_mimic::run(&harness, vec![trial]).exit_code()
}
