//! `put`.

use std::ffi::OsStr;
use std::fs::{self, File as HostFile};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lisafs::Errno;
use lisafs::client::{Client, ControlFile, Create, Error, File, SetAttributes};
use lisafs::wire::{FileType, TimeSpec};

use crate::args::REMOTE;
use crate::change::{into_directory, less_umask};
use crate::console::Console;
use crate::copy_tree::{self, CopyTree, INTO_ITSELF};
use crate::failure::{Stop, Why};
use crate::local::LocalDir;
use crate::partial::{Dir, Unfinished};
use crate::progress::Progress;
use crate::pump::Pump;
use crate::session::Session;
use crate::spot::{spot, without_slash};
use crate::survey;

/// Copy a file to the server
///
/// It is written under another name, in the same directory, and renamed when it is complete: nobody
/// ever sees a part of it, and nothing is left if it fails or is interrupted. The mode is that of
/// the local file less the umask, or that of the file that is replaced. Other names of that file, its
/// hard links, keep the old contents.
///
/// With -r directories and all below them, with modes and times; set-id bits are not kept, as the
/// owner is not. Symbolic links are copied as such. Sockets, FIFOs and devices, which a server does
/// not make, are named on stderr and left out.
#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    /// What to copy; `-` is stdin
    local: PathBuf,

    /// Where to, or a directory to put it into
    #[arg(value_hint = REMOTE)]
    remote: PathBuf,

    /// Copy directories, and all below them
    #[arg(short, long)]
    recursive: bool,
}

/// What is kept of a local file.
#[derive(Clone, Copy)]
struct Kept {
    mode: u32,
    mtime: Option<TimeSpec>,
}

/// A local directory, and what is kept of it.
struct Source {
    dir: LocalDir,
    kept: Kept,
}

/// A local directory and the remote one that it is copied to.
type Frame = copy_tree::Frame<Source, ControlFile>;

/// Copying, and what it needs.
struct Putter<'a> {
    unfinished: &'a Unfinished,
    /// Where trees go.
    top: Option<Arc<ControlFile>>,
    pump: Pump,
    progress: Progress,
}

impl Put {
    pub(crate) fn run(
        &self,
        session: &Session,
        console: &mut Console,
        unfinished: &Unfinished,
    ) -> Result<(), Stop> {
        let client = session.client()?;
        let stdin = self.local == Path::new("-");
        let found = if stdin {
            Ok(None)
        } else {
            fs::metadata(&self.local).map(Some)
        };
        let Some(found) = console.or_complain(&self.local, found)? else {
            return Ok(());
        };
        let is_dir = found.as_ref().is_some_and(fs::Metadata::is_dir);
        if is_dir && !self.recursive {
            return console.complain(&self.local, Why::Said("Is a directory: use -r"));
        }
        let size = match &found {
            Some(found) if found.is_file() => Some(found.len()),
            _ => None,
        };
        let mut putter = Putter {
            unfinished,
            top: None,
            pump: Pump::new(),
            progress: Progress::new(size),
        };
        let remote = match self.local.file_name() {
            Some(name) if !stdin => into_directory(session, &self.remote, name.as_ref())?,
            _ => self.remote.clone(),
        };
        let at = session.at(&remote);
        let at = client.canonicalize(&at).unwrap_or(at);
        if is_dir {
            match putter.top(client, &self.local, Kept::of(found.as_ref()), &at) {
                Ok(top) => {
                    let count = |stop: &survey::Stop| survey::local(&self.local, stop);
                    let bar = putter.progress.bar();
                    survey::along(bar, count, || putter.tree(top, console))?;
                }
                Err(why) => console.complain(why.subject(&self.local, &remote), why)?,
            }
        } else {
            let done = putter.one(client, &self.local, stdin, &at, self.recursive);
            if let Err(why) = done {
                console.complain(why.subject(&self.local, &remote), why)?;
            }
        }
        putter.progress.finish(console)
    }
}

