//! Why a call failed.

use std::io;

use crate::Errno;
use crate::wire::{Malformed, Mid, Overflow};

/// Why a call failed: the server said so, this side refused, or there was no usable answer.
///
/// Every error has an [`errno`](Error::errno), as the system call would have set it.
///
/// ```
/// use lisafs::{Errno, client::Error};
///
/// let error = Error::Remote(Errno::ENOENT);
/// assert_eq!(error.errno(), Errno::ENOENT);
/// assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
/// ```
#[derive(Debug, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the client has one error, and is its namespace"
)]
pub enum Error {
    /// The server's answer.
    #[error(transparent)]
    Remote(Errno),
    /// Decided on this side: a message that the server does not offer, a name that cannot be sent,
    /// a path that leads nowhere.
    #[error(transparent)]
    Local(Errno),
    /// There was no answer, or none that makes sense.
    #[error(transparent)]
    Failed(Failure),
}

/// The details of an [`Error::Failed`].
///
/// ```
/// use lisafs::client::{Error, FailureKind, Socket};
///
/// // A server that hangs up.
/// let (ours, _) = std::os::unix::net::UnixStream::pair()?;
/// match Socket::from(ours).mount() {
///     Err(Error::Failed(failure)) => assert_eq!(failure.kind(), FailureKind::Transport),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Failure {
    kind: FailureKind,
    #[source]
    source: Option<flipcall::Error>,
}

/// What went wrong between the two sides.
///
/// ```
/// use lisafs::client::FailureKind;
///
/// /// Whether the same call is worth another try over another connection.
/// fn reconnect(kind: FailureKind) -> bool {
///     matches!(kind, FailureKind::Disconnected | FailureKind::Transport)
/// }
/// assert!(!reconnect(FailureKind::MissingDescriptor));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailureKind {
    /// The server is gone, or this communicator failed before.
    #[error("the server is gone")]
    Disconnected,
    /// The transport failed; the source says how. The communicator is of no more use.
    #[error("the transport failed")]
    Transport,
    /// The reply is no complete message of the expected kind. The communicator stays usable.
    #[error("malformed reply")]
    Malformed,
    /// The reply is to another message than the request.
    #[error("reply to another message: {0}")]
    Unexpected(Mid),
    /// The reply does not bring a descriptor without which it is of no use.
    #[error("the reply lacks a descriptor")]
    MissingDescriptor,
}

impl Error {
    /// The errno of the failure. A failure between the two sides is EIO, except that a reply to
    /// another message is EINVAL and a missing descriptor EBADF.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Error::Remote(errno) | Error::Local(errno) => *errno,
            Error::Failed(failure) => match failure.kind {
                FailureKind::Unexpected(_) => Errno::EINVAL,
                FailureKind::MissingDescriptor => Errno::EBADF,
                _ => Errno::EIO,
            },
        }
    }

    pub(crate) fn failed(kind: FailureKind) -> Error {
        Error::Failed(Failure { kind, source: None })
    }

    pub(crate) fn transport(source: flipcall::Error) -> Error {
        Error::Failed(Failure {
            kind: FailureKind::Transport,
            source: Some(source),
        })
    }

    pub(crate) fn disconnected() -> Error {
        Error::failed(FailureKind::Disconnected)
    }

    pub(crate) fn malformed() -> Error {
        Error::failed(FailureKind::Malformed)
    }
}

impl Failure {
    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Error {
        Error::malformed()
    }
}

/// A request that exceeds the limit is not sent: EIO, as the server would answer.
impl From<Overflow> for Error {
    fn from(_: Overflow) -> Error {
        Error::Local(Errno::EIO)
    }
}

/// An errno that was decided on this side.
impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Local(errno)
    }
}

/// Carries the errno, so that its kind is what std makes of it; the details of a failure between
/// the two sides stay in the chain.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        error.errno().into()
    }
}
