//! What the files of a file system have in common.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use nix::sys::statfs::{
    BPF_FS_MAGIC, BTRFS_SUPER_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC,
    EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, NSFS_MAGIC, OPENPROM_SUPER_MAGIC, PROC_SUPER_MAGIC,
    RDTGROUP_SUPER_MAGIC, SECURITYFS_MAGIC, SELINUX_MAGIC, SMACK_MAGIC, SYSFS_MAGIC, TMPFS_MAGIC,
    TRACEFS_MAGIC, XENFS_SUPER_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};

use super::identity::Inode;
use crate::Errno;
use crate::wire::Statx;

/// File systems whose regular files are no data but doors to the kernel, or through it to another
/// process. The names of those that have numbers only are the kernel's.
const KERNEL: [FsType; 31] = [
    PROC_SUPER_MAGIC,
    SYSFS_MAGIC,
    CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC,
    DEBUGFS_MAGIC,
    TRACEFS_MAGIC,
    BPF_FS_MAGIC,
    SECURITYFS_MAGIC,
    SELINUX_MAGIC,
    SMACK_MAGIC,
    FsType(0x5a3c_69f0), // AAFS_MAGIC, of AppArmor
    FsType(0x6265_6570), // CONFIGFS_MAGIC
    FsType(0x4249_4e4d), // BINFMTFS_MAGIC
    FsType(0xde5e_81e4), // EFIVARFS_MAGIC
    FsType(0x6165_676c), // PSTOREFS_MAGIC
    FsType(0x6573_5543), // FUSE_CTL_SUPER_MAGIC
    FsType(0x6e66_7364), // of nfsd
    FsType(0x6759_6969), // RPCAUTH_GSSMAGIC, of rpc_pipefs
    RDTGROUP_SUPER_MAGIC,
    XENFS_SUPER_MAGIC,
    OPENPROM_SUPER_MAGIC,
    // Namespaces and processes, which a descriptor stands for.
    NSFS_MAGIC,
    FsType(0x5049_4446), // PID_FS_MAGIC
    // Queues of messages to other processes.
    FsType(0x1980_0202), // MQUEUE_MAGIC
    FsType(0x6c6f_6f70), // BINDERFS_SUPER_MAGIC
    // Of some machines and drivers only.
    FsType(0x0a64_7361), // FUNCTIONFS_MAGIC
    FsType(0xaee7_1ee7), // GADGETFS_MAGIC
    FsType(0x76a9_f425), // DLMFS_MAGIC, of ocfs2
    FsType(0x0068_7970), // HYPFS_MAGIC
    FsType(0x6672_6f67), // IBMASMFS_MAGIC
    FsType(0x23c9_b64e), // SPUFS_MAGIC
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
