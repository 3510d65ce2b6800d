//! File attributes.

use bitflags::bitflags;

use super::declare::{pod_record, record};

pod_record! {
    /// A moment as statx(2) tells it (16 bytes): seconds since the epoch and nanoseconds below 10⁹.
    ///
    /// ```
    /// use lisafs::wire::Timestamp;
    ///
    /// let start = Timestamp { sec: 1, nsec: 500, ..Timestamp::default() };
    /// let end = Timestamp { sec: 2, ..Timestamp::default() };
    /// assert!(start < end);
    /// ```
    #[derive(Default, PartialOrd, Ord)]
    pub struct Timestamp = 16 {
        /// Seconds since the epoch, negative before it.
        sec: i64,
        /// Nanoseconds within the second.
        nsec: u32 [pad: i32],
    }
}

pod_record! {
    /// File attributes (144 bytes): the first 144 bytes of the kernel's `struct statx`, see statx(2).
    ///
    /// ```
    /// use lisafs::wire::{FileType, Statx};
    ///
    /// let stat = Statx { mode: 0o100_644, size: 5, ..Statx::default() };
    /// assert_eq!(stat.file_type(), FileType::Regular);
    /// assert_eq!(stat.permissions(), 0o644);
    /// ```
    #[derive(Default)]
    #[allow(missing_docs)] // statx(2) describes each field by these names
    pub struct Statx = 144 {
        mask: u32,
        blksize: u32,
        attributes: u64,
        nlink: u32,
        uid: u32,
        gid: u32,
        mode: u16 [pad: u16],
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: Timestamp,
        btime: Timestamp,
        ctime: Timestamp,
        mtime: Timestamp,
        rdev_major: u32,
        rdev_minor: u32,
        dev_major: u32,
        dev_minor: u32,
    }
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
///
/// ```
/// use lisafs::wire::FileType;
///
/// assert_eq!(FileType::from_mode(0o040_755), FileType::Directory);
/// assert_eq!(FileType::from_d_type(libc::DT_LNK), FileType::Symlink);
/// ```
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
        match d_type {
            0..=15 => FileType::from_mode(u32::from(d_type) << 12),
            _ => FileType::Unknown,
        }
    }
}

pod_record! {
    /// File system attributes (64 bytes), a part of statfs(2).
    ///
    /// ```
    /// use lisafs::wire::{Decode, Encode, StatFs};
    ///
    /// let stat = StatFs { block_size: 4096, blocks: 256, blocks_free: 64, ..StatFs::default() };
    /// let mut bytes = Vec::new();
    /// stat.encode(&mut bytes)?;
    /// assert_eq!(bytes.len(), 64);
    /// assert_eq!(StatFs::from_bytes(&bytes)?, stat);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Default)]
    pub struct StatFs = 64 {
        /// The magic number of the file system.
        kind: u64,
        /// Bytes of a block, the unit of the three block counts.
        block_size: i64,
        /// Blocks in all.
        blocks: u64,
        /// Free blocks.
        blocks_free: u64,
        /// Free blocks for unprivileged users.
        blocks_available: u64,
        /// Inodes in all.
        files: u64,
        /// Free inodes.
        files_free: u64,
        /// The longest file name, in bytes.
        name_length: u64,
    }
}

record! {
    /// A moment to set, as utimensat(2) takes it; `nsec` may be UTIME_NOW or UTIME_OMIT.
    #[derive(Copy, Default)]
    pub struct TimeSpec {
        /// Seconds since the epoch.
        sec: i64,
        /// Nanoseconds within the second.
        nsec: i64,
    }
    example TimeSpec { sec: -1, nsec: 500 }
        => b"\xff\xff\xff\xff\xff\xff\xff\xff\xf4\x01\0\0\0\0\0\0"
}

bitflags! {
    /// The attributes a `SetStat` changes: the STATX_ bits of statx(2) that can be set.
    ///
    /// ```
    /// use lisafs::wire::SetStat;
    ///
    /// let owner = SetStat::UID | SetStat::GID;
    /// assert_eq!(owner.bits(), libc::STATX_UID | libc::STATX_GID);
    /// // The time of the last change cannot be set.
    /// assert_eq!(SetStat::from_bits(libc::STATX_CTIME), None);
    /// ```
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

#[cfg(test)]
mod tests {
    use super::{FileType, SetStat, Statx};

    #[test]
    fn a_mode_and_a_d_type_name_the_same_type() {
        for (d_type, mode, expected) in [
            (libc::DT_REG, libc::S_IFREG, FileType::Regular),
            (libc::DT_DIR, libc::S_IFDIR, FileType::Directory),
            (libc::DT_LNK, libc::S_IFLNK, FileType::Symlink),
            (libc::DT_SOCK, libc::S_IFSOCK, FileType::Socket),
            (libc::DT_FIFO, libc::S_IFIFO, FileType::Fifo),
            (libc::DT_CHR, libc::S_IFCHR, FileType::CharacterDevice),
            (libc::DT_BLK, libc::S_IFBLK, FileType::BlockDevice),
            (libc::DT_UNKNOWN, 0, FileType::Unknown),
        ] {
            assert_eq!(FileType::from_d_type(d_type), expected);
            assert_eq!(FileType::from_mode(mode | 0o7777), expected);
        }
        // Only the low four bits of a d_type have a place in a mode.
        for d_type in 16..=u8::MAX {
            assert_eq!(FileType::from_d_type(d_type), FileType::Unknown, "{d_type}");
        }
    }

    #[test]
    fn a_mode_holds_type_and_permissions() {
        let stat = Statx {
            mode: 0o104_755,
            ..Statx::default()
        };
        assert_eq!(stat.file_type(), FileType::Regular);
        assert_eq!(stat.permissions(), 0o4755);
    }

    #[test]
    fn attributes_are_the_bits_of_statx() {
        for (ours, theirs) in [
            (SetStat::MODE, libc::STATX_MODE),
            (SetStat::UID, libc::STATX_UID),
            (SetStat::GID, libc::STATX_GID),
            (SetStat::ATIME, libc::STATX_ATIME),
            (SetStat::MTIME, libc::STATX_MTIME),
            (SetStat::SIZE, libc::STATX_SIZE),
        ] {
            assert_eq!(ours.bits(), theirs);
        }
        assert_eq!(SetStat::from_bits(libc::STATX_CTIME), None);
    }
}
