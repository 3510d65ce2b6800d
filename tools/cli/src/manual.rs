//! `completions` and `man`.

use std::fs;
use std::path::PathBuf;

use clap::{CommandFactory, ValueHint};
use clap_complete::Shell;
use lisafs::Errno;

use crate::args::Args;
use crate::console::Console;
use crate::failure::Stop;

/// Print what makes a shell complete command lines of this program
///
/// Needs no server. Paths of the server are not completed; `lisafs shell` does that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lisafs completions bash > /etc/bash_completion.d/lisafs
  lisafs completions --gofer zsh > ~/.zfunc/_lisafs-gofer")]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,

    /// For command lines of lisafs-gofer
    #[arg(long)]
    gofer: bool,
}

/// Print the manual page, or write all of them
///
/// Needs no server. Without DIR the page of this program is printed, for `man -l -`. In DIR there is
/// one for each command, of this program and of lisafs-gofer.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Where to write them; it is made if it is missing
    #[arg(value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

impl Completions {
    pub(crate) fn run(&self, console: &mut Console) -> Result<(), Stop> {
        let mut command = if self.gofer {
            lisafs_gofer::command()
        } else {
            Args::command()
        };
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        console.data(&script)
    }
}

impl Man {
    pub(crate) fn run(&self, console: &mut Console) -> Result<(), Stop> {
        let Some(dir) = &self.dir else {
            // As the pages in a directory.
            let command = Args::command().disable_help_subcommand(true);
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            return console.data(&page);
        };
        let written = fs::create_dir_all(dir).and_then(|()| {
            clap_mangen::generate_to(Args::command(), dir)?;
            clap_mangen::generate_to(lisafs_gofer::command(), dir)
        });
        written.map_err(|why| Stop::Trouble(format!("{}: {}", dir.display(), Errno::from(&why))))
    }
}
