//! The system calls that have no safe form elsewhere.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Takes over a descriptor that this process was started with.
///
/// To be called at most once for a number, before this process opens anything of its own, which
/// could have been given that number.
///
/// # Errors
/// EBADF if there is no such descriptor.
pub(crate) fn take_inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    set_close_on_exec(number)?;
    // SAFETY: `from_raw_fd` wants an open descriptor that nobody else owns. The call above has
    // shown that it is open. It was open before the first line of this program ran, as the caller
    // warrants, so no value of this program owns it; the standard library uses 0, 1 and 2 by number,
    // and owns them no more than others do.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// fcntl(number, F_SETFD, FD_CLOEXEC).
///
/// # Errors
/// EBADF if there is no such descriptor.
pub(crate) fn set_close_on_exec(number: RawFd) -> Result<(), Errno> {
    // SAFETY: fcntl(F_SETFD) takes any number, passes no memory, and changes nothing but whether
    // the descriptor survives execve(2), which no code of this program relies on.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Ignores `ignored` from here on.
///
/// # Errors
/// EINVAL for signals that cannot be ignored.
pub(crate) fn ignore(ignored: Signal) -> Result<(), Errno> {
    // SAFETY: `signal` is unsafe because a handler may run at any time and do what handlers must
    // not. There is no handler here.
    unsafe { signal(ignored, SigHandler::SigIgn) }.map(drop)
}

/// A moment in the time zone of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalTime {
    pub(crate) year: i32,
    /// 1 to 12.
    pub(crate) month: i32,
    /// 1 to 31.
    pub(crate) day: i32,
    pub(crate) hour: i32,
    pub(crate) minute: i32,
    pub(crate) second: i32,
    /// East of Greenwich, in seconds.
    pub(crate) offset: i64,
}

/// What clocks on the wall show, so many seconds after 1970 began. The zone is read when this is
/// first called. All zeros where the year has too many digits.
pub(crate) fn local_time(seconds: i64) -> LocalTime {
    // SAFETY: a `tm` is integers and a pointer that nobody follows here, so all zeros are one.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: localtime_r(3) wants two pointers, to a time to read and to a `tm` to write. Both come
    // from references to variables that outlive the call. It reads the environment, as `getenv` of
    // the standard library does, and nothing of this program changes that.
    if unsafe { libc::localtime_r(&seconds, &mut tm) }.is_null() {
        return LocalTime::default();
    }
    LocalTime {
        year: tm.tm_year.saturating_add(1900),
        month: tm.tm_mon.saturating_add(1),
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
        offset: tm.tm_gmtoff,
    }
}

/// pidfd_open(2): a descriptor that can be read, as far as poll(2) is concerned, once the process has
/// ended. Close-on-exec.
///
/// # Errors
/// As pidfd_open(2).
pub(crate) fn open_process(process: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two numbers, and so no memory is involved.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let number = Errno::result(number)?;
    let number = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: `from_raw_fd` wants an open descriptor that nobody else owns. The call above has just
    // made it, and this is the only copy of its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
