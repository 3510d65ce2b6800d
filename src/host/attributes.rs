//! Owner, mode, size and times.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::sys::statfs::fstatfs;
use nix::sys::time::TimeSpec as HostTime;
use nix::unistd::{fchownat, ftruncate};

use super::handle::Handle;
use super::procfd::FdPath;
use super::{HostFs, sys};
use crate::Errno;
use crate::wire::{FileType, Gid, SetStat, SetStatReq, SetStatResp, StatFs, TimeSpec, Uid};

impl HostFs {
    /// Changes the attributes in `mask`, each part whether or not another one fails.
    ///
    /// Nothing that is set takes effect on what is set later: the file is opened for the new size
    /// before its owner or mode can forbid that, and the mode comes after owner and size, which both
    /// strip set-id bits.
    pub(super) fn set_stat(
        &self,
        handle: &Handle,
        mask: SetStat,
        request: &SetStatReq,
    ) -> SetStatResp {
        let mut failures = Failures::default();
        if let Err(errno) = handle.may_change() {
            failures.note(mask, Err(errno));
            return failures.into_response();
        }
        let resized = mask
            .contains(SetStat::SIZE)
            .then(|| self.open_to_resize(handle));

        let owner = mask & (SetStat::UID | SetStat::GID);
        if !owner.is_empty() {
            let uid = if owner.contains(SetStat::UID) {
                request.uid
            } else {
                Uid::NONE
            };
            let gid = if owner.contains(SetStat::GID) {
                request.gid
            } else {
                Gid::NONE
            };
            failures.note(owner, chown(handle, uid, gid));
        }
        if let Some(file) = resized {
            failures.note(
                SetStat::SIZE,
                file.and_then(|file| resize(&file, request.size)),
            );
        }
        if mask.contains(SetStat::MODE) {
            failures.note(SetStat::MODE, self.chmod(handle, request.mode));
        }
        let times = mask & (SetStat::ATIME | SetStat::MTIME);
        if !times.is_empty() {
            let wanted = |bit, time| {
                if times.contains(bit) {
                    host_time(time)
                } else {
                    Ok(KEEP)
                }
            };
            let result = wanted(SetStat::ATIME, request.atime)
                .and_then(|atime| Ok((atime, wanted(SetStat::MTIME, request.mtime)?)))
                .and_then(|(atime, mtime)| set_times(handle, atime, mtime));
            failures.note(times, result);
        }
        failures.into_response()
    }

    /// Gives the file the permission bits in `mode`, set-id and sticky bits included; others are
    /// ignored.
    ///
    /// # Errors
    /// EOPNOTSUPP for a symlink; otherwise as chmod(2).
    pub(super) fn chmod(&self, handle: &Handle, mode: u32) -> Result<(), Errno> {
        if handle.file_type() == FileType::Symlink {
            // Older kernels leave that to the file system, and some change the mode.
            return Err(Errno::EOPNOTSUPP);
        }
        let mode = permissions(mode);
        handle.with_fd(|fd| {
            if self.kernel.fchmodat2 {
                return Ok(sys::fchmodat2(fd, c"", mode, libc::AT_EMPTY_PATH)?);
            }
            let path = FdPath::new(fd);
            let flags = FchmodatFlags::FollowSymlink;
            Ok(fchmodat(&self.procfd, path.as_c_str(), mode, flags)?)
        })
    }

    fn open_to_resize(&self, handle: &Handle) -> Result<OwnedFd, Errno> {
        match handle.file_type() {
            // O_NONBLOCK: a lease on the file is answered with EAGAIN, not waited for.
            FileType::Regular => {
                handle.with_fd(|fd| self.procfd.reopen(fd, OFlag::O_WRONLY | OFlag::O_NONBLOCK))
            }
            FileType::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Gives the file to `uid` and `gid`, each if it is one.
///
/// # Errors
/// As chown(2).
pub(super) fn chown(handle: &Handle, uid: Uid, gid: Gid) -> Result<(), Errno> {
    let uid = uid.some().map(nix::unistd::Uid::from_raw);
    let gid = gid.some().map(nix::unistd::Gid::from_raw);
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    handle.with_fd(|fd| Ok(fchownat(fd, c"", uid, gid, AtFlags::AT_EMPTY_PATH)?))
}

/// The permission bits of `mode`, set-id and sticky bits included.
pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode & 0o7777)
}

/// fstatfs(2).
///
/// # Errors
/// As the system call.
pub(super) fn stat_fs(handle: &Handle) -> Result<StatFs, Errno> {
    let stat = handle.with_fd(|fd| Ok(fstatfs(fd)?))?;
    Ok(StatFs {
        kind: number(stat.filesystem_type().0),
        block_size: number(stat.block_size()),
        blocks: number(stat.blocks()),
        blocks_free: number(stat.blocks_free()),
        blocks_available: number(stat.blocks_available()),
        files: number(stat.files()),
        files_free: number(stat.files_free()),
        name_length: number(stat.maximum_name_length()),
    })
}

/// A field of `struct statfs`, whose types differ by architecture; 0 for one that does not fit.
fn number<N: TryInto<W>, W: Default>(field: N) -> W {
    field.try_into().unwrap_or_default()
}

fn resize(file: &OwnedFd, size: u64) -> Result<(), Errno> {
    let size = i64::try_from(size).map_err(|_| Errno::EINVAL)?;
    Ok(ftruncate(file, size)?)
}

fn set_times(handle: &Handle, atime: HostTime, mtime: HostTime) -> Result<(), Errno> {
    handle.with_fd(|fd| Ok(sys::set_times(fd, atime, mtime)?))
}

const KEEP: HostTime = HostTime::UTIME_OMIT;

/// # Errors
/// EINVAL for nanoseconds that are neither below a second nor UTIME_NOW or UTIME_OMIT.
fn host_time(time: TimeSpec) -> Result<HostTime, Errno> {
    match time.nsec {
        0..1_000_000_000 | libc::UTIME_NOW | libc::UTIME_OMIT => {
            Ok(HostTime::new(time.sec, time.nsec))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// What could not be changed.
#[derive(Default)]
struct Failures {
    mask: SetStat,
    errno: Option<Errno>,
}

impl Failures {
    fn note(&mut self, attributes: SetStat, result: Result<(), Errno>) {
        if let Err(errno) = result {
            self.mask |= attributes;
            self.errno = Some(errno);
        }
    }

    fn into_response(self) -> SetStatResp {
        SetStatResp {
            failure_mask: self.mask.bits(),
            failure_errno: self.errno.map_or(0, |errno| u32::from(errno.raw())),
        }
    }
}
