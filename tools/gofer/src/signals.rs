//! SIGTERM and SIGINT as events.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys;

/// The signals that end the process, held back until somebody waits for them.
#[derive(Debug)]
pub(crate) struct Signals {
    mask: SigSet,
    fd: SignalFd,
}

/// Those of the signals that this process does not ignore.
///
/// A shell has what it runs in the background ignore SIGINT, and nohup(1) takes SIGHUP away. Whoever
/// waits for a signal gets it all the same once it is blocked, and must not.
///
/// # Errors
/// None that the system call is known to have for signals that exist.
pub fn heeded(signals: impl IntoIterator<Item = Signal>) -> nix::Result<SigSet> {
    let mut heeded = SigSet::empty();
    for signal in signals {
        if !sys::is_ignored(signal)? {
            heeded.add(signal);
        }
    }
    Ok(heeded)
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A signal wants the process to end.
    Signal,
    /// There is something to read.
    Readable,
    /// The time is up.
    Timeout,
}

impl Signals {
    /// Holds the signals back, for this thread and those that it starts from here on.
    pub(crate) fn block() -> nix::Result<Signals> {
        let mask = heeded([Signal::SIGTERM, Signal::SIGINT])?;
        mask.thread_block()?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { mask, fd })
    }

    /// Waits for a signal, or until `other` can be read, whichever comes first.
    pub(crate) fn or_readable(&self, other: BorrowedFd<'_>) -> nix::Result<Event> {
        self.wait(Some(other), PollTimeout::NONE)
    }

    /// Waits for a signal, for so many milliseconds.
    pub(crate) fn or_timeout(&self, milliseconds: u16) -> nix::Result<Event> {
        self.wait(None, milliseconds.into())
    }

    fn wait(&self, other: Option<BorrowedFd<'_>>, timeout: PollTimeout) -> nix::Result<Event> {
        let signals = PollFd::new(self.fd.as_fd(), PollFlags::POLLIN);
        let mut fds: Vec<_> = [signals]
            .into_iter()
            .chain(other.map(|fd| PollFd::new(fd, PollFlags::POLLIN)))
            .collect();
        loop {
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => {}
                Err(why) => return Err(why),
                Ok(0) => return Ok(Event::Timeout),
                Ok(_) => break,
            }
        }
        let signalled = fds.first().and_then(PollFd::any) == Some(true);
        Ok(if signalled {
            Event::Signal
        } else {
            Event::Readable
        })
    }

    /// Takes the signal that has come, and lets the next one end the process.
    pub(crate) fn release(self) -> nix::Result<()> {
        self.fd.read_signal()?;
        self.mask.thread_unblock()
    }
}
