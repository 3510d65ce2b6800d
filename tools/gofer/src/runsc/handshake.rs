//! What the gofer and `runsc` wait for each other with.
//!
//! While it starts, the gofer waits for descriptors to be closed by `runsc`. At the end it waits, not
//! long, for the sandbox to be gone.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use flipcall::FdReceiver;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{get_pdeathsig, set_pdeathsig};
use nix::unistd::{Gid, Uid, setgid, setuid};
use tracing::{debug, warn};

use crate::failure::{Failure, cannot};

/// How long each step of the wait for the sandbox may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// Waits until `runsc` closes the other end of `fd`, which says that `what` is done.
pub(crate) fn wait_for_close(fd: OwnedFd, what: &'static str) -> Result<(), Failure> {
    debug!(what, "waiting");
    let mut file = File::from(fd);
    loop {
        match file.read(&mut [0]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(Failure::Unsynced { what }),
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(cannot("cannot wait for runsc")(why)),
        }
    }
}

/// Waits until `runsc` has mapped the ids of the user namespace, then becomes somebody in it. To be
/// called before there are other threads.
///
/// A process that changes its ids no longer dies with its parent; this one still does, if it did.
pub(crate) fn enter_user_namespace(fd: OwnedFd, uid: u32, gid: u32) -> Result<(), Failure> {
    wait_for_close(fd, "the user namespace")?;
    let failed = cannot("cannot change ids in the user namespace");
    let signal = get_pdeathsig().map_err(&failed)?;
    setgid(Gid::from_raw(gid)).map_err(&failed)?;
    setuid(Uid::from_raw(uid)).map_err(&failed)?;
    set_pdeathsig(signal).map_err(&failed)
}

/// Waits for the sandbox to be gone: first for somebody to say which process it is, then for that
/// process. Who closes the other end, or says something else, is not waited for.
pub(crate) fn wait_for_sandbox(socket: OwnedFd) {
    if sandbox_ended(socket, PATIENCE) == Some(false) {
        warn!("the sandbox is still there although it has hung up: it will end later than this");
    }
}

/// Whether the sandbox that the other end tells of ends in time, if it tells of any in time.
fn sandbox_ended(socket: OwnedFd, patience: Duration) -> Option<bool> {
    if !readable(socket.as_fd(), patience) {
        return None;
    }
    let process = FdReceiver::from(socket).recv().ok()??;
    Some(readable(process.as_fd(), patience))
}

/// Whether there is something to read, also if that is the end, before the time is up.
fn readable(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], left) {
            Err(Errno::EINTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair,
    };

    use super::*;

    #[test]
    fn only_the_end_is_waited_for_and_a_byte_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let waiter = thread::spawn(move || wait_for_close(ours.into(), "it"));
        drop(theirs);
        waiter.join().unwrap().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        assert!(matches!(
            wait_for_close(ours.into(), "it"),
            Err(Failure::Unsynced { what: "it" })
        ));
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap()
    }

    fn send(socket: &OwnedFd, fd: &impl AsRawFd) {
        let fds = [fd.as_raw_fd()];
        sendmsg::<UnixAddr>(
            socket.as_raw_fd(),
            &[IoSlice::new(&[0])],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::empty(),
            None,
        )
        .unwrap();
    }

    /// Longer than any test may take.
    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_sandbox_that_is_announced_is_waited_for() {
        let (ours, theirs) = pair();
        // Stands for the process: it can be read once the other end is closed.
        let (process, end) = UnixStream::pair().unwrap();
        send(&theirs, &process);
        drop(process);
        let waiter = thread::spawn(move || sandbox_ended(ours, LONG));
        drop(end);
        assert_eq!(waiter.join().unwrap(), Some(true));
    }

    #[test]
    fn a_sandbox_that_stays_is_not_waited_for_any_longer() {
        let (ours, theirs) = pair();
        let (process, _end) = UnixStream::pair().unwrap();
        send(&theirs, &process);
        let patience = Duration::from_millis(10);
        assert_eq!(sandbox_ended(ours, patience), Some(false));
    }

    #[test]
    fn nobody_is_waited_for_when_nobody_is_announced() {
        let (ours, theirs) = pair();
        drop(theirs);
        assert_eq!(sandbox_ended(ours, LONG), None);
        let (ours, _theirs) = pair();
        assert_eq!(sandbox_ended(ours, Duration::from_millis(10)), None);
    }
}
