//! `touch`.

use std::path::{Path, PathBuf};

use lisafs::Errno;
use lisafs::client::{Client, Error, OpenOptions, SetAttributes};
use lisafs::wire::{TimeSpec, Timestamp};

use crate::args::REMOTE;
use crate::change::less_umask;
use crate::console::Console;
use crate::failure::Stop;
use crate::session::Session;
use crate::time::Moment;

/// Make empty files, or set the times of files
///
/// What does not exist is made, with the mode 0666 less the umask. Times of last access and last
/// modification become the server's present, unless -d or -r says otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lisafs --serve . touch -d '2026-11-21 18:32:09' notes
  lisafs --serve . touch -m -d @1700000000.5 notes
  lisafs --serve . touch -r Cargo.toml Cargo.lock")]
pub(crate) struct Touch {
    /// Which files
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,

    /// Make nothing
    #[arg(short = 'c', long)]
    no_create: bool,

    /// Set the time of the last access only
    #[arg(short, conflicts_with = "mtime")]
    atime: bool,

    /// Set the time of the last modification only
    #[arg(short)]
    mtime: bool,

    /// The moment: YYYY-MM-DD[ HH:MM[:SS[.N]]] in UTC, or @SECONDS[.N] since 1970
    #[arg(short, long, value_name = "MOMENT", allow_hyphen_values = true)]
    date: Option<Moment>,

    /// Take the times of this file of the server
    #[arg(short, long, value_name = "PATH", conflicts_with = "date", value_hint = REMOTE)]
    reference: Option<PathBuf>,
}

/// The moment at which the server sets it.
const NOW: TimeSpec = TimeSpec {
    sec: 0,
    nsec: libc::UTIME_NOW,
};

impl Touch {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let (atime, mtime) = match (&self.reference, self.date) {
            (Some(path), _) => {
                let found = client.metadata(session.at(path));
                let Some(stat) = console.or_complain(path, found)? else {
                    return Ok(());
                };
                (to_set(stat.atime), to_set(stat.mtime))
            }
            (None, Some(Moment(at))) => (at, at),
            (None, None) => (NOW, NOW),
        };
        let mut changes = SetAttributes::new();
        if !self.mtime {
            changes = changes.atime(atime);
        }
        if !self.atime {
            changes = changes.mtime(mtime);
        }
        for path in &self.paths {
            console.or_complain(path, self.touch(client, &session.at(path), &changes))?;
        }
        Ok(())
    }

    fn touch(&self, client: &Client, path: &Path, changes: &SetAttributes) -> Result<(), Error> {
        match client.set_attributes(path, changes) {
            Err(why) if why.errno() == Errno::ENOENT => {}
            done => return done,
        }
        if self.no_create {
            return Ok(());
        }
        let create = OpenOptions::new().write(true).create(true);
        create.mode(less_umask(0o666)).open(client, path)?;
        if self.date.is_none() && self.reference.is_none() {
            return Ok(());
        }
        client.set_attributes(path, changes)
    }
}

fn to_set(at: Timestamp) -> TimeSpec {
    TimeSpec {
        sec: at.sec,
        nsec: at.nsec.into(),
    }
}
