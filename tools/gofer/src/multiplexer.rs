//! What `runsc` executes where it would execute itself.
//!
//! A `runsc` that was made to use this gofer starts everything that it does in another process
//! through one path, and that path leads here. Its gofers are run in this process; all else is
//! handed to one of two `runsc`s by execve(2), with the command line, the environment and the
//! descriptors as they came:
//!
//! - to the original where the sandbox is started. It executes itself again after it has changed
//!   its root, where nothing but itself can be found.
//! - to the one that leads here for all the rest, which may start gofers of its own.
//!
//! Nothing is configured. The two lie beside the multiplexer, whose own path procfs tells: the
//! environment is empty when a sandbox is started, and runsc needs procfs for the same purpose.
//! Who could change what lies there could replace this program as well, so there is nothing to
//! check here; the installation has looked at who can.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::install::Libexec;

/// Runs the gofer as its binary: as the multiplexer if this process is one, as [`crate::main`]
/// otherwise.
///
/// It is a multiplexer if its executable is what `lisafs-gofer install` makes of this program. No
/// word of the command line has a say in that.
#[must_use]
pub fn start(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Where this path cannot be had nothing was installed.
    let installed = env::current_exe().ok().and_then(|exe| Libexec::of(&exe));
    match installed {
        None => crate::main(command_line),
        Some(installed) => pass_on(&installed, command_line.into_iter().collect()),
    }
}

fn pass_on(installed: &Libexec, argv: Vec<OsString>) -> ExitCode {
    match route(&argv) {
        Route::Gofer => {
            let verb = ["lisafs-gofer", "runsc", "--"].map(OsString::from);
            crate::main(verb.into_iter().chain(argv))
        }
        Route::Original => execute(&installed.original(), &argv),
        Route::Redirected => execute(&installed.redirected(), &argv),
    }
}

/// Returns only if that cannot be executed.
fn execute(program: &Path, argv: &[OsString]) -> ExitCode {
    let mut words = argv.iter();
    let mut command = Command::new(program);
    command.arg0(
        words
            .next()
            .map_or(OsStr::new("runsc"), OsString::as_os_str),
    );
    let why = command.args(words).exec();
    // Nobody is left to tell if that fails.
    let _ = writeln!(
        io::stderr(),
        "lisafs-gofer: {}: {why}: install it again",
        program.display()
    );
    ExitCode::from(FATAL)
}

/// What runsc exits with when it cannot go on.
const FATAL: u8 = 128;

/// Who is to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// This process.
    Gofer,
    /// The runsc that executes itself.
    Original,
    /// The runsc that executes the multiplexer.
    Redirected,
}

fn route(argv: &[OsString]) -> Route {
    match subcommand(argv).map(OsStr::as_bytes) {
        Some(b"gofer") => Route::Gofer,
        Some(b"boot" | b"umount") => Route::Original,
        _ => Route::Redirected,
    }
}

/// The subcommand, if it is certain which word that is.
///
/// runsc writes its flags as one word each. Where it repeats the command line of its user, flags
/// may be followed by a value, which can be any word: those command lines are known by their first
/// word, and only a subcommand that comes before all flags is believed there. Users do not type
/// those that matter.
fn subcommand(argv: &[OsString]) -> Option<&OsStr> {
    let (name, words) = argv.split_first()?;
    let typed = name == "runsc-exec" || name.as_bytes().contains(&b'/');
    let words = words.iter().map(OsString::as_os_str);
    let is_flag = |word: &OsStr| word.as_bytes().starts_with(b"-");
    if typed {
        words.take(1).find(|word| !is_flag(word))
    } else {
        words.into_iter().find(|word| !is_flag(word))
    }
}

#[cfg(test)]
mod tests {
    use super::{Route, route};

    #[test]
    fn each_command_line_goes_where_it_belongs() {
        for (line, expected) in [
            // As both versions write them.
            (
                "runsc-gofer --root=/r --debug=true --debug-log-fd=3 gofer --bundle /b --io-fds=5",
                Route::Gofer,
            ),
            ("runsc-gofer gofer --bundle boot", Route::Gofer),
            (
                "runsc-sandbox --root=/r --log-fd=3 boot --bundle=/b --io-fds=4 id",
                Route::Original,
            ),
            ("runsc-sandbox --log-fd=3 boot gofer", Route::Original),
            ("/etc/lisafs/g0 umount --sync-fd=3 /proc", Route::Original),
            ("/etc/lisafs/g0 --rootless do true", Route::Redirected),
            (
                "runsc-exec --root=/r exec --pid-file=/p id sh",
                Route::Redirected,
            ),
            ("runsc[getUsernsFD]", Route::Redirected),
            ("", Route::Redirected),
            // What users can type.
            (
                "/etc/lisafs/g0 --rootless --root boot do true",
                Route::Redirected,
            ),
            (
                "/etc/lisafs/g0 --rootless --root gofer do true",
                Route::Redirected,
            ),
            ("/etc/lisafs/g0 do gofer", Route::Redirected),
            ("runsc-exec --root boot exec id sh", Route::Redirected),
            ("/etc/lisafs/g0 --version", Route::Redirected),
            // A flag of one dash is one.
            ("runsc-gofer -root=/r gofer", Route::Gofer),
        ] {
            let argv: Vec<_> = line.split_whitespace().map(Into::into).collect();
            assert_eq!(route(&argv), expected, "{line}");
        }
    }
}
