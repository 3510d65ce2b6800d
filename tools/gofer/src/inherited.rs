//! The connected socket that `--fd` names.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getpeername, getsockname, getsockopt,
    sockopt,
};

use crate::sys;

/// Why an inherited descriptor cannot be served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It is not open.
    #[error("there is no such descriptor: start this process with a connected socket open there")]
    NotOpen,
    /// It is something else.
    #[error("this is not a Unix stream socket")]
    NotAUnixStream,
    /// It listens, or does nothing yet.
    #[error("this socket is not connected: use --listen to accept connections")]
    NotConnected,
    /// It cannot be looked at.
    #[error(transparent)]
    System(#[from] Errno),
}

/// Takes over a connected Unix stream socket that this process was started with, and has it closed
/// when another program is executed.
///
/// To be called at most once for a number, before this process opens anything of its own, which
/// could have been given that number.
///
/// # Errors
/// If it is something else.
pub fn take(number: RawFd) -> Result<UnixStream, Unfit> {
    let fd = sys::take_inherited(number).map_err(|errno| match errno {
        Errno::EBADF => Unfit::NotOpen,
        other => Unfit::System(other),
    })?;
    check(fd)
}

fn check(fd: OwnedFd) -> Result<UnixStream, Unfit> {
    let kind = match getsockopt(&fd, sockopt::SockType) {
        Err(Errno::ENOTSOCK) => return Err(Unfit::NotAUnixStream),
        other => other?,
    };
    let address: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    if kind != SockType::Stream || address.family() != Some(AddressFamily::Unix) {
        return Err(Unfit::NotAUnixStream);
    }
    match getpeername::<SockaddrStorage>(fd.as_raw_fd()) {
        Err(Errno::ENOTCONN) => return Err(Unfit::NotConnected),
        other => other?,
    };
    Ok(UnixStream::from(fd))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::{Unfit, check};

    #[test]
    fn a_connected_unix_stream_is_fit() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(check(ours.into()).is_ok());
    }

    #[test]
    fn what_is_not_a_connected_unix_stream_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        assert_eq!(check(listener.into()).err(), Some(Unfit::NotConnected));
        let (datagram, _peer) = UnixDatagram::pair().unwrap();
        assert_eq!(check(datagram.into()).err(), Some(Unfit::NotAUnixStream));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(check(file.into()).err(), Some(Unfit::NotAUnixStream));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(check(tcp.into()).err(), Some(Unfit::NotAUnixStream));
    }
}
