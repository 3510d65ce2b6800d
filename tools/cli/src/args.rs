//! The command line.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use clap::{ArgGroup, Parser, Subcommand, ValueHint};
use flipcall::WaitPolicy;

use crate::failure::Stop;
use crate::verb::Verb;
use crate::{conform, manual, mount, shell, top};

const EXAMPLES: &str = "\
Examples:
  lisafs --serve /usr/share ls -lR .       a private server for /usr/share, and a look at it
  lisafs --connect /run/gofer.sock info    what a server can do
  lisafs --serve . put -r ~/project .      a directory, with modes, times and symbolic links
  lisafs --serve . shell                   one command after the other

Try `lisafs --help` for more, and `lisafs COMMAND --help` for a command.";

const MORE: &str = "\
Paths start at the root of what is served, with or without a slash. Symbolic links are followed by
this program, never by the server, and lead nowhere else.

Names that are not UTF-8 or hold control characters are escaped on a terminal (\\xff), and written
as they are everywhere else.

With --json every result is an object on a line of its own. What is a name or a path or other bytes
of the server is a string under its own key, \"name\", if it is UTF-8; otherwise its bytes are in
hexadecimal under the key with _hex behind it, \"name_hex\". Messages stay on stderr.

Exit status: 0 when all went well, 1 when the answer is no (no such file, permission denied …), 2
for a wrong command line, or when there is no server to answer. A closed pipe is no error.

Examples:
  lisafs --serve /usr/share ls -lR .
      A private server for /usr/share, and a look at it
  lisafs --connect /run/gofer.sock info
      What a server can do
  lisafs --serve . put -r ~/project .
      A directory, with modes, times and symbolic links
  lisafs --serve . ping --op walk
      How fast it is
  lisafs --serve . shell
      One command after the other, with a current directory
  lisafs --connect /run/gofer.sock conform
      Whether it does what the protocol asks
  lisafs --serve . rpc --walk README.md FStat fd=@fd
      A single message, as it is";

/// Looks at, reads and changes what a lisafs server serves
///
/// Talks to a server that listens on a socket (--connect), to one at the other end of a socket that
/// was inherited (--fd), or to one of its own for a directory of this machine (--serve), which ends
/// with this program. That one locks itself in as far as this machine permits; what is missing is not
/// told, but `lisafs-gofer check` says it.
#[derive(Debug, Parser)]
#[command(
    name = "lisafs",
    version,
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = MORE,
    subcommand_help_heading = "Commands",
    override_usage = "lisafs <--connect SOCKET|--fd N|--serve DIR> [OPTIONS] COMMAND",
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) target: Target,

    /// Print results for programs: an object on each line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// How to wait for answers: adaptive, park, or spin=USEC
    ///
    /// `adaptive` polls where that has paid, and sleeps else. `park` sleeps. `spin` polls for so
    /// many microseconds before it sleeps. The private server of --serve waits in the same way.
    #[arg(long, global = true, value_name = "HOW", default_value_t)]
    pub(crate) wait: WaitPolicy,

    /// How many shared-memory channels to open at the most; 0 is to use the socket alone
    #[arg(long, global = true, value_name = "N", default_value_t = 2)]
    pub(crate) channels: usize,

    /// Write a line for each request on stderr, as strace does for system calls
    #[arg(long, global = true)]
    pub(crate) trace: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// For words of the command line that are paths of the server: no file of this machine completes
/// them.
pub(crate) const REMOTE: ValueHint = ValueHint::Other;

/// Whom to talk to. Which commands do without, the parser cannot tell.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("server").args(["connect", "fd", "serve"])))]
pub(crate) struct Target {
    /// Talk to the server that listens on this socket
    #[arg(long, value_name = "SOCKET")]
    pub(crate) connect: Option<PathBuf>,

    /// Talk to the server at the other end of this inherited socket
    #[arg(long, value_name = "N")]
    pub(crate) fd: Option<i32>,

    /// Serve this directory, to this command alone
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) serve: Option<PathBuf>,
}

impl Target {
    /// Refuses a server where `option` says which.
    pub(crate) fn none_with(&self, option: &str) -> Result<(), Stop> {
        let given = [
            ("--connect", self.connect.is_some()),
            ("--fd", self.fd.is_some()),
            ("--serve", self.serve.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((server, _)) => Err(Stop::Trouble(format!(
                "{server} and {option} name a server each: use one of the two"
            ))),
            None => Ok(()),
        }
    }

    /// Takes the socket of `--fd` over.
    pub(crate) fn inherited(&self) -> Result<Option<UnixStream>, Stop> {
        self.fd
            .map(|number| {
                lisafs_gofer::take_inherited(number)
                    .map_err(|why| Stop::Trouble(format!("--fd {number}: {why}")))
            })
            .transpose()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Verb(Verb),
    Shell(shell::Shell),
    Mount(mount::Mount),
    Conform(conform::Conform),
    Top(top::Top),
    Completions(manual::Completions),
    Man(manual::Man),
}
