//! Listing directories.
//!
//! The protocol wants the device of each entry, which getdents64(2) does not tell. An entry is on the
//! device of its directory unless something is mounted on it, or the file system has several devices
//! (as btrfs and overlayfs do). So on the common file systems only the entries are looked at that have
//! the name of a mount point (`mounts.rs`), elsewhere all of them, and what that says counts: the inode
//! number and type that a directory has for a mount point are those of the file that is covered.
//!
//! Mounts come and go at any time. What a listing tells of an entry was true at some time between the
//! request and its answer for mounts that have come or gone; one that is moved, or whose mount point is
//! renamed in another mount name space, is found at its new place by listings that begin afterwards.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use bytemuck::pod_read_unaligned;
use nix::sys::statfs::{
    EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};
use nix::unistd::{Whence, lseek};
use parking_lot::Mutex;

use super::kernel::Kernel;
use super::mounts::MountPoints;
use super::{scratch, sys};
use crate::Errno;
use crate::server::DirentRequest;
use crate::wire::{Dirent64, DirentWriter, FileType};

/// The longest record of getdents64(2): 19 bytes, a name of 255 bytes and its NUL, padded to eight.
const LONGEST_RECORD: usize = 280;

/// How much is asked of the kernel at a time. What does not fit into a reply is read again, so not
/// much more than is wanted.
const BATCH: usize = 32_768;

const _: () = assert!(LONGEST_RECORD <= BATCH && BATCH <= scratch::SIZE);

/// File systems whose files are all on one device. ext2, ext3 and ext4 have the same number.
const SINGLE_DEVICE: [FsType; 4] = [
    EXT4_SUPER_MAGIC,
    XFS_SUPER_MAGIC,
    TMPFS_MAGIC,
    F2FS_SUPER_MAGIC,
];

/// How far a directory has been listed.
#[derive(Debug, Default)]
pub(super) struct Directory {
    cursor: Mutex<Cursor>,
}

#[derive(Debug, Default)]
struct Cursor {
    /// Behind the last entry that was delivered or left out; a cookie of the host.
    position: i64,
    /// The kernel has been asked for entries since the directory was opened or rewound.
    is_begun: bool,
    /// The last request had entries, and behind them came the end, which the next one is told: the
    /// kernel need not be asked for it again.
    is_at_end: bool,
    home: Option<Home>,
    mount_points: MountPoints,
}

/// What entries have in common with their directory.
#[derive(Clone, Copy, Debug)]
struct Home {
    device: (u32, u32),
    /// The unique id of the mount, if all files of the mount are on `device`.
    uniform_mount: Option<u64>,
}

impl Directory {
    /// Adds entries to `entries` until it is full or the directory ends. Calls on one directory run one
    /// after the other.
    ///
    /// # Errors
    /// As getdents64(2) if there are no entries before the error.
    pub(super) fn read(
        &self,
        directory: BorrowedFd<'_>,
        kernel: Kernel,
        request: DirentRequest,
        entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        let mut cursor = self.cursor.lock();
        let cursor = &mut *cursor;
        if request.rewind {
            cursor.rewind(directory)?;
        } else if core::mem::take(&mut cursor.is_at_end) {
            return Ok(());
        }
        let home = match cursor.home {
            Some(home) => home,
            None => *cursor.home.insert(Home::of(directory)?),
        };
        let begins = cursor.position == 0;
        let mount = home.uniform_mount.filter(|_| kernel.list_mounts);
        let known = mount.is_some_and(|mount| cursor.mount_points.refresh(mount, begins).is_ok());
        let places = Places {
            directory,
            home,
            mount_points: known.then_some(&cursor.mount_points),
        };
        let mut room = usize::try_from(request.count).unwrap_or(usize::MAX);
        scratch::with(|buffer| {
            loop {
                let batch = buffer.get_mut(..room.clamp(LONGEST_RECORD, BATCH));
                let batch = batch.unwrap_or_default();
                cursor.is_begun = true;
                let filled = match sys::getdents64(directory, batch) {
                    Ok(0) => {
                        cursor.is_at_end = !entries.is_empty();
                        return Ok(());
                    }
                    Ok(filled) => filled,
                    Err(_) if !entries.is_empty() => return Ok(()),
                    Err(errno) => return Err(errno.into()),
                };
                let mut records = batch.get(..filled).unwrap_or_default();
                while let Some((record, rest)) = Record::split_first(records) {
                    records = rest;
                    if let Some(entry) = places.entry(&record) {
                        if entries.push(&entry).is_err() {
                            // The records behind it were read but are not delivered.
                            lseek(directory, cursor.position, Whence::SeekSet)?;
                            return Ok(());
                        }
                        room = room.saturating_sub(entry.host_size());
                    }
                    cursor.position = record.position;
                }
                if room < LONGEST_RECORD && !entries.is_empty() {
                    return Ok(());
                }
            }
        })
    }
}

