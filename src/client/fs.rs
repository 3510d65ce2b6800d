//! [`std::fs`], with paths that the server's tree resolves.

use std::path::{Path, PathBuf};

use super::resolve::{LastLink, Parent};
use super::{Client, ControlFile, Create, Error, File, OpenOptions, ReadDir, SetAttributes};
use crate::Errno;
use crate::wire::{FileType, StatFs, Statx};

/// The mode of directories that are created without one.
const DIR_MODE: u32 = 0o755;

/// How much [`Client::read`] asks for at once, and the most it believes of a file's size.
const READ_STEP: usize = 1 << 20;

/// By path. Errors are those of the system call with that name: ENOENT for what does not exist,
/// ENOTDIR for a path through a file, ELOOP for more than 40 symbolic links, what the server says,
/// and EIO when it says nothing.
#[allow(clippy::missing_errors_doc)] // they are all above
impl Client {
    /// A handle on the file at `path`, following symbolic links.
    pub fn lookup(&self, path: impl AsRef<Path>) -> Result<ControlFile, Error> {
        self.resolve(path.as_ref(), LastLink::Follow)
    }

    /// A handle on the file at `path`, which may be a symbolic link.
    pub fn symlink_lookup(&self, path: impl AsRef<Path>) -> Result<ControlFile, Error> {
        self.resolve(path.as_ref(), LastLink::Keep)
    }

