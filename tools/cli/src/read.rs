//! `cat`.

use std::path::{Path, PathBuf};

use lisafs::Errno;
use lisafs::client::{Client, ControlFile, Error, File};
use lisafs::wire::FileType;

use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::{Stop, Why};
use crate::policy::not_opened;
use crate::pump::Pump;
use crate::session::Session;

/// Write the contents of files to stdout
///
/// As they are, also with --json.
#[derive(Debug, clap::Args)]
pub(crate) struct Cat {
    /// Which files
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,
}

impl Cat {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let mut pump = Pump::new();
        for path in &self.paths {
            if let Some(file) = console.or_complain(path, open(client, &session.at(path)))? {
                to_stdout(&mut pump, &file, path, console)?;
            }
        }
        Ok(())
    }
}

/// Opens a file that has contents.
fn open(client: &Client, path: &Path) -> Result<File, Why> {
    let file = client.lookup(path)?;
    if file.file_type() == FileType::Directory {
        return Err(Error::Local(Errno::EISDIR).into());
    }
    contents(&file)
}

/// Opens a file, which is no directory, to be read.
pub(crate) fn contents(file: &ControlFile) -> Result<File, Why> {
    match file.open(libc::O_RDONLY) {
        Ok(open) => Ok(File::from(open)),
        Err(why) => Err(not_opened(why, file.file_type())),
    }
}

/// Writes a file to stdout.
pub(crate) fn to_stdout(
    pump: &mut Pump,
    file: &File,
    path: &Path,
    console: &mut Console,
) -> Result<(), Stop> {
    match pump.get_stream(file, 0, console.out(), |_| ()) {
        Err(Why::Local(why)) => Err(std::io::Error::from(why).into()),
        read => console.or_complain(path, read).map(drop),
    }
}
