//! File attributes.

use bitflags::bitflags;
use bytemuck::{Pod, Zeroable};

use super::codec::{Decode, Encode, Malformed, Overflow, Reader, Writer, pod};

/// A moment as statx(2) tells it (16 bytes): seconds since the epoch and nanoseconds below 10⁹.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Timestamp {
    /// Seconds since the epoch, negative before it.
    pub sec: i64,
    /// Nanoseconds within the second.
    pub nsec: u32,
    /// Zero.
    pub pad: i32,
}

/// File attributes (144 bytes): the first 144 bytes of the kernel's `struct statx`, see statx(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)] // statx(2) describes each field by these names
pub struct Statx {
    pub mask: u32,
    pub blksize: u32,
    pub attributes: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pub pad: u16,
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    pub attributes_mask: u64,
    pub atime: Timestamp,
    pub btime: Timestamp,
    pub ctime: Timestamp,
    pub mtime: Timestamp,
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
}

impl Statx {
    /// The type that the mode's S_IFMT bits name.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(u32::from(self.mode))
    }

    /// The permission bits including set-id and sticky (07777).
    #[must_use]
    pub fn permissions(&self) -> u32 {
        u32::from(self.mode) & 0o7777
    }
}

/// The type of a file, as the S_IFMT bits of its mode tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // inode(7)
pub enum FileType {
    Regular,
    Directory,
    Symlink,
    Socket,
    Fifo,
    CharacterDevice,
    BlockDevice,
    /// None of the types that inode(7) knows.
    Unknown,
}

impl FileType {
    /// The type in `mode`; other bits are ignored.
    #[must_use]
    pub fn from_mode(mode: u32) -> FileType {
        match mode & libc::S_IFMT {
            libc::S_IFREG => FileType::Regular,
            libc::S_IFDIR => FileType::Directory,
            libc::S_IFLNK => FileType::Symlink,
            libc::S_IFSOCK => FileType::Socket,
            libc::S_IFIFO => FileType::Fifo,
            libc::S_IFCHR => FileType::CharacterDevice,
            libc::S_IFBLK => FileType::BlockDevice,
            _ => FileType::Unknown,
        }
    }

    /// The type in the `d_type` of a directory entry.
    #[must_use]
    pub fn from_d_type(d_type: u8) -> FileType {
        FileType::from_mode(u32::from(d_type) << 12)
    }
}

/// File system attributes (64 bytes), a part of statfs(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct StatFs {
    /// The magic number of the file system.
    pub kind: u64,
    /// Bytes of a block, the unit of the three block counts.
    pub block_size: i64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for unprivileged users.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// The longest file name, in bytes.
    pub name_length: u64,
}

pod! { Timestamp = 16, Statx = 144, StatFs = 64 }

/// A moment to set, as utimensat(2) takes it; `nsec` may be UTIME_NOW or UTIME_OMIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSpec {
    /// Seconds since the epoch.
    pub sec: i64,
    /// Nanoseconds within the second.
    pub nsec: i64,
}

impl Encode for TimeSpec {
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow> {
        self.sec.encode(out)?;
        self.nsec.encode(out)
    }
}

impl Decode<'_> for TimeSpec {
    fn decode(from: &mut Reader<'_>) -> Result<TimeSpec, Malformed> {
        Ok(TimeSpec {
            sec: i64::decode(from)?,
            nsec: i64::decode(from)?,
        })
    }
}

bitflags! {
    /// The attributes a `SetStat` changes: the STATX_ bits of statx(2) that can be set.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SetStat: u32 {
        /// STATX_MODE: permission bits.
        const MODE = 0x2;
        /// STATX_UID: owner.
        const UID = 0x8;
        /// STATX_GID: group.
        const GID = 0x10;
        /// STATX_ATIME: time of last access.
        const ATIME = 0x20;
        /// STATX_MTIME: time of last modification.
        const MTIME = 0x40;
        /// STATX_SIZE: length of a regular file.
        const SIZE = 0x200;
    }
}
