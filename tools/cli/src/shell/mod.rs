//! `shell`.

mod complete;
mod line;
mod prompt;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::FileType;

use self::line::{Cd, Lcd, LineCommand};
use self::prompt::Lines;
use crate::console::Console;
use crate::failure::Stop;
use crate::json::Object;
use crate::partial::Unfinished;
use crate::session::Session;
use crate::words;

/// Run one command after the other
///
/// Reads commands from stdin, a line each, and runs them over one connection. They are those of
/// this program that ask a server, and cd, pwd, lcd, lpwd and exit. Paths of the server begin at the
/// directory that `cd` leads to, local ones where `lcd` does.
///
/// On a terminal lines can be edited and are remembered, and the tab key completes commands,
/// options, and paths. ^C drops a line; while a command runs, it ends the shell.
///
/// Words are separated by blanks. Quotes and backslashes keep blanks from doing so; \xff is the byte
/// with that number, as names are shown that are no text. What follows a # is a comment.
///
/// Without a terminal, the exit status is the worst that any command had.
#[derive(Debug, clap::Args)]
pub(crate) struct Shell {
    /// End with the first command that fails
    #[arg(short, long)]
    exit_on_error: bool,
}

/// What becomes of the shell after a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Exit,
}

/// How a line went, from good to bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Fine,
    No,
    Trouble,
}

impl Shell {
    pub(crate) fn run(
        &self,
        session: &Session,
        console: &mut Console,
        unfinished: Option<&Unfinished>,
    ) -> Result<(), Stop> {
        // A server that is none is told of before anything is typed.
        session.client()?;
        let interactive = io::stdin().is_terminal();
        let mut lines = Lines::open(session, interactive)?;
        let worst = self.lines(&mut lines, session, console, unfinished);
        lines.close();
        match worst? {
            _ if interactive => Ok(()),
            Status::Fine => Ok(()),
            Status::No => {
                console.say_no();
                Ok(())
            }
            Status::Trouble => Err(Stop::Told),
        }
    }

    /// Runs the commands, to the end. Returns how the worst of them went.
    fn lines(
        &self,
        lines: &mut Lines<'_>,
        session: &Session,
        console: &mut Console,
        unfinished: Option<&Unfinished>,
    ) -> Result<Status, Stop> {
        let mut worst = Status::Fine;
        while let Some(line) = lines.next(&session.cwd())? {
            let next = match words::split(&line) {
                Ok(words) if words.is_empty() => continue,
                Ok(words) => line::parse(words, console),
                Err(why) => Err(Stop::Trouble(why.to_string())),
            };
            let next = match next {
                Ok(Some(command)) => perform(&command, session, console, unfinished),
                Ok(None) => Ok(Next::GoOn),
                Err(why) => Err(why),
            };
            let (status, next) = settle(next, console)?;
            worst = worst.max(status);
            if status == Status::Trouble && session.client()?.ping().is_err() {
                return Err(Stop::Told);
            }
            if next == Next::Exit || (self.exit_on_error && status != Status::Fine) {
                break;
            }
        }
        Ok(worst)
    }
}

/// Says what there is to be said after a line.
fn settle(done: Result<Next, Stop>, console: &mut Console) -> Result<(Status, Next), Stop> {
    console.flush()?;
    let no = console.take_complaint();
    match done {
        Ok(next) if no => Ok((Status::No, next)),
        Ok(next) => Ok((Status::Fine, next)),
        Err(Stop::ClosedPipe) => Err(Stop::ClosedPipe),
        Err(Stop::Told) => Ok((Status::Trouble, Next::GoOn)),
        Err(Stop::Trouble(why)) => {
            // The status says so as well, if nobody reads this.
            let _ = writeln!(io::stderr(), "lisafs: {why}");
            Ok((Status::Trouble, Next::GoOn))
        }
    }
}

fn perform(
    command: &LineCommand,
    session: &Session,
    console: &mut Console,
    unfinished: Option<&Unfinished>,
) -> Result<Next, Stop> {
    match command {
        LineCommand::Verb(verb) => verb.run(session, console, unfinished)?,
        LineCommand::Cd(Cd { dir }) => {
            let client = session.client()?;
            let at = session.at(dir);
            let found = client
                .lookup(&at)
                .and_then(|found| match found.file_type() {
                    FileType::Directory => client.canonicalize(&at),
                    _ => Err(Error::Local(Errno::ENOTDIR)),
                });
            if let Some(dir) = console.or_complain(dir, found)? {
                session.set_cwd(dir);
            }
        }
        LineCommand::Lcd(Lcd { dir }) => {
            console.or_complain(dir, env::set_current_dir(dir))?;
        }
        LineCommand::Pwd => tell(&session.cwd(), console)?,
        LineCommand::Lpwd => {
            if let Some(dir) = console.or_complain(".", env::current_dir())? {
                tell(&dir, console)?;
            }
        }
        LineCommand::Exit => return Ok(Next::Exit),
    }
    Ok(Next::GoOn)
}

fn tell(dir: &Path, console: &mut Console) -> Result<(), Stop> {
    if console.is_json() {
        return console.object(Object::new().bytes("path", dir));
    }
    console.line_with("", dir.as_os_str())
}
