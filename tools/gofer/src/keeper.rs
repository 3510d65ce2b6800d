//! A process outside of the sandbox that does one thing: it removes the name of a socket at the end.
//!
//! Whoever is locked in cannot reach the directory that the name is in, and a descriptor of that directory
//! would be a way out. So a child is made before. It gets nothing from this process but the end of a
//! pipe; when that is closed, by will or because this process has died, it does it and ends.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::pipe2;

use crate::listener::Name;
use crate::process::open_descriptors;
use crate::sys::{self, Forked, InChild};

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
    /// As fork(2) and pipe(2).
    pub(crate) fn start(name: &Name) -> Result<Keeper, Errno> {
        let (held, hold) = pipe2(OFlag::O_CLOEXEC)?;
        let (ended, end) = pipe2(OFlag::O_CLOEXEC)?;
        // Signals that are meant for a whole group end this process, and then the other one goes on.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let forked = sys::fork();
        if let Ok(Forked::Child(child)) = forked {
            drop((hold, ended));
            wait_and_remove(&child, held, &end, name);
        }
        before.thread_set_mask()?;
        forked?;
        Ok(Keeper {
            hold: Some(hold),
            ended,
        })
    }
}

/// What the child does.
#[expect(clippy::exit, reason = "a child has no `main` to return to")]
#[expect(unsafe_code, reason = "what it has copies of is closed by number")]
fn wait_and_remove(child: &InChild, held: OwnedFd, end: &OwnedFd, name: &Name) -> ! {
    use std::os::fd::AsRawFd;

    // Sockets would be held open by it, and clients would wait for their end.
    let kept = [held.as_raw_fd(), end.as_raw_fd(), 2];
    for number in open_descriptors().unwrap_or_default() {
        if !kept.contains(&number) {
            // SAFETY: from here on this process uses its ends of the two pipes and stderr, which are
            // kept, and `name`, which owns no descriptor, as no static of this program does; what
            // it opens meanwhile it opens afterwards. It ends with exit(3), which drops nothing.
            unsafe { child.close(number) };
        }
    }
    // Nobody writes, so this is the end, or an error that is none to wait after.
    let _ = File::from(held).read(&mut [0]);
    name.remove();
    process::exit(0)
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.hold.take());
        let mut fds = [PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::from(PATIENCE)) == Err(Errno::EINTR) {}
    }
}
