//! The gofer of a stock `runsc`.
//!
//! `runsc` starts its gofer by executing itself again. What it tells that process, and what it
//! expects of it, is not written down by gVisor and has changed: both the runsc of 2022 that Debian
//! has and today's are understood.
//!
//! | | |
//! |---|---|
//! | `argv` | the command line, in both dialects |
//! | `mount_confs` | the flag that says what each mount consists of |
//! | `donated` | the descriptors that come with it |
//! | `log` | what is logged, and why it ends, in runsc's formats |
//! | `spec` | what a gofer needs of `config.json` |
//! | `mounts` | which mounts are served on which socket, and the list that tells the sandbox |
//! | `mount_options` | what the options of a mount amount to |
//! | `open_mount` | sources that `runsc` has to open |
//! | `hooks` | programs that are run when the mounts are there |
//! | `container` | its mounts, put together |
//! | `handshake` | waiting for runsc, and for the sandbox |
//! | `connections` | serving |
//! | `serve` | the order of it all |
//! | `fuzzing` | what `tests/fuzz` calls, there only where that is built |
#![forbid(unsafe_code)]

mod argv;
mod connections;
mod container;
mod donated;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod handshake;
mod hooks;
mod log;
mod mount_confs;
mod mount_options;
mod mounts;
mod open_mount;
mod serve;
mod spec;

use std::ffi::OsString;
use std::fs::File;
use std::process::ExitCode;

pub(crate) use self::argv::Malformed;
pub(crate) use self::hooks::HookError;
pub(crate) use self::mount_options::{RootPropagationError, Shared};
pub(crate) use self::mounts::PlanError;
pub(crate) use self::open_mount::OpenMountError;
pub(crate) use self::spec::SpecError;
use crate::failure::Failure;
use crate::panics;

/// With what a gofer ends that cannot serve. An application would hardly choose it.
const FATAL: u8 = 128;

/// Serves a sandbox, given the command line that `runsc` gives its gofer, the name of the program
/// included. With `trace` each request is logged.
pub(crate) fn run(argv: Vec<OsString>, trace: bool) -> ExitCode {
    log::learn_time_zone();
    // Before anything is understood, as a command line that is not understood is worth a word.
    let number = argv::log_fd(&argv);
    let log = number.and_then(|number| donated::take("log-fd", number).ok().map(File::from));
    guarded(log.as_ref(), |report| {
        let invocation = argv::parse(argv)
            .map_err(Failure::from)
            .inspect_err(report)?;
        serve::run(&invocation, trace, report)
    })
}

/// Does `work`, which reports why it fails. A panic is a failure as well: a thread that has nobody to
/// catch it ends the process with another number, and without a word on `log`.
fn guarded(
    log: Option<&File>,
    work: impl FnOnce(&dyn Fn(&Failure)) -> Result<(), Failure>,
) -> ExitCode {
    let report = |why: &Failure| log::fatal(log, why);
    match panics::caught(|| work(&report)).inspect_err(report) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(_)) | Err(_) => ExitCode::from(FATAL),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use lisafs::Errno;
    use serde_json::Value;

    use super::*;

    /// With what it ends, and what it says.
    fn end(work: impl FnOnce(&dyn Fn(&Failure)) -> Result<(), Failure>) -> (ExitCode, String) {
        let mut log = tempfile::tempfile().unwrap();
        let code = guarded(Some(&log), work);
        log.rewind().unwrap();
        let mut said = String::new();
        log.read_to_string(&mut said).unwrap();
        (code, said)
    }

    fn message(said: &str) -> String {
        let line: Value = serde_json::from_str(said).unwrap();
        assert_eq!(line["level"], "error");
        line["msg"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_is_told_as_a_failure_is() {
        let (code, said) = end(|report| {
            let why = Failure::Connection(Errno::EIO.into());
            report(&why);
            Err(why)
        });
        assert_eq!(code, ExitCode::from(FATAL));
        assert!(message(&said).contains("cannot serve the connection"));
        let (code, said) = end(|_| panic!("as if\nthere were {}", "one"));
        assert_eq!(code, ExitCode::from(FATAL));
        assert!(message(&said).ends_with("please report it: as if\\nthere were one"));
        assert_eq!(end(|_| Ok(())), (ExitCode::SUCCESS, String::new()));
    }
}
