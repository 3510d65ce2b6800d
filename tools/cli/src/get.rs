//! `get`.

use std::ffi::OsStr;
use std::fs::{self, File as HostFile, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lisafs::Errno;
use lisafs::client::ControlFile;
use lisafs::wire::{FileType, Statx};
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;

use crate::args::REMOTE;
use crate::change::less_umask;
use crate::console::Console;
use crate::copy_tree::{self, CopyTree, INTO_ITSELF};
use crate::failure::{Stop, Why};
use crate::local::LocalDir;
use crate::partial::{Dir, Unfinished};
use crate::progress::Progress;
use crate::pump::Pump;
use crate::read;
use crate::session::Session;
use crate::survey;

/// Copy a file from the server
///
/// It is written under another name and renamed when it is complete, except where it goes to a
/// device or a FIFO, or to stdout. The mode is that of the file less the umask.
///
/// With -r directories and all below them, with modes and times; set-id bits are not kept, as the
/// owner is not. Symbolic links are copied as such, FIFOs are made anew. Sockets and devices are
/// named on stderr and left out.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// What to copy
    #[arg(value_hint = REMOTE)]
    remote: PathBuf,

    /// Where to, or a directory to put it into; `-` is stdout
    #[arg(default_value = ".")]
    local: PathBuf,

    /// Copy directories, and all below them
    #[arg(short, long)]
    recursive: bool,
}

/// A remote directory and the local one that it is copied to.
type Frame = copy_tree::Frame<ControlFile, LocalDir>;

/// Copying, and what it needs.
struct Getter<'a> {
    unfinished: &'a Unfinished,
    /// Where trees go.
    top: Option<Arc<LocalDir>>,
    pump: Pump,
    progress: Progress,
}

impl Get {
    pub(crate) fn run(
        &self,
        session: &Session,
        console: &mut Console,
        unfinished: &Unfinished,
    ) -> Result<(), Stop> {
        let client = session.client()?;
        let Some(remote) =
            console.or_complain(&self.remote, client.lookup(session.at(&self.remote)))?
        else {
            return Ok(());
        };
        let is_dir = remote.file_type() == FileType::Directory;
        if is_dir && !self.recursive {
            return console.complain(&self.remote, Why::Said("Is a directory: use -r"));
        }
        if self.local == Path::new("-") {
            if is_dir {
                let why = "Is a directory: it goes to a directory, not to stdout";
                return console.complain(&self.remote, Why::Said(why));
            }
            if let Some(file) = console.or_complain(&self.remote, read::contents(&remote))? {
                read::to_stdout(&mut Pump::new(), &file, &self.remote, console)?;
            }
            return Ok(());
        }
        let local = match self.remote.file_name() {
            Some(name) if self.local.is_dir() => self.local.join(name),
            _ => self.local.clone(),
        };
        let size = (!is_dir).then_some(remote.attributes().size);
        let mut getter = Getter {
            unfinished,
            top: None,
            pump: Pump::new(),
            progress: Progress::new(size),
        };
        if is_dir {
            match getter.top(remote, &self.remote, &local) {
                Ok(top) => {
                    let at = session.at(&self.remote);
                    let count = |stop: &survey::Stop| survey::remote(client, &at, stop);
                    let bar = getter.progress.bar();
                    survey::along(bar, count, || getter.tree(top, console))?;
                }
                Err(why) => console.complain(why.subject(&local, &self.remote), why)?,
            }
        } else {
            let done = getter.one(&remote, &local, self.recursive);
            if let Err(why) = done {
                console.complain(why.subject(&local, &self.remote), why)?;
            }
        }
        getter.progress.finish(console)
    }
}

/// `make` makes the local directory. What is in the remote one is looked at before, so that a
/// directory can be copied into itself, and there is an end to it.
fn frame(
    remote: ControlFile,
    path: PathBuf,
    make: impl FnOnce() -> Result<LocalDir, Why>,
) -> Result<Frame, Why> {
    let entries = remote.open(libc::O_RDONLY)?.read_dir();
    let names = entries.map(|entry| Ok(entry?.name));
    Ok(Frame {
        names: names.collect::<Result<_, Why>>()?,
        from: remote,
        to: Arc::new(make()?),
        path,
    })
}

