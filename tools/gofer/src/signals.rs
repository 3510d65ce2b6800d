//! SIGTERM, SIGINT and SIGUSR2 as events.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys;

/// What wants the process to end.
const ENDING: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// The signals that say something to the process, held back until somebody waits for them.
#[derive(Debug)]
pub(crate) struct Signals {
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
    /// SIGTERM or SIGINT wants the process to end.
    End,
    /// SIGUSR2 wants it to leave new clients to others.
    Retire,
    /// There is something to read.
    Readable,
    /// The time is up.
    Timeout,
}

impl Signals {
    /// Holds the signals back, for this thread and those that it starts from here on.
    pub(crate) fn block() -> nix::Result<Signals> {
        let mut mask = heeded(ENDING)?;
        mask.add(Signal::SIGUSR2);
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&mask, flags)?;
        Ok(Signals { fd })
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
                // Nothing has happened to either.
                Err(Errno::EINTR) => continue,
                Err(why) => return Err(why),
                Ok(0) => return Ok(Event::Timeout),
                Ok(_) => {}
            }
            if fds.first().and_then(PollFd::any) != Some(true) {
                return Ok(Event::Readable);
            }
            if let Some(signal) = self.fd.read_signal()? {
                let retire = i32::try_from(signal.ssi_signo) == Ok(libc::SIGUSR2);
                return Ok(if retire { Event::Retire } else { Event::End });
            }
        }
    }

    /// Lets the next signal that wants the process to end do so.
    pub(crate) fn release(self) -> nix::Result<()> {
        SigSet::from_iter(ENDING).thread_unblock()
    }
}
