//! `lisafs-gofer`: serves a host directory to lisafs clients.
//!
//! The library is the whole program, so that other programs can start one of themselves without
//! having to find a binary: they execute themselves again ([`Embedded`]).
//!
//! [`main`] takes the process over: it changes the umask, resource limits, signal mask and
//! dispositions and the panic hook, and expects no other threads.
//!
//! | | |
//! |---|---|
//! | `args` | the command line |
//! | `embedded` | the library where another program executes itself to be a gofer |
//! | `multiplexer` | the binary where `runsc` executes it instead of itself |
//! | `install` | making a `runsc` do so, and undoing it |
//! | `process` | what the process is set to before it serves |
//! | `listener`, `inherited` | the socket: one to listen on, or one that is connected |
//! | `panics` | what is said of a bug |
//! | `socket_name`, `keeper` | the name of a socket, and the process that removes it |
//! | `turn` | who makes or removes such names in a directory |
//! | `check` | what of the sandbox can be had |
//! | `signals` | SIGTERM, SIGINT and SIGUSR2 as events |
//! | `serve` | accepting, serving, draining |
//! | `refusals` | what is said of clients that are not served |
//! | `runsc` | being the gofer of a stock runsc |
//! | `metrics` | what was served, in numbers, on a socket |
//! | `trace` | what they were asked, line by line |
//! | `child` | waiting for a process, and for how long |
//! | `failure` | what can be in the way |
//! | `jail` | the sandbox: namespaces, mounts, capabilities, Landlock, system calls |
//! | `sys` | system calls that nix has no safe call for |
//! | `skipped` | tests that cannot run here, there only where tests are built |
//! | `fuzzing` | doors for `tests/fuzz`, there only where that is built |

mod args;
mod check;
mod child;
mod closing;
mod embedded;
mod failure;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod inherited;
mod install;
mod jail;
mod keeper;
mod listener;
mod metrics;
mod multiplexer;
mod panics;
mod process;
mod refusals;
mod runsc;
mod serve;
mod signals;
#[cfg(test)]
mod skipped;
mod socket_name;
mod sys;
mod trace;
mod turn;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing::error;

use self::args::{Args, ServeOptions, Verb};
pub use self::child::wait as wait_for_child;
pub use self::embedded::Embedded;
pub use self::inherited::{Unfit, take as take_inherited};
pub use self::multiplexer::start;
pub use self::signals::heeded;

/// Runs the gofer with a command line, the name of the program included.
///
/// Exits with 0 when all clients were served to the end, with 1 when a request was still running
/// at the end of a drain, and with 2 when it cannot serve, or cannot do what else it was told.
/// Under runsc, which has a number of its own for that, with 128 when it cannot serve.
#[must_use]
pub fn main(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(command_line) {
        Ok(args) => args,
        Err(why) => {
            // Nobody is left to tell if that fails.
            let _ = why.print();
            return if why.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match args.verb {
        Verb::Serve(options) => serve(&options),
        Verb::Check(options) => check::run(&options),
        Verb::Runsc(options) => runsc::run(options.argv, options.trace),
        Verb::Install(options) => report(install::install(&options)),
        Verb::Uninstall(options) => report(install::uninstall(&options)),
    }
}

/// The command line, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// Prints what was done, or why it was not.
fn report(outcome: Result<impl Display, impl Display>) -> ExitCode {
    // Nobody is left to tell if these fail.
    match outcome {
        Ok(done) => {
            let _ = write!(io::stdout(), "{done}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            let _ = writeln!(io::stderr(), "lisafs-gofer: {why}");
            ExitCode::from(2)
        }
    }
}

fn serve(options: &ServeOptions) -> ExitCode {
    // A log that nobody reads any more is no reason to end: no word about what cannot be written,
    // and none if this process logs elsewhere already.
    let _ = tracing_subscriber::fmt()
        .with_max_level(options.log)
        .with_writer(io::stderr)
        // Whoever builds this along with others may have colours, which are for no file and no journal.
        .with_ansi(false)
        .log_internal_errors(false)
        .try_init();
    panics::log();
    match serve::run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            error!("a request was still running when the time for it was up");
            ExitCode::from(1)
        }
        Err(why) => {
            let _ = writeln!(io::stderr(), "lisafs-gofer: {why}");
            ExitCode::from(2)
        }
    }
}
