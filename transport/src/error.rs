#![forbid(unsafe_code)]
//! The one error of this crate.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Why a channel, window or socket cannot be used (any more).
///
/// Opaque on purpose: decide with [`kind`](Error::kind), and with [`errno`](Error::errno) where the
/// kernel had a say; everything else is for people and comes out of `Display` and the source chain.
///
/// ```
/// use flipcall::{ErrorKind, PacketWindow};
///
/// let impossible = PacketWindow::create(1 << 40).map(drop);
/// let why = impossible.expect_err("a window has less than 4 GiB");
/// assert_eq!(why.kind(), ErrorKind::InvalidInput);
/// assert_eq!(why.errno(), None);
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
#[expect(
    clippy::error_impl_error,
    reason = "the crate has one error, and is its namespace"
)]
pub struct Error {
    kind: ErrorKind,
    what: What,
    #[source]
    source: Option<Source>,
}

/// What an [`Error`] means to the caller.
///
/// ```
/// use flipcall::{Error, ErrorKind};
///
/// /// Whether the peer has to be suspected of something.
/// fn is_hostile(why: &Error) -> bool {
///     matches!(why.kind(), ErrorKind::Protocol | ErrorKind::Handshake | ErrorKind::Window)
/// }
/// # let why = flipcall::PacketWindow::create(1 << 40).map(drop).expect_err("too large");
/// assert!(!is_hostile(&why));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The channel was shut down, by the peer, by a [`Closer`](crate::Closer), or by an earlier
    /// error.
    Shutdown,
    /// The peer broke the protocol: a control word or a length outside its range, a frame cut
    /// short.
    Protocol,
    /// The peer's half of the connect handshake is not a JSON object or null.
    Handshake,
    /// The peer's packet window cannot be mapped safely: seals, size, offset or length are wrong.
    Window,
    /// The caller asked for something impossible, such as a datagram longer than the window.
    /// Nothing was changed; the channel is as usable as before.
    InvalidInput,
    /// A system call failed; [`Error::errno`] says how.
    Io,
}

/// Whether a failed send means that no other will succeed.
pub(crate) fn says_gone(errno: Errno) -> bool {
    matches!(errno, Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN)
}

#[derive(Debug)]
enum What {
    Fixed(&'static str),
    Value(&'static str, u64),
}

#[derive(Debug, thiserror::Error)]
enum Source {
    #[error(transparent)]
    Os(#[from] Errno),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// The kind of failure, which is all a program needs to react to it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno of the system call that failed, if one did.
    pub fn errno(&self) -> Option<Errno> {
        match self.source.as_ref()? {
            Source::Os(errno) => Some(*errno),
            Source::Io(error) => error.raw_os_error().map(Errno::from_raw),
            Source::Json(_) => None,
        }
    }

    /// Whether the peer's end of the socket is closed, so that nothing that is sent arrives.
    pub fn is_peer_gone(&self) -> bool {
        self.errno().is_some_and(says_gone)
    }

    pub(crate) fn new(kind: ErrorKind, what: &'static str) -> Error {
        Error {
            kind,
            what: What::Fixed(what),
            source: None,
        }
    }

    /// An error about one offending number, which is shown behind the text.
    pub(crate) fn about(kind: ErrorKind, what: &'static str, value: u64) -> Error {
        Error {
            kind,
            what: What::Value(what, value),
            source: None,
        }
    }

    pub(crate) fn shutdown() -> Error {
        Error::new(ErrorKind::Shutdown, "the channel is shut down")
    }

    pub(crate) fn os(what: &'static str) -> impl FnOnce(Errno) -> Error {
        move |errno| Error {
            kind: ErrorKind::Io,
            what: What::Fixed(what),
            source: Some(Source::Os(errno)),
        }
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |error| Error {
            kind: ErrorKind::Io,
            what: What::Fixed(what),
            source: Some(Source::Io(error)),
        }
    }

    pub(crate) fn json(what: &'static str) -> impl FnOnce(serde_json::Error) -> Error {
        move |error| Error {
            kind: ErrorKind::Handshake,
            what: What::Fixed(what),
            source: Some(Source::Json(error)),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Fixed(text) => f.write_str(text),
            What::Value(text, value) => write!(f, "{text}: {value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn errno_survives_both_ways_a_system_call_is_made() {
        let nix = Error::os("send")(Errno::ETOOMANYREFS);
        let std = Error::io("map")(io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(nix.errno(), Some(Errno::ETOOMANYREFS));
        assert_eq!(std.errno(), Some(Errno::ENOMEM));
        assert_eq!(Error::shutdown().errno(), None);
        assert!(nix.source().is_some());
    }

    #[test]
    fn display_names_the_offending_value() {
        let error = Error::about(ErrorKind::Protocol, "length exceeds the window", 70_000);
        assert_eq!(error.to_string(), "length exceeds the window: 70000");
    }
}
