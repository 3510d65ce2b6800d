//! Waiting for a process, and for how long.
#![forbid(unsafe_code)]

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys;

/// What a process says, of which only the beginning is kept.
#[derive(Debug)]
pub(crate) struct Output {
    /// `None` once nobody can say more.
    pipe: Option<PipeReader>,
    said: Vec<u8>,
}

impl Output {
    /// How much is kept, in bytes.
    const KEPT: usize = 4096;

    pub(crate) fn new(pipe: PipeReader) -> Output {
        Output {
            pipe: Some(pipe),
            said: Vec::new(),
        }
    }

    /// The beginning of what was said.
    pub(crate) fn said(&self) -> &[u8] {
        &self.said
    }

    /// Reads once, which does not wait if there is something or the other end is closed.
    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut bytes = [0; 4096];
        match pipe.read(&mut bytes) {
            // What cannot be read is missing in an error message, no more.
            Ok(0) | Err(_) => self.pipe = None,
            Ok(count) => {
                let room = Output::KEPT.saturating_sub(self.said.len());
                self.said.extend(bytes.iter().take(count.min(room)));
            }
        }
    }

    /// Reads what has been said until now, as far as it is kept.
    fn read_rest(&mut self) {
        while self.said.len() < Output::KEPT
            && let Some(pipe) = &self.pipe
        {
            let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::ZERO) {
                Ok(0) => return,
                Ok(_) => self.read(),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Waits until `child` ends, and not longer than `limit`; `None` if it has not ended by then.
///
/// # Errors
/// As pidfd_open(2), poll(2) and waitpid(2).
pub fn wait(child: &mut Child, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    wait_hearing(child, limit, None)
}

/// The same, and hears meanwhile what it says, so that it need not wait for that. What processes say
/// that it leaves behind is not waited for.
pub(crate) fn wait_hearing(
    child: &mut Child,
    limit: Option<Duration>,
    mut output: Option<&mut Output>,
) -> io::Result<Option<ExitStatus>> {
    let ended = sys::open_process(child.id())?;
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        if let Some(status) = child.try_wait()? {
            if let Some(output) = output {
                output.read_rest();
            }
            return Ok(Some(status));
        }
        // In steps, as poll(2) counts no further than 24 days.
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = match left {
            None => PollTimeout::NONE,
            Some(Duration::ZERO) => return Ok(None),
            // One more than the milliseconds that are left, so as not to look a fraction of one
            // too early, and often.
            Some(left) => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let pipe = output.as_ref().and_then(|output| output.pipe.as_ref());
        let ready = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![ready(ended.as_fd())];
        fds.extend(pipe.map(|pipe| ready(pipe.as_fd())));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(why.into()),
        }
        let heard = fds.get(1).is_some_and(|pipe| pipe.any() == Some(true));
        if let Some(output) = output.as_mut().filter(|_| heard) {
            output.read();
        }
    }
}
