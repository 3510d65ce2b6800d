//! The error of the request path: a Linux error number.
#![forbid(unsafe_code)]

use core::fmt;
use core::num::NonZeroU16;
use std::io::ErrorKind;

/// A Linux error number, the one error type between a system call and the wire.
///
/// It is `Copy` and two bytes wide, so an error crosses every layer with `?` and without an
/// allocation. Zero ("no error") and numbers above 4095, which no system call returns, cannot be
/// represented.
///
/// ```
/// use lisafs::Errno;
///
/// let why = Errno::new(2).expect("2 is an errno");
/// assert_eq!(why, Errno::ENOENT);
/// assert_eq!(why.to_string(), "No such file or directory");
/// assert_eq!(Errno::new(0), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(NonZeroU16);

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`, see errno(3).")]
                pub const $name: Errno = Errno::known(nix::errno::Errno::$name);
            )*
        }
    };
}

errnos! {
    E2BIG EACCES EADDRINUSE EAGAIN EBADF EBUSY ECONNRESET EEXIST EFBIG EINTR EINVAL EIO EISDIR ELOOP EMFILE
    EMLINK EMSGSIZE ENAMETOOLONG ENOBUFS ENODATA ENOENT ENOMEM ENOSPC ENOSYS ENOTDIR ENOTEMPTY ENOTSOCK
    ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE EPROTO EPROTOTYPE ERANGE EREMOTEIO EROFS ESTALE ETIMEDOUT
    EXDEV
}

impl Errno {
    const MAX: u16 = 4095;

    /// For the constants above; evaluated at compile time only.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::expect_used
    )]
    const fn known(errno: nix::errno::Errno) -> Errno {
        Errno(NonZeroU16::new(errno as i32 as u16).expect("a named errno is not zero"))
    }

    /// The errno with the number `raw`, or `None` outside 1..=4095.
    #[must_use]
    pub fn new(raw: u32) -> Option<Errno> {
        let raw = u16::try_from(raw).ok().filter(|raw| *raw <= Errno::MAX)?;
        NonZeroU16::new(raw).map(Errno)
    }

    /// The number, in 1..=4095.
    #[must_use]
    pub fn raw(self) -> u16 {
        self.0.get()
    }

    fn as_nix(self) -> nix::errno::Errno {
        nix::errno::Errno::from_raw(i32::from(self.raw()))
    }
}

/// The symbolic name, `ENOENT`; a number Linux does not define prints as `errno 1234`.
impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_nix() {
            nix::errno::Errno::UnknownErrno => write!(f, "errno {}", self.raw()),
            known => fmt::Debug::fmt(&known, f),
        }
    }
}

/// The description, `No such file or directory`.
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_nix() {
            nix::errno::Errno::UnknownErrno => write!(f, "errno {}", self.raw()),
            known => f.write_str(known.desc()),
        }
    }
}

impl core::error::Error for Errno {}

/// EIO for a number that is no errno.
impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Errno {
        u32::try_from(errno as i32)
            .ok()
            .and_then(Errno::new)
            .unwrap_or(Errno::EIO)
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> std::io::Error {
        std::io::Error::from_raw_os_error(i32::from(errno.raw()))
    }
}

/// The errno inside `error`. Without one, EINVAL for what was refused before the system was asked, such
/// as a path with a NUL, and EIO for anything else.
impl From<&std::io::Error> for Errno {
    fn from(error: &std::io::Error) -> Errno {
        error
            .raw_os_error()
            .and_then(|raw| u32::try_from(raw).ok())
            .and_then(Errno::new)
            .unwrap_or(match error.kind() {
                ErrorKind::InvalidInput => Errno::EINVAL,
                _ => Errno::EIO,
            })
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Errno {
        Errno::from(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn only_numbers_a_system_call_can_return_are_errnos() {
        assert_eq!(Errno::new(0), None);
        assert_eq!(Errno::new(2), Some(Errno::ENOENT));
        assert_eq!(Errno::new(4095).map(Errno::raw), Some(4095));
        assert_eq!(Errno::new(4096), None);
        assert_eq!(Errno::new(u32::MAX), None);
    }

    #[test]
    fn what_the_standard_library_refuses_is_invalid() {
        let nul = std::fs::metadata("a\0b").unwrap_err();
        assert_eq!(Errno::from(nul), Errno::EINVAL);
        let other = std::io::Error::other("no number");
        assert_eq!(Errno::from(other), Errno::EIO);
    }

    #[test]
    fn errnos_print_by_name_and_by_description() {
        assert_eq!(format!("{:?}", Errno::EREMOTEIO), "EREMOTEIO");
        assert_eq!(Errno::ENOENT.to_string(), "No such file or directory");
        assert_eq!(format!("{:?}", Errno::new(4000).unwrap()), "errno 4000");
    }
}