impl Kept {
    fn of(metadata: Option<&fs::Metadata>) -> Kept {
        Kept {
            mode: metadata.map_or(0o666, MetadataExt::mode),
            mtime: metadata.map(|metadata| TimeSpec {
                sec: metadata.mtime(),
                nsec: metadata.mtime_nsec(),
            }),
        }
    }

    /// The permissions. Set-id bits are for another owner.
    fn permissions(self) -> u32 {
        self.mode & 0o1777
    }
}

/// `make` makes the remote directory. What is in the local one is looked at before, so that a
/// directory can be copied into itself, and there is an end to it.
fn frame(
    dir: LocalDir,
    kept: Kept,
    path: PathBuf,
    make: impl FnOnce() -> Result<ControlFile, Why>,
) -> Result<Frame, Why> {
    Ok(Frame {
        names: dir.names()?,
        from: Source { dir, kept },
        to: Arc::new(make()?),
        path,
    })
}

impl Putter<'_> {
    /// Copies a single file.
    fn one(
        &mut self,
        client: &Client,
        local: &Path,
        stdin: bool,
        remote: &Path,
        keep: bool,
    ) -> Result<(), Why> {
        let (dir, name) = spot(client, remote)?;
        let dir = Arc::new(dir);
        let replaced = match dir.walk_one(&name) {
            Ok(file) if file.file_type() == FileType::Directory => {
                return Err(Error::Local(Errno::EISDIR).into());
            }
            Ok(file) if file.file_type() != FileType::Regular => {
                return Err(Why::Said(
                    "Not a regular file, and not replaced: remove it, or choose another name",
                ));
            }
            Ok(file) => Some(file.attributes().permissions() & 0o1777),
            Err(why) if why.errno() == Errno::ENOENT => None,
            Err(why) => return Err(why.into()),
        };
        if stdin {
            let mode = replaced.unwrap_or_else(|| less_umask(0o666));
            return self.stream(&mut io::stdin().lock(), &dir, &name, mode);
        }
        let mut file = HostFile::open(local)?;
        let metadata = file.metadata()?;
        let mut kept = Kept::of(Some(&metadata));
        if !keep {
            kept = Kept {
                mode: replaced.unwrap_or_else(|| less_umask(kept.mode & 0o777)),
                mtime: None,
            };
        }
        if metadata.is_file() {
            self.file(&mut file, &dir, &name, kept)
        } else {
            self.stream(&mut file, &dir, &name, kept.permissions())
        }
    }

    /// The directory that the user has named.
    fn top(
        &mut self,
        client: &Client,
        local: &Path,
        kept: Kept,
        remote: &Path,
    ) -> Result<Frame, Why> {
        let dir = LocalDir::open(local)?;
        let top = frame(dir, kept, local.to_owned(), || remote_dir(client, remote))?;
        if top.from.dir.is(&top.to)? {
            return Err(INTO_ITSELF);
        }
        self.top = Some(Arc::clone(&top.to));
        Ok(top)
    }

    fn file(
        &mut self,
        from: &mut HostFile,
        dir: &Arc<ControlFile>,
        name: &OsStr,
        kept: Kept,
    ) -> Result<(), Why> {
        let how = Create::mode(kept.permissions());
        let ((control, open), partial) = self
            .unfinished
            .create(Dir::Remote(Arc::clone(dir)), |temporary| {
                Ok(dir.create(temporary, how, libc::O_WRONLY)?)
            })?;
        self.pump
            .put(from, &mut File::from(open), &mut self.progress)?;
        if let Some(mtime) = kept.mtime {
            control.set_stat(&SetAttributes::new().mtime(mtime))?;
        }
        partial.finish(name)?;
        self.progress.add_file();
        Ok(())
    }

    /// Copies what has no size.
    fn stream(
        &mut self,
        from: &mut impl io::Read,
        dir: &Arc<ControlFile>,
        name: &OsStr,
        mode: u32,
    ) -> Result<(), Why> {
        let how = Create::mode(mode);
        let ((_, open), partial) = self
            .unfinished
            .create(Dir::Remote(Arc::clone(dir)), |temporary| {
                Ok(dir.create(temporary, how, libc::O_WRONLY)?)
            })?;
        let mut to = File::from(open);
        self.pump.put_stream(from, &mut to, 0, &mut self.progress)?;
        partial.finish(name)?;
        self.progress.add_file();
        Ok(())
    }

    fn symlink(&mut self, dir: &Arc<ControlFile>, name: &OsStr, target: &OsStr) -> Result<(), Why> {
        match dir.symlink(name, target, Create::mode(0o777)) {
            Err(why) if why.errno() == Errno::EEXIST => {
                let (_, partial) = self
                    .unfinished
                    .create(Dir::Remote(Arc::clone(dir)), |temporary| {
                        Ok(dir.symlink(temporary, target, Create::mode(0o777))?)
                    })?;
                partial.finish(name)?;
            }
            made => drop(made?),
        }
        self.progress.add_other();
        Ok(())
    }
}

