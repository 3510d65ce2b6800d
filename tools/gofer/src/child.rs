//! Waiting for a process, and for how long.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys;

/// Waits until `child` ends, and not longer than `limit`; `None` if it has not ended by then.
///
/// # Errors
/// As pidfd_open(2), poll(2) and waitpid(2).
pub fn wait(child: &mut Child, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let ended = sys::open_process(child.id())?;
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        if let Some(status) = child.try_wait()? {
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
        match poll(
            &mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
}
