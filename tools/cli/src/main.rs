//! `lisafs`: looks at, reads and changes what a lisafs server serves.
//!
//! | | |
//! |---|---|
//! | `args` | the command line; each verb's own part is with the verb |
//! | `session` | the connection, and the private gofer of `--serve` |
//! | `list`, `show`, `change`, `link`, `read`, `get`, `put`, `ping`, `rpc`, `top` | the verbs |
//! | `tree`, `pump`, `partial`, `local`, `progress`, `spot` | what get and put are made of |
//! | `console`, `text`, `json`, `mode`, `time`, `failure` | how things are said |
#![forbid(unsafe_code)]

mod args;
mod change;
mod console;
mod donated;
mod failure;
mod get;
mod json;
mod link;
mod list;
mod local;
mod mode;
mod partial;
mod ping;
mod progress;
mod pump;
mod put;
mod read;
mod rpc;
mod session;
mod show;
mod spot;
mod text;
mod time;
mod top;
mod tree;

use std::env;
use std::io::{self, Write};
use std::iter;
use std::process::ExitCode;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::args::{Args, Command};
use self::console::Console;
use self::failure::Stop;
use self::partial::Unfinished;
use self::session::Session;

/// The answer is no.
const NO: u8 = 1;
/// The question makes no sense, or there is nobody to answer it.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    let mut command_line = env::args_os();
    let program = command_line.next();
    let mut rest = command_line.peekable();
    if rest.next_if(|verb| verb == session::GOFER_VERB).is_some() {
        return lisafs_gofer::main(iter::once(program.unwrap_or_default()).chain(rest));
    }
    let args = match Args::try_parse_from(env::args_os()) {
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
        Err(why) => {
            // What was found out before that is still true.
            let _ = console.flush();
            let _ = writeln!(io::stderr(), "lisafs: {why}");
            ExitCode::from(TROUBLE)
        }
    }
}

fn run(args: &Args, console: &mut Console) -> Result<(), Stop> {
    // It talks to no server.
    if let Command::Top(top) = &args.command {
        return top.run(console);
    }
    // Before anything else is opened: that could be given the number.
    let inherited = args.target.inherited()?;
    // Recursion keeps a descriptor open on each level. Less is enough for most.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    // Before there are other threads, which would get the signals otherwise.
    let unfinished = match args.command {
        Command::Get(_) | Command::Put(_) => Some(Unfinished::watch()?),
        _ => None,
    };
    let session = Session::open(args, inherited)?;
    match (&args.command, unfinished) {
        (Command::Ls(verb), _) => verb.run(&session, console),
        (Command::Stat(verb), _) => verb.run(&session, console),
        (Command::Info(verb), _) => verb.run(&session, console),
        (Command::Cat(verb), _) => verb.run(&session, console),
        (Command::Get(verb), Some(unfinished)) => verb.run(&session, console, &unfinished),
        (Command::Put(verb), Some(unfinished)) => verb.run(&session, console, &unfinished),
        (Command::Get(_) | Command::Put(_), None) => Ok(()),
        (Command::Mkdir(verb), _) => verb.run(&session, console),
        (Command::Rm(verb), _) => verb.run(&session, console),
        (Command::Mv(verb), _) => verb.run(&session, console),
        (Command::Chmod(verb), _) => verb.run(&session, console),
        (Command::Truncate(verb), _) => verb.run(&session, console),
        (Command::Ln(verb), _) => verb.run(&session, console),
        (Command::Readlink(verb), _) => verb.run(&session, console),
        (Command::Ping(verb), _) => verb.run(&session, console),
        (Command::Rpc(verb), _) => verb.run(&session, console),
        (Command::Top(verb), _) => verb.run(console),
    }
}
