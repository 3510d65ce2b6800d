//! A file that the server knows, without having opened it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::NixPath;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC, fstatfs,
};

use super::sys;
use crate::Errno;
use crate::wire::{FileType, Name, Statx};

/// The attributes that the protocol carries.
const WIRE_MASK: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;

/// File systems whose regular files are no data but doors to the kernel: procfs, both versions of
/// cgroup, and from magic.h sysfs, debugfs, tracefs, securityfs, bpf and configfs.
const KERNEL_FS: [FsType; 9] = [
    PROC_SUPER_MAGIC,
    CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC,
    FsType(0x6265_6572),
    FsType(0x6462_6720),
    FsType(0x7472_6163),
    FsType(0x7363_6673),
    FsType(0xcafe_4a11),
    FsType(0x6265_6570),
];

/// Which file it is, among all that exist at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: (u32, u32),
    inode: u64,
}

impl Identity {
    pub(super) fn of(stat: &Statx) -> Identity {
        Identity {
            device: (stat.dev_major, stat.dev_minor),
            inode: stat.ino,
        }
    }
}

/// A file of any type, symlinks included, held by an O_PATH descriptor: opening it had no effect on
/// the file and needed no permission on it.
#[derive(Debug)]
pub(super) struct Handle {
    fd: OwnedFd,
    file_type: FileType,
    device: (u32, u32),
    /// It lies in one of [`KERNEL_FS`] that is mounted below the root.
    in_kernel_fs: bool,
}

impl Handle {
    /// The handle of the root behind `fd`, an O_PATH descriptor.
    ///
    /// # Errors
    /// As [`child`](Self::child).
    pub(super) fn root(fd: OwnedFd) -> Result<(Handle, Statx), Errno> {
        let stat = stat(fd.as_fd())?;
        let file_type = served(&stat)?;
        let device = Identity::of(&stat).device;
        Ok((
            Handle {
                fd,
                file_type,
                device,
                in_kernel_fs: false,
            },
            stat,
        ))
    }

    /// The handle of what `fd` holds, an O_PATH descriptor of a file in this directory.
    ///
    /// # Errors
    /// EPERM for a block device and for a file of unknown type.
    pub(super) fn child(&self, fd: OwnedFd) -> Result<(Handle, Statx), Errno> {
        let stat = stat(fd.as_fd())?;
        let file_type = served(&stat)?;
        let device = Identity::of(&stat).device;
        let in_kernel_fs = if device == self.device {
            self.in_kernel_fs
        } else {
            KERNEL_FS.contains(&fstatfs(&fd)?.filesystem_type())
        };
        Ok((
            Handle {
                fd,
                file_type,
                device,
                in_kernel_fs,
            },
            stat,
        ))
    }

    /// A second handle of the same file.
    ///
    /// # Errors
    /// EMFILE.
    pub(super) fn duplicate(&self) -> Result<Handle, Errno> {
        let fd = self.with_fd(|fd| Ok(fd.try_clone_to_owned()?))?;
        let Handle {
            file_type,
            device,
            in_kernel_fs,
            ..
        } = *self;
        Ok(Handle {
            fd,
            file_type,
            device,
            in_kernel_fs,
        })
    }

    /// The handle of `name` in this directory.
    ///
    /// # Errors
    /// As open(2) with O_PATH, and as [`child`](Self::child).
    pub(super) fn walk(&self, name: Name<'_>) -> Result<(Handle, Statx), Errno> {
        self.child(self.with_fd(|directory| open_path(directory, name, OFlag::empty()))?)
    }

    /// Runs `operation` with the descriptor: the one way in which the back end reaches a file. A
    /// handle need not have its descriptor open all the time, so there is no other accessor.
    ///
    /// # Errors
    /// Those of `operation`.
    pub(super) fn with_fd<R>(
        &self,
        operation: impl FnOnce(BorrowedFd<'_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        operation(self.fd.as_fd())
    }

    /// The type of the file, which never changes.
    pub(super) fn file_type(&self) -> FileType {
        self.file_type
    }

    /// Whether the file lies in a file system below the root whose files are the kernel's own, such
    /// as procfs and sysfs. They are shown but not opened: `self/mem` is the memory of this process,
    /// and a regular file.
    pub(super) fn in_kernel_fs(&self) -> bool {
        self.in_kernel_fs
    }

    /// The attributes of the file.
    ///
    /// # Errors
    /// As statx(2).
    pub(super) fn stat(&self) -> Result<Statx, Errno> {
        self.with_fd(stat)
    }
}

/// The type of a file, if files of the type are served.
///
/// # Errors
/// EPERM if they are not.
pub(super) fn served(stat: &Statx) -> Result<FileType, Errno> {
    match stat.file_type() {
        FileType::BlockDevice | FileType::Unknown => Err(Errno::EPERM),
        served => Ok(served),
    }
}

/// Opens `name` in `directory` with O_PATH, without following it.
pub(super) fn open_path(
    directory: BorrowedFd<'_>,
    name: Name<'_>,
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory, name.as_bytes(), flags, Mode::empty())?)
}

/// The attributes of the file behind `fd`.
pub(super) fn stat(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    let attributes = sys::statx(fd, c"", libc::AT_EMPTY_PATH, WIRE_MASK)?;
    Ok(for_the_wire(attributes.stat))
}

/// The attributes of `name` in `directory`, without following it.
pub(super) fn stat_name(directory: BorrowedFd<'_>, name: Name<'_>) -> Result<Statx, Errno> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let attributes = name
        .as_bytes()
        .with_nix_path(|name| sys::statx(directory, name, flags, WIRE_MASK))??;
    Ok(for_the_wire(attributes.stat))
}

/// Leaves out what the protocol does not carry.
fn for_the_wire(mut stat: Statx) -> Statx {
    stat.mask &= WIRE_MASK;
    stat.attributes = 0;
    stat.attributes_mask = 0;
    stat
}
