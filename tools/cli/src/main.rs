//! `lisafs`: looks at, reads and changes what a lisafs server serves.
//!
//! | | |
//! |---|---|
//! | `args` | the command line; each verb's own part is with the verb |
//! | `session` | the connection, and the private gofer of `--serve` |
//! | `verb` | the verbs; `list`, `tree`, `show`, `read`, `get`, `put`, `change`, `link`, `touch`, `chown`, `statfs`, `xattr`, `mknod`, `ping`, `rpc` |
//! | `donated` | what the descriptors are that come with a reply to `rpc` |
//! | `shell` | one verb after the other |
//! | `mount` | the tree as a directory of this machine, over FUSE |
//! | `top` | what a gofer is doing, by its metrics |
//! | `conform` | the conformance suite |
//! | `manual` | completions and man pages |
//! | `copy_tree`, `pump`, `partial`, `local`, `progress`, `survey`, `spot`, `policy` | what get and put are made of |
//! | `signals` | what ends a program, held back |
//! | `console`, `text`, `words`, `json`, `mode`, `time`, `failure` | how things are said |
#![forbid(unsafe_code)]

mod args;
mod change;
mod chown;
mod conform;
mod console;
mod copy_tree;
mod donated;
mod failure;
mod get;
mod json;
mod link;
mod list;
mod local;
mod manual;
mod mknod;
mod mode;
mod mount;
mod partial;
mod ping;
mod policy;
mod progress;
mod pump;
mod put;
mod read;
mod rpc;
mod session;
mod shell;
mod show;
mod signals;
mod spot;
mod statfs;
mod survey;
mod text;
mod time;
mod top;
mod touch;
mod tree;
mod verb;
mod words;
mod xattr;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use lisafs_gofer::Embedded;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::args::{Args, Command};
use self::console::Console;
use self::failure::Stop;
use self::mount::Signals;
use self::partial::Unfinished;
use self::session::Session;

/// The answer is no.
const NO: u8 = 1;
/// The question makes no sense, or there is nobody to answer it.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    if let Some(gofer) = Embedded::from_env() {
        return gofer.run();
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(why) => {
            let failed = why.use_stderr();
            // Nobody is left to tell if that fails.
            let _ = why.print();
            return ExitCode::from(if failed { TROUBLE } else { 0 });
        }
    };
    let mut console = Console::new(args.json);
    let stopped = run(&args, &mut console);
    match stopped.and_then(|()| console.flush()) {
        Ok(()) if console.has_complained() => ExitCode::from(NO),
        // Whoever closes a pipe has seen enough.
        Ok(()) | Err(Stop::ClosedPipe) => ExitCode::SUCCESS,
        Err(Stop::Told) => ExitCode::from(TROUBLE),
        Err(why) => {
            // What was found out before that is still true.
            let _ = console.flush();
            let _ = writeln!(io::stderr(), "lisafs: {why}");
            ExitCode::from(TROUBLE)
        }
    }
}

fn run(args: &Args, console: &mut Console) -> Result<(), Stop> {
    let inherited = args.target.inherited()?;
    match &args.command {
        // These talk to no server.
        Command::Top(verb) => return verb.run(console),
        Command::Completions(verb) => return verb.run(console),
        Command::Man(verb) => return verb.run(console),
        Command::Conform(verb) if verb.starts_servers() => {
            args.target.none_with("--start")?;
            return verb.run(None, console);
        }
        Command::Verb(_) | Command::Shell(_) | Command::Mount(_) | Command::Conform(_) => {}
    }
    // Recursion keeps a descriptor open on each level. Less is enough for most.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    // Before there are other threads, which would get the signals otherwise.
    let unfinished = match &args.command {
        Command::Verb(verb) if !verb.leaves_unfinished() => None,
        Command::Verb(_) | Command::Shell(_) => Some(Unfinished::watch()?),
        _ => None,
    };
    let signals = match &args.command {
        Command::Mount(_) => Some(Signals::block()?),
        _ => None,
    };
    let session = Session::new(args, inherited)?;
    match (&args.command, signals) {
        (Command::Verb(verb), _) => verb.run(&session, console, unfinished.as_ref()),
        (Command::Shell(shell), _) => shell.run(&session, console, unfinished.as_ref()),
        (Command::Mount(verb), Some(signals)) => verb.run(&session, console, signals),
        (Command::Conform(verb), _) => verb.run(Some(&session), console),
        (Command::Mount(_) | Command::Top(_) | Command::Completions(_) | Command::Man(_), _) => {
            Ok(())
        }
    }
}
