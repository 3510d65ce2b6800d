//! What the files of a file system have in common.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC,
    FsType, PROC_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};

use super::identity::Inode;
use crate::Errno;
use crate::wire::Statx;

/// File systems whose regular files are no data but doors to the kernel: procfs, both versions of
/// cgroup, and from magic.h sysfs, debugfs, tracefs, securityfs, bpf and configfs.
const KERNEL: [FsType; 9] = [
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

/// File systems whose birth times, where they have any, are those of the kernel's clock to the
/// nanosecond and stay as they are. Not so: what a server or another file system says (network file
/// systems, FUSE, overlayfs, where a file that is copied up is born again) and what is rounded (FAT).
/// ext2, ext3 and ext4 have the same number.
const REMEMBERING: [FsType; 5] = [
    EXT4_SUPER_MAGIC,
    XFS_SUPER_MAGIC,
    TMPFS_MAGIC,
    F2FS_SUPER_MAGIC,
    BTRFS_SUPER_MAGIC,
];

/// What the files of one device below the root have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileSystem {
    pub(super) device: (u32, u32),
    /// Its files are the kernel's own, and it is mounted below the root.
    pub(super) is_kernels: bool,
    /// Its files can be known by their [`Identity`](super::identity::Identity).
    pub(super) remembers: bool,
    /// The attributes that statx(2) tells of its files.
    pub(super) told: u32,
}

impl FileSystem {
    /// That of the root, which is served whatever it is.
    ///
    /// # Errors
    /// As fstatfs(2).
    pub(super) fn of_root(root: BorrowedFd<'_>, stat: &Statx) -> Result<FileSystem, Errno> {
        let filesystem = FileSystem::look(root, stat)?;
        Ok(FileSystem {
            is_kernels: false,
            ..filesystem
        })
    }

    /// That of `file`, found in a directory of this one.
    ///
    /// # Errors
    /// As fstatfs(2).
    pub(super) fn of_child(self, file: BorrowedFd<'_>, stat: &Statx) -> Result<FileSystem, Errno> {
        if Inode::of(stat).device == self.device {
            Ok(self)
        } else {
            FileSystem::look(file, stat)
        }
    }

    fn look(file: BorrowedFd<'_>, stat: &Statx) -> Result<FileSystem, Errno> {
        let kind = fstatfs(file)?.filesystem_type();
        Ok(FileSystem {
            device: Inode::of(stat).device,
            is_kernels: KERNEL.contains(&kind),
            remembers: REMEMBERING.contains(&kind),
            told: stat.mask,
        })
    }
}