impl Getter<'_> {
    /// Copies a single file.
    fn one(&mut self, remote: &ControlFile, local: &Path, keep: bool) -> Result<(), Why> {
        let local = match fs::metadata(local) {
            Ok(found) if found.is_dir() => return Err(Why::Local(Errno::EISDIR)),
            Ok(found) if !found.is_file() => {
                let mut to = OpenOptions::new().write(true).open(local)?;
                let from = read::contents(remote)?;
                let progress = &mut self.progress;
                self.pump
                    .get_stream(&from, 0, &mut to, |count| progress.add_bytes(count))?;
                self.progress.add_file();
                return Ok(());
            }
            // A symbolic link stays one, also one that leads nowhere.
            Ok(_) => fs::canonicalize(local)?,
            Err(why) if why.kind() != ErrorKind::NotFound || must_exist(local) => {
                return Err(why.into());
            }
            Err(_) => local.to_owned(),
        };
        let name = local.file_name().ok_or(Why::Local(Errno::EISDIR))?;
        let dir = LocalDir::open(local.parent().unwrap_or(Path::new("")))?;
        self.file(remote, &Arc::new(dir), name, keep)
    }

    /// The directory that the user has named.
    fn top(&mut self, remote: ControlFile, path: &Path, local: &Path) -> Result<Frame, Why> {
        let top = frame(remote, path.to_owned(), || local_dir(local))?;
        if top.to.is(&top.from)? {
            return Err(INTO_ITSELF);
        }
        self.top = Some(Arc::clone(&top.to));
        Ok(top)
    }

    fn file(
        &mut self,
        remote: &ControlFile,
        dir: &Arc<LocalDir>,
        name: &OsStr,
        keep: bool,
    ) -> Result<(), Why> {
        let stat = remote.attributes();
        let from = read::contents(remote)?;
        let (mut to, partial) = self
            .unfinished
            .create(Dir::Local(Arc::clone(dir)), |temporary| {
                Ok(dir.create_file(temporary)?)
            })?;
        self.pump
            .get(&from, stat.size, &mut to, &mut self.progress)?;
        finish(&to, stat, keep)?;
        partial.finish(name)?;
        self.progress.add_file();
        Ok(())
    }

    fn symlink(
        &mut self,
        remote: &ControlFile,
        dir: &Arc<LocalDir>,
        name: &OsStr,
    ) -> Result<(), Why> {
        let target = remote.readlink()?;
        let ((), partial) = self
            .unfinished
            .create(Dir::Local(Arc::clone(dir)), |temporary| {
                Ok(dir.symlink(temporary, target.as_os_str())?)
            })?;
        partial.finish(name)?;
        dir.set_mtime(name, mtime(remote.attributes()))?;
        self.progress.add_other();
        Ok(())
    }
}

impl CopyTree for Getter<'_> {
    type From = ControlFile;
    type To = LocalDir;

    fn entry(&mut self, dir: &Frame, name: &OsStr) -> Result<Option<Frame>, Why> {
        let remote = dir.from.walk_one(name)?;
        match remote.file_type() {
            FileType::Directory => {
                if let Some(top) = &self.top
                    && top.is(&remote)?
                {
                    return Err(INTO_ITSELF);
                }
                let make = || Ok(dir.to.make_dir(name)?);
                return frame(remote, dir.path.join(name), make).map(Some);
            }
            FileType::Regular => self.file(&remote, &dir.to, name, true)?,
            FileType::Symlink => self.symlink(&remote, &dir.to, name)?,
            FileType::Fifo => {
                let stat = remote.attributes();
                dir.to.make_fifo(name, permissions(stat))?;
                dir.to.set_mtime(name, mtime(stat))?;
                self.progress.add_other();
            }
            FileType::Socket => return Err(Why::Said("left out: it is a socket")),
            _ => return Err(Why::Said("left out: it is a device")),
        }
        Ok(None)
    }

    fn complete(&mut self, dir: &Frame) -> Result<(), Why> {
        let stat = dir.from.attributes();
        Ok(dir.to.set(permissions(stat), mtime(stat))?)
    }

    fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }
}

/// Whether a new file cannot have this path: it is for a directory, or a symbolic link has it.
fn must_exist(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/") || path.is_symlink()
}

/// Gives a complete file its permissions and, if they are kept, its time.
fn finish(file: &HostFile, stat: &Statx, keep: bool) -> Result<(), Why> {
    let mode = if keep {
        permissions(stat)
    } else {
        less_umask(stat.permissions() & 0o777)
    };
    fchmod(file, Mode::from_bits_truncate(mode))?;
    if keep {
        futimens(file, &TimeSpec::UTIME_OMIT, &mtime(stat))?;
    }
    Ok(())
}

/// The permissions. Set-id bits are for another owner.
fn permissions(stat: &Statx) -> u32 {
    stat.permissions() & 0o1777
}

fn mtime(stat: &Statx) -> TimeSpec {
    TimeSpec::new(stat.mtime.sec, i64::from(stat.mtime.nsec))
}

/// The directory at `path`, which is made if it does not exist.
fn local_dir(path: &Path) -> Result<LocalDir, Why> {
    match fs::create_dir(path) {
        Err(why) if why.kind() == ErrorKind::AlreadyExists => {}
        made => made?,
    }
    Ok(LocalDir::open(path)?)
}
