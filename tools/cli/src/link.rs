//! `ln` and `readlink`.

use std::path::PathBuf;

use lisafs::Errno;

use crate::args::REMOTE;
use crate::change::{into_directory, subject};
use crate::console::Console;
use crate::failure::{Stop, Why};
use crate::json::Object;
use crate::session::Session;

/// Give a file another name, or make a symbolic link
#[derive(Debug, clap::Args)]
pub(crate) struct Ln {
    /// The file; with -s, what the link says
    #[arg(value_hint = REMOTE)]
    target: PathBuf,

    /// The new name, or a directory for it
    #[arg(value_hint = REMOTE)]
    link: PathBuf,

    /// Make a symbolic link
    #[arg(short, long)]
    symbolic: bool,
}

impl Ln {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let link = match self.target.file_name() {
            Some(name) => into_directory(session, &self.link, name.as_ref())?,
            None => self.link.clone(),
        };
        let at = session.at(&link);
        if self.symbolic {
            console.or_complain(&link, client.symlink(&self.target, at))?;
            return Ok(());
        }
        let target = session.at(&self.target);
        if let Err(why) = client.hard_link(&target, at) {
            console.complain(subject(client, &target, (&self.target, &link)), why)?;
        }
        Ok(())
    }
}

/// Show what symbolic links say
#[derive(Debug, clap::Args)]
pub(crate) struct Readlink {
    /// Which links
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,
}

impl Readlink {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        for path in &self.paths {
            let target = client
                .read_link(session.at(path))
                .map_err(|why| match why.errno() {
                    Errno::EINVAL => Why::Said("Not a symbolic link"),
                    _ => why.into(),
                });
            let Some(target) = console.or_complain(path, target)? else {
                continue;
            };
            if console.is_json() {
                let object = Object::new().bytes("path", path);
                console.object(object.bytes("target", target))?;
            } else {
                console.line_with("", target.as_os_str())?;
            }
        }
        Ok(())
    }
}
