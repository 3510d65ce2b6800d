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
