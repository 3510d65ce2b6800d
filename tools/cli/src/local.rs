//! Directories of this machine, by descriptor.
//!
//! What a server calls its files must not lead out of the directory that they are put into, and
//! trees may be deeper than a path can be long.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lisafs::client::ControlFile;
use nix::Result;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat, renameat};
use nix::sys::stat::{
    FileStat, Mode, UtimensatFlags, fchmod, fstat, fstatat, futimens, major, minor, mkdirat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, mkfifoat, symlinkat, unlinkat};

use crate::failure::Why;

/// An open directory. Names are single components, and no symbolic link is followed.
#[derive(Debug)]
pub(crate) struct LocalDir {
    fd: OwnedFd,
}

impl LocalDir {
    /// Opens a directory that the user has named; symbolic links are followed.
    pub(crate) fn open(path: &Path) -> Result<LocalDir> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty())?;
        Ok(LocalDir { fd })
    }

    pub(crate) fn open_dir(&self, name: &OsStr) -> Result<LocalDir> {
        let fd = self.open_at(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        Ok(LocalDir { fd })
    }

    /// Opens a directory, which is made if it does not exist. Nobody else sees into a new one.
    pub(crate) fn make_dir(&self, name: &OsStr) -> Result<LocalDir> {
        match mkdirat(&self.fd, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => self.open_dir(name),
            Err(why) => Err(why),
        }
    }

    /// Opens a file for reading. Does not wait for the other end of a FIFO.
    pub(crate) fn open_file(&self, name: &OsStr) -> Result<File> {
        let fd = self.open_at(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())?;
        Ok(File::from(fd))
    }

    /// Creates a file, which must not exist, for this user alone.
    pub(crate) fn create_file(&self, name: &OsStr) -> Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let fd = self.open_at(name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(File::from(fd))
    }

    fn open_at(&self, name: &OsStr, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        openat(&self.fd, name, flags, mode)
    }

    /// The names in it, but `.` and `..`.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        // Of its own, as the position is that of the descriptor.
        let mut dir = Dir::openat(
            &self.fd,
            ".",
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let names = dir.iter().map(|entry| {
            let name = entry?.file_name().to_bytes().to_vec();
            Ok(OsStr::from_bytes(&name).to_owned())
        });
        let mut names: Vec<OsString> = names.collect::<Result<_>>()?;
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }

    /// Whether `served` is this very directory, as it can be if the server is on this machine.
    pub(crate) fn is(&self, served: &ControlFile) -> std::result::Result<bool, Why> {
        let here = fstat(&self.fd)?;
        let there = served.attributes();
        let device = (u64::from(there.dev_major), u64::from(there.dev_minor));
        if (major(here.st_dev), minor(here.st_dev)) != device || here.st_ino != there.ino {
            return Ok(false);
        }
        // On another machine, something else may have the same numbers, but not from the same
        // nanosecond on.
        let changed = served.stat()?.ctime;
        Ok((here.st_ctime, here.st_ctime_nsec) == (changed.sec, i64::from(changed.nsec)))
    }

    pub(crate) fn stat(&self, name: &OsStr) -> Result<FileStat> {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    pub(crate) fn readlink(&self, name: &OsStr) -> Result<OsString> {
        readlinkat(&self.fd, name)
    }

    pub(crate) fn symlink(&self, name: &OsStr, target: &OsStr) -> Result<()> {
        symlinkat(target, &self.fd, name)
    }

    pub(crate) fn make_fifo(&self, name: &OsStr, mode: u32) -> Result<()> {
        mkfifoat(&self.fd, name, Mode::from_bits_truncate(mode))
    }

    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> Result<()> {
        renameat(&self.fd, from, &self.fd, to)
    }

    pub(crate) fn remove_file(&self, name: &OsStr) -> Result<()> {
        unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)
    }

    /// Sets permissions and the time of the last change of this directory.
    pub(crate) fn set(&self, mode: u32, mtime: TimeSpec) -> Result<()> {
        fchmod(&self.fd, Mode::from_bits_truncate(mode))?;
        futimens(&self.fd, &TimeSpec::UTIME_OMIT, &mtime)
    }

    /// Sets the time of the last change of what is in it.
    pub(crate) fn set_mtime(&self, name: &OsStr, mtime: TimeSpec) -> Result<()> {
        let flags = UtimensatFlags::NoFollowSymlink;
        utimensat(&self.fd, name, &TimeSpec::UTIME_OMIT, &mtime, flags)
    }
}
