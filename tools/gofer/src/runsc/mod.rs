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
//! | `handshake` | waiting for runsc, and for the sandbox |
//! | `serve` | the order of it all |
#![forbid(unsafe_code)]

mod argv;
mod donated;
mod handshake;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "what mounts comes with the next changes")
)]
mod hooks;
mod log;
mod mount_confs;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "what mounts comes with the next changes")
)]
mod mount_options;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "what mounts comes with the next changes")
)]
mod mounts;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "what mounts comes with the next changes")
)]
mod open_mount;
mod serve;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "what mounts comes with the next changes")
)]
mod spec;

use std::ffi::OsString;
use std::fs::File;
use std::process::ExitCode;

pub(crate) use self::argv::Malformed;
pub(crate) use self::hooks::HookError;
use crate::failure::Failure;

/// With what a gofer ends that cannot serve. An application would hardly choose it.
const FATAL: u8 = 128;

/// Serves a sandbox, given the command line that `runsc` gives its gofer, the name of the program
/// included.
pub(crate) fn run(argv: Vec<OsString>) -> ExitCode {
    // Before anything else, as a command line that is not understood is worth a word.
    let number = argv::log_fd(&argv);
    let log = number.and_then(|number| donated::take("log-fd", number).ok().map(File::from));
    match argv::parse(argv)
        .map_err(Failure::from)
        .and_then(serve::run)
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::fatal(log.as_ref(), &why);
            ExitCode::from(FATAL)
        }
    }
}
