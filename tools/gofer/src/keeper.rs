//! A process outside of the sandbox that does one thing: it removes the name of a socket at the end.
//!
//! Whoever is locked in cannot reach the directory that the name is in, and a descriptor of that directory
//! would be a way out. So a child is made before. It gets nothing from this process but the end of a
//! pipe; when that is closed, by will or because this process has died, it does it and ends.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::pipe2;

use crate::socket_name::SocketName;
use crate::sys::{self, Forked};

/// How long the end of this process waits for the other one, in milliseconds: removing a name takes
/// microseconds.
const PATIENCE: u16 = 2000;

/// The child, as long as it is to wait.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Closed to have it go on.
    hold: Option<OwnedFd>,
    /// At its end when the child has ended.
    ended: OwnedFd,
}

impl Keeper {
    /// Starts a process that removes `name` when this is dropped, or this process ends. To be called
    /// while there is one thread.
    ///
    /// # Errors
    /// As `sys::fork` and pipe(2).
    pub(crate) fn start(name: &SocketName) -> Result<Keeper, Errno> {
        let (held, hold) = pipe2(OFlag::O_CLOEXEC)?;
        let (ended, end) = pipe2(OFlag::O_CLOEXEC)?;
        // Signals that are meant for a whole group end this process, and then the other one goes on.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let forked = sys::fork();
        if let Ok(Forked::Child(child)) = forked {
            drop((hold, ended));
            child.wait_and_remove(held, &end, name);
        }
        before.thread_set_mask()?;
        forked?;
        Ok(Keeper {
            hold: Some(hold),
            ended,
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.hold.take());
        let mut fds = [PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::from(PATIENCE)) == Err(Errno::EINTR) {}
    }
}
