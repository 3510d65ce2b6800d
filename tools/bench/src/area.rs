//! The part of a server's tree that is measured: made through the protocol, so that it can be had
//! of any server, and removed in the end.

use std::path::{Path, PathBuf};
use std::process;

use libc::{O_DIRECTORY, O_RDONLY, O_RDWR};
use lisafs::Errno;
use lisafs::client::{Client, ControlFile, Create, Error, OpenFile};

/// A directory in the root of a server.
#[derive(Debug)]
pub(crate) struct Area {
    client: Client,
    path: PathBuf,
    dir: ControlFile,
}

impl Area {
    /// Makes it. `number` tells those of one run apart that may be on the same directory.
    pub(crate) fn new(client: &Client, number: usize) -> Result<Area, Error> {
        let path = PathBuf::from(format!("lisafs-bench.{}.{number}", process::id()));
        client.create_dir(&path)?;
        Ok(Area {
            client: client.clone(),
            dir: client.lookup(&path)?,
            path,
        })
    }

    /// The part of one thread.
    pub(crate) fn seat(&self, thread: usize) -> Result<Seat, Error> {
        let name = format!("thread.{thread}");
        let dir = match self.dir.walk_one(&name) {
            Ok(dir) => dir,
            Err(_) => self.dir.mkdir(&name, Create::mode(0o755))?,
        };
        Ok(Seat {
            client: self.client.clone(),
            path: self.path.join(name),
            dir,
        })
    }

    /// Removes it and what is in it.
    pub(crate) fn remove(self) -> Result<(), Error> {
        self.client.remove_dir_all(&self.path)
    }
}

/// What a thread works on, so that threads meet in the server and not in a directory.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) client: Client,
    path: PathBuf,
    pub(crate) dir: ControlFile,
}

impl Seat {
    /// Where something in its directory is.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// A file of at least so many bytes, none of which is a hole.
    pub(crate) fn file(&self, size: u32) -> Result<ControlFile, Error> {
        let file = match self.dir.walk_one("file") {
            Ok(file) => file,
            Err(_) => self.dir.create("file", Create::mode(0o644), O_RDWR)?.0,
        };
        if file.stat()?.size < u64::from(size) {
            let data = vec![b'x'; size as usize];
            let open = file.open(O_RDWR)?;
            if open.write_at(&data, 0)? != data.len() {
                return Err(Error::Local(Errno::EIO));
            }
        }
        Ok(file)
    }

    /// Another handle on its directory, for a task to keep.
    pub(crate) fn again(&self) -> Result<ControlFile, Error> {
        self.client.lookup(&self.path)
    }

    /// An empty file of that name, whatever was there.
    pub(crate) fn scratch_file(&self, name: &str) -> Result<(ControlFile, OpenFile), Error> {
        match self.dir.unlink(name, 0) {
            Err(why) if why.errno() != Errno::ENOENT => return Err(why),
            _ => {}
        }
        self.dir.create(name, Create::mode(0o644), O_RDWR)
    }

    /// The file of at least so many bytes, open, and without the descriptor that would spare the
    /// server the work.
    pub(crate) fn open(&self, size: u32) -> Result<OpenFile, Error> {
        Ok(self.file(size)?.open(O_RDWR)?.without_donation())
    }

    /// A chain of so many directories, each with the same name in the one above. Returns the names.
    pub(crate) fn chain(&self, depth: u32) -> Result<Vec<&'static str>, Error> {
        const NAME: &str = "d";
        let mut deepest: Option<ControlFile> = None;
        for _ in 0..depth {
            let above = deepest.as_ref().unwrap_or(&self.dir);
            let below = match above.walk_one(NAME) {
                Ok(below) => below,
                Err(_) => above.mkdir(NAME, Create::mode(0o755))?,
            };
            deepest = Some(below);
        }
        Ok(vec![NAME; depth as usize])
    }

    /// A directory of so many empty files, open.
    pub(crate) fn directory(&self, entries: u32) -> Result<OpenFile, Error> {
        let name = format!("entries.{entries}");
        let dir = match self.dir.walk_one(&name) {
            Ok(dir) => dir,
            Err(_) => {
                let dir = self.dir.mkdir(&name, Create::mode(0o755))?;
                for number in 0..entries {
                    // Cheaper than a create, which opens the file as well.
                    let how = Create::mode(libc::S_IFREG | 0o644);
                    dir.mknod(format!("entry.{number:08}"), how, (0, 0))?;
                }
                dir
            }
        };
        dir.open(O_RDONLY | O_DIRECTORY)
    }
}
