//! The gofer inside of another program, which executes itself again to be one.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitCode};

/// The verb under which a program is the gofer. Nobody is meant to type it.
const VERB: &str = "internal-gofer";

/// A process that was started by [`Embedded::command`], and is to be the gofer.
#[derive(Debug)]
pub struct Embedded {
    command_line: Vec<OsString>,
}

impl Embedded {
    /// Whether this process is to be the gofer. To be asked first of all in `main`.
    #[must_use]
    pub fn from_env() -> Option<Embedded> {
        Embedded::from_command_line(env::args_os())
    }

    fn from_command_line(words: impl IntoIterator<Item = OsString>) -> Option<Embedded> {
        let mut words = words.into_iter();
        let program = words.next()?;
        words.next().filter(|verb| verb == VERB)?;
        let command_line = std::iter::once(program).chain(words).collect();
        Some(Embedded { command_line })
    }

    /// Runs the gofer, as [`main`](crate::main) does.
    #[must_use]
    pub fn run(self) -> ExitCode {
        crate::main(self.command_line)
    }

    /// What starts `program`, which has to be this one, as a gofer that serves and logs nothing but
    /// errors. It is locked in as far as the system permits, and does not tell what is missing: its client is
    /// who has started it, once for each command. How to be reached is to be added, and the directory, behind
    /// `--`.
    #[must_use]
    pub fn command(program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .args([VERB, "serve"])
            .args(["--log", "error", "--sandbox", "best-effort"]);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_starts_is_known_again() {
        let command = Embedded::command("program");
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let embedded = Embedded::from_command_line(words.map(OsStr::to_owned)).unwrap();
        let words = [
            "program",
            "serve",
            "--log",
            "error",
            "--sandbox",
            "best-effort",
        ];
        assert_eq!(embedded.command_line, words);
        for other in [&[][..], &["program"], &["program", "ls", VERB]] {
            let words = other.iter().map(OsString::from);
            assert!(Embedded::from_command_line(words).is_none(), "{other:?}");
        }
    }
}
