//! `mkdir`, `rm`, `mv`, `chmod` and `truncate`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lisafs::Errno;
use lisafs::client::{Client, Create, Error, SetAttributes};
use lisafs::wire::FileType;
use nix::sys::stat::{Mode, umask};

use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::{Stop, Why};
use crate::mode::Change;
use crate::session::Session;
use crate::spot::{spot, without_slash};

/// Make directories
///
/// With the mode 0777 less the umask.
#[derive(Debug, clap::Args)]
pub(crate) struct Mkdir {
    /// What to make
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,

    /// Make those above as well, and accept what exists
    #[arg(short, long)]
    parents: bool,
}

impl Mkdir {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let how = Create::mode(less_umask(0o777));
        for path in &self.paths {
            let at = session.at(path);
            let made = if self.parents {
                make_all(client, &at, how)
            } else {
                make(client, &at, how)
            };
            console.or_complain(path, made)?;
        }
        Ok(())
    }
}

fn make(client: &Client, path: &Path, how: Create) -> Result<(), Why> {
    let (parent, name) = spot(client, &without_slash(path))?;
    parent.mkdir(name, how)?;
    Ok(())
}

/// Makes a directory, and before it those above that do not exist.
fn make_all(client: &Client, path: &Path, how: Create) -> Result<(), Why> {
    let mut todo = vec![path];
    while let Some(next) = todo.last() {
        match (make(client, next, how), next.parent()) {
            (Err(why), Some(parent)) if why.is(Errno::ENOENT) && parent != Path::new("") => {
                todo.push(parent);
                continue;
            }
            // A server that is read-only says so first.
            (Err(why), _) if why.is(Errno::EEXIST) || why.is(Errno::EROFS) => {
                match client.metadata(next) {
                    Ok(found) if found.file_type() == FileType::Directory => {}
                    _ => return Err(why),
                }
            }
            (made, _) => made?,
        }
        todo.pop();
    }
    Ok(())
}

/// The mode of something new that could have all of `mode`.
pub(crate) fn less_umask(mode: u32) -> u32 {
    // There is no way to look at it without setting it.
    let mask = umask(Mode::from_bits_truncate(0o077));
    umask(mask);
    mode & !mask.bits()
}

/// Remove files
#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// What to remove
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,

    /// Remove directories, and all below them
    #[arg(short, long)]
    recursive: bool,
}

impl Rm {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        for path in &self.paths {
            console.or_complain(path, self.remove(client, &session.at(path)))?;
        }
        Ok(())
    }

    fn remove(&self, client: &Client, path: &Path) -> Result<(), Why> {
        if !self.recursive {
            return match client.remove_file(path) {
                Err(why) if why.errno() == Errno::EISDIR => {
                    Err(Why::Said("Is a directory: use -r"))
                }
                removed => Ok(removed?),
            };
        }
        match client.symlink_metadata(path)?.file_type() {
            FileType::Directory => Ok(client.remove_dir_all(path)?),
            _ => Ok(client.remove_file(path)?),
        }
    }
}

/// Rename a file, or move it into a directory
///
/// What has the new name is replaced; a directory only by a directory, and only if it is empty.
#[derive(Debug, clap::Args)]
pub(crate) struct Mv {
    /// What to move
    #[arg(value_hint = REMOTE)]
    from: PathBuf,

    /// The new name, or a directory to move it into
    #[arg(value_hint = REMOTE)]
    to: PathBuf,

    /// Replace nothing
    #[arg(long)]
    no_replace: bool,

    /// Have both files change places
    #[arg(long, conflicts_with = "no_replace")]
    exchange: bool,
}

impl Mv {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let flags = match (self.no_replace, self.exchange) {
            (true, _) => libc::RENAME_NOREPLACE,
            (_, true) => libc::RENAME_EXCHANGE,
            _ => 0,
        };
        let to = match self.from.file_name() {
            Some(name) if !self.exchange => into_directory(session, &self.to, name.as_ref())?,
            _ => self.to.clone(),
        };
        let from = session.at(&self.from);
        let renamed = client.rename_with(&from, session.at(&to), flags);
        if let Err(why) = renamed {
            console.complain(subject(client, &from, (&self.from, &to)), why)?;
        }
        Ok(())
    }
}

/// `path`, or `name` in it if it is a directory.
pub(crate) fn into_directory(session: &Session, path: &Path, name: &Path) -> Result<PathBuf, Stop> {
    Ok(match session.client()?.metadata(session.at(path)) {
        Ok(stat) if stat.file_type() == FileType::Directory => path.join(name),
        _ => path.to_owned(),
    })
}

/// What an error that has two files to be about is about: the first, which is at `from`, if it is
/// not there, and both if it is.
pub(crate) fn subject(client: &Client, from: &Path, said: (&Path, &Path)) -> OsString {
    let mut subject = said.0.as_os_str().to_owned();
    if client.symlink_metadata(from).is_ok() {
        subject.push(" -> ");
        subject.push(said.1);
    }
    subject
}

/// Change the permissions of files
///
/// MODE is octal, or a list of changes as in `u+rwx,go-w`: classes (u, g, o or a), an operator (+, -
/// or =), and permissions (r, w, x, X, s or t). Without classes it is about all.
#[derive(Debug, clap::Args)]
pub(crate) struct Chmod {
    /// The new mode, or how it differs
    #[arg(allow_hyphen_values = true)]
    mode: Change,

    /// Whose permissions to change
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,
}

impl Chmod {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        for path in &self.paths {
            console.or_complain(path, self.change(client, &session.at(path)))?;
        }
        Ok(())
    }

    fn change(&self, client: &Client, path: &Path) -> Result<(), Error> {
        let file = client.lookup(path)?;
        let mode = self.mode.apply(file.attributes());
        file.set_stat(&SetAttributes::new().mode(mode))
    }
}

/// Set the length of files
///
/// What is beyond it is lost; what is missing reads as zeros.
#[derive(Debug, clap::Args)]
pub(crate) struct Truncate {
    /// The length in bytes; with K, M, G or T behind it in units of 1024
    #[arg(short, long, value_parser = size)]
    size: u64,

    /// Which files
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,
}

impl Truncate {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let length = SetAttributes::new().size(self.size);
        for path in &self.paths {
            console.or_complain(path, client.set_attributes(session.at(path), &length))?;
        }
        Ok(())
    }
}

fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'K')) => (text.get(..at), 10),
        Some((at, 'M')) => (text.get(..at), 20),
        Some((at, 'G')) => (text.get(..at), 30),
        Some((at, 'T')) => (text.get(..at), 40),
        _ => (Some(text), 0),
    };
    let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "it is no number of bytes (4096, 4K)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("3K"), Ok(3072));
        assert_eq!(size("2T"), Ok(2 << 40));
        for wrong in ["", "K", "-1", "1k", "1KB", "99999999999T", "ü"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
