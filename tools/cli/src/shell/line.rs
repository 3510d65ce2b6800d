//! Lines of the shell as commands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueHint};

use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::Stop;
use crate::verb::Verb;

/// Commands for the server
#[derive(Debug, Parser)]
#[command(
    multicall = true,
    max_term_width = 100,
    subcommand_value_name = "COMMAND",
    subcommand_help_heading = "Commands"
)]
pub(super) struct Line {
    #[command(subcommand)]
    command: LineCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum LineCommand {
    #[command(flatten)]
    Verb(Verb),
    Cd(Cd),
    /// Print the current directory of the server
    Pwd,
    Lcd(Lcd),
    /// Print the current directory of this machine
    Lpwd,
    /// End the shell, as ^D does
    #[command(visible_alias = "quit")]
    Exit,
}

/// Change the directory at which paths of the server begin
#[derive(Debug, clap::Args)]
pub(super) struct Cd {
    /// Where to
    #[arg(default_value = "/", value_hint = REMOTE)]
    pub(super) dir: PathBuf,
}

/// Change the directory at which paths of this machine begin
#[derive(Debug, clap::Args)]
pub(super) struct Lcd {
    /// Where to
    #[arg(value_hint = ValueHint::DirPath)]
    pub(super) dir: PathBuf,
}

/// The command of a line. None if help was asked for, and given.
pub(super) fn parse(
    words: Vec<OsString>,
    console: &mut Console,
) -> Result<Option<LineCommand>, Stop> {
    match Line::try_parse_from(words) {
        Ok(line) => Ok(Some(line.command)),
        Err(why) if why.use_stderr() => {
            // The status says so as well, if nobody reads this.
            let _ = why.print();
            Err(Stop::Told)
        }
        Err(help) => {
            console.out_text(&help.to_string())?;
            Ok(None)
        }
    }
}
