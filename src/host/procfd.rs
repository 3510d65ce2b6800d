//! The directory of our own descriptors, through which a descriptor is turned into a path.
//!
//! A handle is an O_PATH descriptor, and many system calls do not take one. All of them take a path,
//! and in `/proc/self/fd` the descriptor `7` has the path `7`, which leads to the very file, whatever
//! has become of its name. Calls without a directory argument (connect, bind, setxattr …) use that
//! path relative to the working directory, so each thread that runs them has one of its own.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open, openat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, fstat, umask};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::fchdir;

use super::kernel::Kernel;
use super::sys;
use crate::Errno;

const PATH: &CStr = c"/proc/self/fd";

thread_local! {
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

/// The directory of the descriptors of the process that opened it.
#[derive(Debug)]
pub(super) struct ProcFd {
    directory: OwnedFd,
    is_detached: bool,
    /// The kernel has open_tree(2).
    has_open_tree: bool,
}

impl ProcFd {
    /// Opens the directory, as a mount of its own where that is permitted: its `..` leads nowhere,
    /// and it survives a pivot_root(2) into a root without `/proc`.
    ///
    /// # Errors
    /// As open(2); ENOENT where no procfs is mounted.
    pub(super) fn open(kernel: Kernel) -> Result<ProcFd, Errno> {
        if kernel.open_tree
            && let Ok(directory) = sys::clone_tree(PATH)
        {
            return Ok(ProcFd {
                directory,
                is_detached: true,
                has_open_tree: true,
            });
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(PATH, flags, Mode::empty())?;
        Ok(ProcFd {
            directory,
            is_detached: false,
            has_open_tree: kernel.open_tree,
        })
    }

    /// Takes over such a mount that somebody else has made.
    ///
    /// # Errors
    /// EOPNOTSUPP if it is not of a procfs, ENOENT if it is another process's.
    pub(super) fn adopt(directory: OwnedFd, kernel: Kernel) -> Result<ProcFd, Errno> {
        if fstatfs(&directory)?.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(Errno::EOPNOTSUPP);
        }
        let procfd = ProcFd {
            directory,
            is_detached: true,
            has_open_tree: kernel.open_tree,
        };
        let own = |fd: BorrowedFd<'_>| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        let seen = procfd.reopen(procfd.as_fd(), OFlag::O_PATH)?;
        if own(seen.as_fd())? != own(procfd.as_fd())? {
            return Err(Errno::ENOENT);
        }
        Ok(procfd)
    }

    /// Whether it is a mount of its own.
    pub(super) fn is_detached(&self) -> bool {
        self.is_detached
    }

    /// Opens the file behind `fd` once more, with its permissions checked.
    ///
    /// # Errors
    /// As open(2); ELOOP for a symlink unless `flags` hold O_PATH.
    pub(super) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd, Errno> {
        let path = FdPath::new(fd);
        Ok(openat(
            &self.directory,
            path.as_c_str(),
            flags | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?)
    }

    /// Another descriptor of the file behind `fd`, with O_PATH: by open_tree(2) where there is one, which
    /// costs less than half of what `reopen` does.
    ///
    /// # Errors
    /// As [`reopen`](Self::reopen).
    pub(super) fn path_of(&self, fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        if self.has_open_tree
            && let Ok(opened) = sys::open_path_again(fd)
        {
            return Ok(opened);
        }
        self.reopen(fd, OFlag::O_PATH)
    }

    /// Gives the calling thread this directory as its own working directory and an umask of its own
    /// that masks nothing.
    ///
    /// # Errors
    /// As unshare(2) and fchdir(2).
    pub(super) fn enter(&self) -> Result<(), Errno> {
        unshare(CloneFlags::CLONE_FS)?;
        fchdir(&self.directory)?;
        umask(Mode::empty());
        ENTERED.set(true);
        Ok(())
    }
}

impl AsFd for ProcFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The path of a descriptor below [`ProcFd`].
pub(super) struct FdPath {
    /// Digits, then NULs. The longest descriptor number has ten digits.
    digits: [u8; 12],
}

impl FdPath {
    /// The path for use relative to a [`ProcFd`].
    pub(super) fn new(fd: BorrowedFd<'_>) -> FdPath {
        let mut digits = [0; 12];
        // Cannot fail, see the length; and an empty path would be refused by every system call.
        let _ = write!(&mut digits[..], "{}", fd.as_raw_fd());
        FdPath { digits }
    }

    /// The path for use relative to the working directory.
    ///
    /// # Errors
    /// EIO on a thread that has not [entered](ProcFd::enter) the directory: its working directory may
    /// hold anything under this name.
    pub(super) fn in_working_directory(fd: BorrowedFd<'_>) -> Result<FdPath, Errno> {
        if ENTERED.get() {
            Ok(FdPath::new(fd))
        } else {
            Err(Errno::EIO)
        }
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.digits).unwrap_or_default()
    }
}
