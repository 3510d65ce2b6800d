//! The attributes of a file.
//!
//! statx(2) tells all of them. fstat(2) tells all but when the file was born, and costs less, most of all
//! under a system call filter: it has no argument that the filter would have to look at. A file that is
//! known by its [`Identity`] is known by its birth as well, so as long as it is open fstat(2) will do.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use nix::NixPath;

use crate::Errno;
use crate::host::filesystem::FileSystem;
use crate::host::identity::Identity;
use crate::host::sys::{self, Attributes};
use crate::wire::{Name, Statx, Timestamp};

/// The attributes that the protocol carries.
const WIRE_MASK: u32 = libc::STATX_BASIC_STATS | libc::STATX_BTIME;

/// What statx(2) tells of a file that fstat(2) does not, where that lasts as long as the file.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct Lasting {
    mask: u32,
    birth: Timestamp,
}

impl Lasting {
    pub(super) fn new(identity: &Identity, filesystem: FileSystem) -> Lasting {
        let (sec, nsec) = identity.birth();
        let birth = Timestamp {
            sec,
            nsec,
            ..Timestamp::default()
        };
        Lasting {
            // A file has its birth although the root of the file system may have none.
            mask: (filesystem.told | libc::STATX_BTIME) & WIRE_MASK,
            birth,
        }
    }
}

/// The attributes of the file behind `fd`.
///
/// # Errors
/// As statx(2).
pub(in crate::host) fn stat(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    Ok(for_the_wire(look(fd)?.stat))
}

/// As [`stat`], for a file of which that is known.
///
/// # Errors
/// As fstat(2) or statx(2).
pub(in crate::host) fn stat_again(
    fd: BorrowedFd<'_>,
    lasting: Option<Lasting>,
) -> Result<Statx, Errno> {
    let Some(Lasting { mask, birth }) = lasting else {
        return stat(fd);
    };
    Ok(Statx {
        mask,
        btime: birth,
        ..as_statx(&sys::fstat(fd)?)?
    })
}

/// The numbers of fstat(2) where statx(2) has them, whatever types the two give them.
///
/// # Errors
/// EOVERFLOW for a number that does not fit there.
fn as_statx(stat: &libc::stat) -> Result<Statx, Errno> {
    let fit = |number| u32::try_from(number).map_err(|_| Errno::EOVERFLOW);
    let time = |sec, nsec| {
        Ok::<_, Errno>(Timestamp {
            sec,
            nsec: fit(nsec)?,
            ..Timestamp::default()
        })
    };
    Ok(Statx {
        blksize: fit(stat.st_blksize)?,
        nlink: u32::try_from(stat.st_nlink).map_err(|_| Errno::EOVERFLOW)?,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: u16::try_from(stat.st_mode).map_err(|_| Errno::EOVERFLOW)?,
        ino: stat.st_ino,
        size: stat.st_size.cast_unsigned(),
        blocks: stat.st_blocks.cast_unsigned(),
        atime: time(stat.st_atime, stat.st_atime_nsec)?,
        ctime: time(stat.st_ctime, stat.st_ctime_nsec)?,
        mtime: time(stat.st_mtime, stat.st_mtime_nsec)?,
        rdev_major: libc::major(stat.st_rdev),
        rdev_minor: libc::minor(stat.st_rdev),
        dev_major: libc::major(stat.st_dev),
        dev_minor: libc::minor(stat.st_dev),
        ..Statx::default()
    })
}

/// The attributes of `name` in `directory`, without following it.
///
/// # Errors
/// As statx(2).
pub(in crate::host) fn stat_name(
    directory: BorrowedFd<'_>,
    name: Name<'_>,
) -> Result<Statx, Errno> {
    Ok(for_the_wire(look_at(directory, name)?.stat))
}

/// All that is to be known of the file behind `fd`, the mount included.
pub(super) fn look(fd: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let mask = WIRE_MASK | Identity::MASK;
    Ok(sys::statx(fd, c"", libc::AT_EMPTY_PATH, mask)?)
}

/// As [`stat_name`], with the mount.
pub(super) fn look_at(directory: BorrowedFd<'_>, name: Name<'_>) -> Result<Attributes, Errno> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let mask = WIRE_MASK | Identity::MASK;
    Ok(name
        .as_bytes()
        .with_nix_path(|name| sys::statx(directory, name, flags, mask))??)
}

/// Leaves out what the protocol does not carry.
pub(super) fn for_the_wire(mut stat: Statx) -> Statx {
    stat.mask &= WIRE_MASK;
    stat.attributes = 0;
    stat.attributes_mask = 0;
    stat
}