impl CopyTree for Putter<'_> {
    type From = Source;
    type To = ControlFile;

    fn entry(&mut self, dir: &Frame, name: &OsStr) -> Result<Option<Frame>, Why> {
        let here = &dir.from.dir;
        let stat = here.stat(name)?;
        let kept = Kept {
            mode: stat.st_mode,
            mtime: Some(TimeSpec {
                sec: stat.st_mtime,
                nsec: stat.st_mtime_nsec,
            }),
        };
        match FileType::from_mode(stat.st_mode) {
            FileType::Directory => {
                let below = here.open_dir(name)?;
                if let Some(top) = &self.top
                    && below.is(top)?
                {
                    return Err(INTO_ITSELF);
                }
                let path = dir.path.join(name);
                frame(below, kept, path, || make_dir(&dir.to, name)).map(Some)
            }
            FileType::Regular => {
                let mut file = here.open_file(name)?;
                self.file(&mut file, &dir.to, name, kept)?;
                Ok(None)
            }
            FileType::Symlink => {
                let target = here.readlink(name)?;
                self.symlink(&dir.to, name, &target)?;
                Ok(None)
            }
            FileType::Socket => Err(Why::Said("left out: it is a socket")),
            FileType::Fifo => Err(Why::Said("left out: it is a FIFO")),
            _ => Err(Why::Said("left out: it is a device")),
        }
    }

    fn complete(&mut self, dir: &Frame) -> Result<(), Why> {
        Ok(dir.to.set_stat(&attributes(dir.from.kept))?)
    }

    fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }
}

fn attributes(kept: Kept) -> SetAttributes {
    let changes = SetAttributes::new().mode(kept.permissions());
    match kept.mtime {
        Some(mtime) => changes.mtime(mtime),
        None => changes,
    }
}

/// The directory at `path`, which is made if it does not exist.
fn remote_dir(client: &Client, path: &Path) -> Result<ControlFile, Why> {
    match client.lookup(path) {
        Ok(dir) if dir.file_type() == FileType::Directory => Ok(dir),
        Ok(_) => Err(Error::Local(Errno::ENOTDIR).into()),
        Err(why) if why.errno() == Errno::ENOENT => {
            let (parent, name) = spot(client, &without_slash(path))?;
            make_dir(&parent, &name)
        }
        Err(why) => Err(why.into()),
    }
}

/// The directory called `name`, which is made if it does not exist. Nobody else sees into a new
/// one.
fn make_dir(parent: &ControlFile, name: &OsStr) -> Result<ControlFile, Why> {
    match parent.mkdir(name, Create::mode(0o700)) {
        Err(why) if why.errno() == Errno::EEXIST => {
            let found = parent.walk_one(name)?;
            match found.file_type() {
                FileType::Directory => Ok(found),
                _ => Err(Error::Local(Errno::ENOTDIR).into()),
            }
        }
        made => Ok(made?),
    }
}
