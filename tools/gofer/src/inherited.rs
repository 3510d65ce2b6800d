//! Sockets that this process was started with: the connected one that `--fd` names, and the
//! listening one of socket activation, see sd_listen_fds(3).
#![forbid(unsafe_code)]

use std::env;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process;
use std::str::FromStr;

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
    /// It was not open when the process was started, or has been taken over.
    #[error("there is no such descriptor: start this process with a socket open there")]
    NotOpen,
    /// It is something else.
    #[error("this is not a Unix stream socket")]
    NotAUnixStream,
    /// It listens, or does nothing yet.
    #[error("this socket is not connected: use --listen to accept connections")]
    NotConnected,
    /// It is connected, or does nothing yet.
    #[error("this socket does not listen: pass one on that does")]
    NotListening,
    /// There are others, and nothing says which one to serve.
    #[error("{0} sockets are passed on: have it be a single one")]
    Several(usize),
    /// Nothing tells what this process was started with.
    #[error("cannot read /proc/self/fd, which has to be there: {0}")]
    Unknown(#[source] Errno),
    /// It cannot be looked at.
    #[error(transparent)]
    System(#[from] Errno),
}

/// Takes over a connected Unix stream socket that this process was started with, and has it closed
/// when another program is executed.
///
/// # Errors
/// If it is something else, or was taken over before.
pub fn take(number: RawFd) -> Result<UnixStream, Unfit> {
    check(own(number)?)
}

/// The first descriptor that is passed on, by sd_listen_fds(3).
const LISTEN_FDS_START: RawFd = 3;

/// Takes over the listening socket that this process was started with, as systemd passes it on: if
/// LISTEN_PID is this process, LISTEN_FDS descriptors were. `None` if none was.
///
/// # Errors
/// If it is something else, or there are several.
pub(crate) fn take_listener() -> Result<Option<UnixListener>, Unfit> {
    let count = match (variable::<u32>("LISTEN_PID"), variable("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == process::id() => count,
        _ => 0,
    };
    match count {
        0 => return Ok(None),
        1 => {}
        several => return Err(Unfit::Several(several)),
    }
    check_listener(own(LISTEN_FDS_START)?).map(Some)
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

fn own(number: RawFd) -> Result<OwnedFd, Unfit> {
    sys::take_inherited(number).map_err(|errno| match errno {
        Errno::EBADF => Unfit::NotOpen,
        other => Unfit::Unknown(other),
    })
}

fn check_listener(fd: OwnedFd) -> Result<UnixListener, Unfit> {
    check_kind(&fd)?;
    if !getsockopt(&fd, sockopt::AcceptConn)? {
        return Err(Unfit::NotListening);
    }
    Ok(UnixListener::from(fd))
}

fn check_kind(fd: &OwnedFd) -> Result<(), Unfit> {
    let kind = match getsockopt(fd, sockopt::SockType) {
        Err(Errno::ENOTSOCK) => return Err(Unfit::NotAUnixStream),
        other => other?,
    };
    let address: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    if kind != SockType::Stream || address.family() != Some(AddressFamily::Unix) {
        return Err(Unfit::NotAUnixStream);
    }
    Ok(())
}

fn check(fd: OwnedFd) -> Result<UnixStream, Unfit> {
    check_kind(&fd)?;
    match getpeername::<SockaddrStorage>(fd.as_raw_fd()) {
        Err(Errno::ENOTCONN) => return Err(Unfit::NotConnected),
        other => other?,
    };
    Ok(UnixStream::from(fd))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::process::Command;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::{Unfit, check, check_listener, take};

    #[test]
    fn what_was_inherited_is_taken_over_once() {
        const INSIDE: &str = "LISAFS_GOFER_TEST_HAS_A_SOCKET";
        if env::var_os(INSIDE).is_some() {
            let socket = take(0).unwrap();
            assert_eq!(take(0).err(), Some(Unfit::NotOpen));
            drop(socket);
            assert_eq!(take(0).err(), Some(Unfit::NotOpen));
            return;
        }
        let (theirs, _ours) = UnixStream::pair().unwrap();
        let name = "inherited::tests::what_was_inherited_is_taken_over_once";
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads=1"])
            .env(INSIDE, "yes")
            .stdin(OwnedFd::from(theirs))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }

    #[test]
    fn what_this_process_has_made_is_not_taken_over() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        fcntl(&ours, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        assert_eq!(take(ours.as_raw_fd()).err(), Some(Unfit::NotOpen));
    }

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

    #[test]
    fn only_a_unix_stream_that_listens_can_be_accepted_on() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(check_listener(listener.into()).is_ok());
        let (connected, _peer) = UnixStream::pair().unwrap();
        let why = check_listener(connected.into()).err();
        assert_eq!(why, Some(Unfit::NotListening));
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let why = check_listener(tcp.into()).err();
        assert_eq!(why, Some(Unfit::NotAUnixStream));
        let file = tempfile::tempfile().unwrap();
        let why = check_listener(file.into()).err();
        assert_eq!(why, Some(Unfit::NotAUnixStream));
    }
}