    /// The attributes of the file at `path`, following symbolic links.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Statx, Error> {
        // Walking has just brought them.
        Ok(*self.lookup(path)?.attributes())
    }

    /// The attributes of the file at `path`, which may be a symbolic link.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Statx, Error> {
        Ok(*self.symlink_lookup(path)?.attributes())
    }

    /// Whether there is a file at `path`, following symbolic links.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool, Error> {
        match self.lookup(path) {
            Ok(_) => Ok(true),
            Err(why) if why.errno() == Errno::ENOENT => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// The attributes of the file system that `path` is on.
    pub fn stat_fs(&self, path: impl AsRef<Path>) -> Result<StatFs, Error> {
        self.lookup(path)?.stat_fs()
    }

    /// Opens a file for reading.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File, Error> {
        OpenOptions::new().read(true).open(self, path)
    }

    /// Opens a file for writing, empty: creates it or truncates it.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<File, Error> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(self, path)
    }

    /// The contents of a file.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
        let path = path.as_ref();
        let file = self.lookup(path)?;
        let size = usize::try_from(file.attributes().size).unwrap_or(READ_STEP);
        let file = File::from(file.open(libc::O_RDONLY)?);
        let mut data = Vec::new();
        // One more than the file has, so that its end shows in the same read.
        let mut step = size.saturating_add(1).min(READ_STEP);
        loop {
            let done = data.len();
            data.resize(done + step, 0);
            let read = match data.get_mut(done..) {
                Some(part) => file.read_at(part, done as u64)?,
                None => 0,
            };
            data.truncate(done + read);
            // Too little where more was announced may be an error, which the next read brings.
            if read == 0 || (read < step && data.len() == size) {
                return Ok(data);
            }
            step = READ_STEP;
        }
    }

    /// Makes `data` the contents of a file, which is created if it does not exist.
    pub fn write(&self, path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Result<(), Error> {
        self.create(path)?.write_all_at(data.as_ref(), 0)
    }

    /// The entries of a directory.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<ReadDir, Error> {
        let dir = self.lookup(path)?;
        if dir.file_type() != FileType::Directory {
            return Err(Error::Local(Errno::ENOTDIR));
        }
        Ok(dir.open(libc::O_RDONLY)?.read_dir())
    }

    /// Makes a directory, with mode 0755.
    pub fn create_dir(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let Parent { dir, name, .. } = self.resolve_parent(path.as_ref(), Errno::EEXIST)?;
        dir.mkdir(name, Create::mode(DIR_MODE)).map(drop)
    }

    /// Makes a directory and those above it that do not exist. Success if it exists.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        // From the end, so that what exists is asked for once.
        let mut missing = Vec::new();
        for ancestor in path.ancestors() {
            if ancestor.as_os_str().is_empty() {
                break;
            }
            match self.metadata(ancestor) {
                Ok(stat) if stat.file_type() == FileType::Directory => break,
                Ok(_) => return Err(Error::Local(Errno::EEXIST)),
                Err(why) if why.errno() == Errno::ENOENT => missing.push(ancestor),
                Err(why) => return Err(why),
            }
        }
        for dir in missing.into_iter().rev() {
            match self.create_dir(dir) {
                // Somebody else was faster; or `dir` ends in `..`, and exists by now.
                Err(why) if why.errno() == Errno::EEXIST => {
                    if self.metadata(dir)?.file_type() != FileType::Directory {
                        return Err(why);
                    }
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Removes a name that is not a directory's.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let Parent { dir, name, slash } = self.resolve_parent(path.as_ref(), Errno::EISDIR)?;
        if slash {
            // A directory cannot be removed like this, and nothing else has a slash behind it.
            return Err(Error::Local(match dir.walk_one(&name)?.file_type() {
                FileType::Directory => Errno::EISDIR,
                _ => Errno::ENOTDIR,
            }));
        }
        dir.unlink(name, 0)
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let Parent { dir, name, .. } = self.resolve_parent(path.as_ref(), Errno::EBUSY)?;
        dir.unlink(name, libc::AT_REMOVEDIR)
    }

    /// Renames a file or directory, replacing what has the new name.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Error> {
        self.rename_with(from, to, 0)
    }

    /// [`rename`](Self::rename) with RENAME_NOREPLACE, RENAME_EXCHANGE or RENAME_WHITEOUT; EINVAL
    /// where the server has no flags.
    pub fn rename_with(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        flags: u32,
    ) -> Result<(), Error> {
        let from = self.resolve_parent(from.as_ref(), Errno::EBUSY)?;
        let to = self.resolve_parent(to.as_ref(), Errno::EBUSY)?;
        if (from.slash || to.slash)
            && from.dir.walk_one(&from.name)?.file_type() != FileType::Directory
        {
            return Err(Error::Local(Errno::ENOTDIR));
        }
        from.dir.rename(from.name, &to.dir, to.name, flags)
    }

    /// What a symbolic link says.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        let link = self.symlink_lookup(path)?;
        match link.file_type() {
            FileType::Symlink => link.readlink(),
            _ => Err(Error::Local(Errno::EINVAL)),
        }
    }

    /// Makes a symbolic link at `link` that says `target`.
    pub fn symlink(&self, target: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<(), Error> {
        let Parent { dir, name, slash } = self.resolve_parent(link.as_ref(), Errno::EEXIST)?;
        if slash {
            return Err(Error::Local(Errno::ENOENT));
        }
        dir.symlink(name, target.as_ref(), Create::mode(0))
            .map(drop)
    }

    /// Gives the file at `original` another name, `link`. A symbolic link is not followed.
    pub fn hard_link(
        &self,
        original: impl AsRef<Path>,
        link: impl AsRef<Path>,
    ) -> Result<(), Error> {
        let original = self.symlink_lookup(original)?;
        let Parent { dir, name, slash } = self.resolve_parent(link.as_ref(), Errno::EEXIST)?;
        if slash {
            return Err(Error::Local(Errno::ENOENT));
        }
        dir.link(name, &original).map(drop)
    }

    /// chmod(2), following symbolic links.
    pub fn set_permissions(&self, path: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
        self.set_attributes(path, &SetAttributes::new().mode(mode))
    }

    /// Changes attributes, following symbolic links.
    pub fn set_attributes(
        &self,
        path: impl AsRef<Path>,
        changes: &SetAttributes,
    ) -> Result<(), Error> {
        self.lookup(path)?.set_stat(changes)
    }

    /// The path from the root to the file at `path`, without symbolic links, `.` and `..`.
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        self.resolve_path(path.as_ref())
    }
}
