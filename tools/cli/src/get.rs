//! `get`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File as HostFile, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lisafs::Errno;
use lisafs::client::{ControlFile, File};
use lisafs::wire::{FileType, Statx};
use nix::sys::stat::{Mode, fchmod, futimens};
use nix::sys::time::TimeSpec;

use crate::change::less_umask;
use crate::console::Console;
use crate::failure::{Stop, Why};
use crate::local::LocalDir;
use crate::partial::{Dir, Unfinished};
use crate::progress::Progress;
use crate::pump::Pump;
use crate::read;
use crate::session::Session;

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
    remote: PathBuf,

    /// Where to, or a directory to put it into; `-` is stdout
    #[arg(default_value = ".")]
    local: PathBuf,

    /// Copy directories, and all below them
    #[arg(short, long)]
    recursive: bool,
}

/// A directory that is being copied.
struct Frame {
    remote: ControlFile,
    local: Arc<LocalDir>,
    path: PathBuf,
    /// What is left to be copied.
    names: Vec<OsString>,
}

/// Copying, and what it needs.
struct Getter<'a> {
    unfinished: &'a Unfinished,
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
        let Some(remote) = console.or_complain(&self.remote, client.lookup(&self.remote))? else {
            return Ok(());
        };
        let is_dir = remote.file_type() == FileType::Directory;
        if is_dir && !self.recursive {
            return console.complain(&self.remote, Why::Said("Is a directory: use -r"));
        }
        if self.local == Path::new("-") && !is_dir {
            let file = remote.open(libc::O_RDONLY).map(File::from);
            if let Some(file) = console.or_complain(&self.remote, file)? {
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
            pump: Pump::new(),
            progress: Progress::new(size),
        };
        if is_dir {
            let frame = Frame::new(remote, self.remote.clone(), || local_dir(&local));
            if let Some(frame) = console.or_complain(&self.remote, frame)? {
                getter.tree(frame, console)?;
            }
        } else {
            let done = getter.one(&remote, &local, self.recursive);
            console.or_complain(&local, done)?;
        }
        getter.progress.finish(console)
    }
}

impl Frame {
    /// `make` makes the local directory. What is in the remote one is looked at before, so that a
    /// directory can be copied into itself, and there is an end to it.
    fn new(
        remote: ControlFile,
        path: PathBuf,
        make: impl FnOnce() -> Result<LocalDir, Why>,
    ) -> Result<Frame, Why> {
        let entries = remote.open(libc::O_RDONLY)?.read_dir();
        let names = entries.map(|entry| Ok(entry?.name));
        Ok(Frame {
            names: names.collect::<Result<_, Why>>()?,
            remote,
            local: Arc::new(make()?),
            path,
        })
    }
}

impl Getter<'_> {
    /// Copies a single file.
    fn one(&mut self, remote: &ControlFile, local: &Path, keep: bool) -> Result<(), Why> {
        let local = match fs::metadata(local) {
            Ok(found) if found.is_dir() => return Err(Why::Local(Errno::EISDIR)),
            Ok(found) if !found.is_file() => {
                let mut to = OpenOptions::new().write(true).open(local)?;
                let from = File::from(remote.open(libc::O_RDONLY)?);
                let progress = &mut self.progress;
                self.pump
                    .get_stream(&from, 0, &mut to, |count| progress.add_bytes(count))?;
                self.progress.add_file();
                return Ok(());
            }
            // A symbolic link stays one.
            Ok(_) => fs::canonicalize(local)?,
            Err(_) => local.to_owned(),
        };
        let name = local.file_name().ok_or(Why::Local(Errno::EISDIR))?;
        let dir = LocalDir::open(local.parent().unwrap_or(Path::new("")))?;
        self.file(remote, &Arc::new(dir), name, keep)
    }

    /// Copies all that is below a directory.
    fn tree(&mut self, top: Frame, console: &mut Console) -> Result<(), Stop> {
        let mut stack = vec![top];
        while let Some(frame) = stack.last_mut() {
            if let Some(name) = frame.names.pop() {
                match self.entry(frame, &name) {
                    Ok(below) => stack.extend(below),
                    Err(why) => {
                        let path = frame.path.join(&name);
                        self.progress.suspend(|| console.complain(path, why))?;
                    }
                }
                continue;
            }
            // Last, because all that is written into a directory changes its time.
            let stat = frame.remote.attributes();
            if let Err(why) = frame.local.set(permissions(stat), mtime(stat)) {
                self.progress
                    .suspend(|| console.complain(&frame.path, why))?;
            }
            self.progress.add_directory();
            stack.pop();
        }
        Ok(())
    }

    /// Copies what is called `name`; a directory is returned.
    fn entry(&mut self, frame: &Frame, name: &OsStr) -> Result<Option<Frame>, Why> {
        let remote = frame.remote.walk_one(name)?;
        match remote.file_type() {
            FileType::Directory => {
                let make = || Ok(frame.local.make_dir(name)?);
                return Frame::new(remote, frame.path.join(name), make).map(Some);
            }
            FileType::Regular => self.file(&remote, &frame.local, name, true)?,
            FileType::Symlink => self.symlink(&remote, &frame.local, name)?,
            FileType::Fifo => {
                let stat = remote.attributes();
                frame.local.make_fifo(name, permissions(stat))?;
                frame.local.set_mtime(name, mtime(stat))?;
                self.progress.add_other();
            }
            FileType::Socket => return Err(Why::Said("left out: it is a socket")),
            _ => return Err(Why::Said("left out: it is a device")),
        }
        Ok(None)
    }

    fn file(
        &mut self,
        remote: &ControlFile,
        dir: &Arc<LocalDir>,
        name: &OsStr,
        keep: bool,
    ) -> Result<(), Why> {
        let stat = remote.attributes();
        let from = File::from(remote.open(libc::O_RDONLY)?);
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
        Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    Ok(LocalDir::open(path)?)
}