impl Cursor {
    fn rewind(&mut self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.is_begun {
            lseek(directory, 0, Whence::SeekSet)?;
            (self.is_begun, self.is_at_end) = (false, false);
            self.position = 0;
        }
        Ok(())
    }
}

impl Home {
    fn of(directory: BorrowedFd<'_>) -> Result<Home, Errno> {
        let mask = libc::STATX_INO | libc::STATX_MNT_ID_UNIQUE;
        let attributes = sys::statx(directory, c"", libc::AT_EMPTY_PATH, mask)?;
        let stat = attributes.stat;
        let single_device = SINGLE_DEVICE.contains(&fstatfs(directory)?.filesystem_type());
        let mount_known = stat.mask & libc::STATX_MNT_ID_UNIQUE != 0;
        Ok(Home {
            device: (stat.dev_major, stat.dev_minor),
            uniform_mount: (single_device && mount_known).then_some(attributes.mount),
        })
    }
}

/// Where the entries of a directory are.
struct Places<'d> {
    directory: BorrowedFd<'d>,
    home: Home,
    /// Where entries are that are not on the device of the directory, or `None` if that is not known.
    mount_points: Option<&'d MountPoints>,
}

impl Places<'_> {
    /// The entry for `record`, or `None` if it is left out or has gone.
    fn entry<'r>(&self, record: &Record<'r>) -> Option<Dirent64<'r>> {
        if record.is_dot() {
            return None;
        }
        let mut entry = Dirent64 {
            ino: record.inode,
            dev_minor: self.home.device.1,
            dev_major: self.home.device.0,
            off: record.position.cast_unsigned(),
            d_type: record.d_type,
            name: record.name.to_bytes(),
        };
        let at_home = self
            .mount_points
            .is_some_and(|points| !points.contain(entry.name));
        if at_home && record.d_type != libc::DT_UNKNOWN {
            return Some(entry);
        }
        let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
        let mask = libc::STATX_TYPE | libc::STATX_INO;
        match sys::statx(self.directory, record.name, flags, mask) {
            Ok(found) => {
                entry.ino = found.stat.ino;
                entry.dev_minor = found.stat.dev_minor;
                entry.dev_major = found.stat.dev_major;
                entry.d_type = d_type(found.stat.file_type());
                Some(entry)
            }
            Err(nix::errno::Errno::ENOENT) => None,
            // A directory that can be read but not searched is still listed.
            Err(_) => Some(entry),
        }
    }
}

fn d_type(file_type: FileType) -> u8 {
    match file_type {
        FileType::Regular => libc::DT_REG,
        FileType::Directory => libc::DT_DIR,
        FileType::Symlink => libc::DT_LNK,
        FileType::Socket => libc::DT_SOCK,
        FileType::Fifo => libc::DT_FIFO,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}

/// A `struct linux_dirent64`: u64 inode, i64 position, u16 size, u8 type, the name with its NUL.
struct Record<'r> {
    inode: u64,
    /// Behind this entry.
    position: i64,
    d_type: u8,
    name: &'r CStr,
}

impl<'r> Record<'r> {
    /// The first record and those behind it; `None` at the end.
    fn split_first(records: &'r [u8]) -> Option<(Record<'r>, &'r [u8])> {
        let (inode, fields) = records.split_first_chunk::<8>()?;
        let (position, fields) = fields.split_first_chunk::<8>()?;
        let (size, fields) = fields.split_first_chunk::<2>()?;
        let size = usize::from(u16::from_ne_bytes(*size));
        let (record, rest) = records.split_at_checked(size)?;
        let record = Record {
            inode: pod_read_unaligned(inode),
            position: pod_read_unaligned(position),
            d_type: *fields.first()?,
            name: CStr::from_bytes_until_nul(record.get(19..)?).ok()?,
        };
        Some((record, rest))
    }

    fn is_dot(&self) -> bool {
        matches!(self.name.to_bytes(), b"." | b"..")
    }
}
