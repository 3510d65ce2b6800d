//! Attributes, as the kernel and as a server say them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo, TimeOrNow};
use lisafs::wire::{FileType, Statx, TimeSpec, Timestamp};

use super::refusal::Refusal;

/// What the kernel is told of a file that does not exist, for it to remember.
pub(super) const NOTHING: FileAttr = FileAttr {
    ino: INodeNo(0),
    size: 0,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: fuser::FileType::RegularFile,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

/// What the kernel is told of a file that it knows by `number`.
///
/// # Errors
/// EIO for a type that there is not.
pub(super) fn attributes(number: u64, stat: &Statx) -> Result<FileAttr, Refusal> {
    Ok(FileAttr {
        ino: INodeNo(number),
        size: stat.size,
        blocks: stat.blocks,
        atime: moment(stat.atime),
        mtime: moment(stat.mtime),
        ctime: moment(stat.ctime),
        crtime: moment(stat.btime),
        kind: kind(stat.file_type()).ok_or(Refusal::IO)?,
        perm: stat.mode & 0o7777,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: device_number(stat.rdev_major, stat.rdev_minor),
        blksize: stat.blksize,
        flags: 0,
    })
}

/// What the kernel is told of a file of which nothing but its number and type is known. Where the
/// host does not tell the type, anything that is no directory does for most.
pub(super) fn bare(number: u64, file_type: FileType) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        kind: kind(file_type).unwrap_or(NOTHING.kind),
        ..NOTHING
    }
}

/// The type in the words of the kernel's; none for what is no type of inode(7).
fn kind(file_type: FileType) -> Option<fuser::FileType> {
    Some(match file_type {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Socket => fuser::FileType::Socket,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::CharacterDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::Unknown => return None,
    })
}

/// A device in the kernel's 32 bits: 12 of the major number amid 20 of the minor one.
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// (major, minor) of a device in the kernel's 32 bits.
pub(super) fn device(number: u32) -> (u32, u32) {
    let major = (number >> 8) & 0xfff;
    let minor = (number & 0xff) | ((number >> 12) & 0xf_ff00);
    (major, minor)
}

/// A time that the clock of this machine cannot say is the epoch.
fn moment(at: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(at.sec.unsigned_abs());
    let second = if at.sec < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    let nanoseconds = Duration::from_nanos(at.nsec.into());
    second
        .and_then(|second| second.checked_add(nanoseconds))
        .unwrap_or(UNIX_EPOCH)
}

/// A time to set.
///
/// fuser 0.18 takes the nanoseconds of a time before the epoch away from it instead of adding them.
/// Reading both parts off the distance from the epoch gives back what the kernel has sent.
pub(super) fn time_to_set(time: TimeOrNow) -> TimeSpec {
    let TimeOrNow::SpecificTime(time) = time else {
        return TimeSpec {
            sec: 0,
            nsec: libc::UTIME_NOW,
        };
    };
    let (distance, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (after, 1),
        Err(before) => (before.duration(), -1),
    };
    let seconds = i64::try_from(distance.as_secs()).unwrap_or(i64::MAX);
    TimeSpec {
        sec: sign * seconds,
        nsec: distance.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_those_of_the_kernel() {
        for (major, minor, number) in [
            (0, 0, 0),
            (1, 3, 0x103),
            (259, 0x1_2345, 0x1231_0345),
            (0xfff, 0xf_ffff, u32::MAX),
        ] {
            assert_eq!(device_number(major, minor), number);
            assert_eq!(device(number), (major, minor));
        }
    }

    #[test]
    fn moments_before_the_epoch_count_up_as_well() {
        let at = |sec, nsec| {
            moment(Timestamp {
                sec,
                nsec,
                ..Timestamp::default()
            })
        };
        assert_eq!(at(1, 5), UNIX_EPOCH + Duration::new(1, 5));
        assert_eq!(at(-1, 0), UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(at(-1, 500_000_000), UNIX_EPOCH - Duration::from_millis(500));
        assert!(at(i64::MIN, 0) <= UNIX_EPOCH);
    }

    #[test]
    fn times_to_set_undo_what_the_library_does_to_them() {
        let now = time_to_set(TimeOrNow::Now);
        assert_eq!(now.nsec, libc::UTIME_NOW);
        let set = |time| {
            let set = time_to_set(TimeOrNow::SpecificTime(time));
            (set.sec, set.nsec)
        };
        assert_eq!(set(UNIX_EPOCH + Duration::new(7, 9)), (7, 9));
        // What the kernel calls -1 s and 0.3 s.
        assert_eq!(
            set(UNIX_EPOCH - Duration::new(1, 300_000_000)),
            (-1, 300_000_000)
        );
    }
}
