//! What ends a mount.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;

use crate::failure::Stop;
use crate::signals::hold_back;

/// What has happened.
#[derive(Debug)]
pub(super) enum Event {
    /// Somebody wants it to end.
    Signal,
    /// The connection has ended.
    ServerGone,
    /// It was unmounted, or that failed.
    Unmounted(Result<(), Errno>),
    /// The kernel has no more requests.
    Ended,
}

/// The signals that end a program, kept from this one.
#[derive(Debug)]
pub(crate) struct Signals {
    set: SigSet,
}

impl Signals {
    /// To be called before there are other threads, which would get the signals otherwise.
    ///
    /// # Errors
    /// That of sigprocmask(2).
    pub(crate) fn block() -> Result<Signals, Stop> {
        Ok(Signals { set: hold_back()? })
    }

    /// Reports each signal.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn report(self, to: Sender<Event>) -> io::Result<()> {
        let report = move || while self.set.wait().is_ok() && to.send(Event::Signal).is_ok() {};
        spawn("signals", report)
    }
}

/// The socket of a connection, which ends with this, whoever else still has it.
#[derive(Debug)]
pub(super) struct Line {
    socket: UnixStream,
}

impl Line {
    pub(super) fn new(socket: UnixStream) -> Line {
        Line { socket }
    }

    /// Reports the end of the connection.
    ///
    /// # Errors
    /// When there can be no more threads or descriptors.
    pub(super) fn report(&self, to: Sender<Event>) -> io::Result<()> {
        let socket = self.socket.try_clone()?;
        spawn("hang-up", move || {
            wait_for_hang_up(&socket);
            // Nobody is left to tell if that fails.
            let _ = to.send(Event::ServerGone);
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn wait_for_hang_up(socket: &UnixStream) {
    // nix has no name for it.
    let hang_up = PollFlags::from_bits_retain(libc::POLLRDHUP);
    let mut fds = [PollFd::new(socket.as_fd(), hang_up)];
    while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

/// Does `what` in another thread.
///
/// # Errors
/// When there can be no more threads.
pub(super) fn spawn(name: &str, what: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(what).map(drop)
}
