//! Noticing that the server is gone.
//!
//! A server that dies does not touch the word that a channel waits on; only the socket tells. So a
//! thread watches the socket, and ends the waits on all channels when it closes.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flipcall::FrameSocket;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::debug;

use super::pool::Channels;

/// How long to keep waking a caller. It takes microseconds unless the server fights it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A thread that watches the socket of a connection. Dropping it ends the connection.
#[derive(Debug)]
pub(super) struct Watchdog {
    frames: Arc<FrameSocket>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    pub(super) fn start(frames: Arc<FrameSocket>, channels: Arc<Channels>) -> io::Result<Watchdog> {
        let watched = Arc::clone(&frames);
        let thread = thread::Builder::new()
            .name("lisafs-watchdog".to_owned())
            .spawn(move || watch(&watched, &channels))?;
        Ok(Watchdog {
            frames,
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // A hang-up like any other, so the thread needs no second thing to wait for.
        self.frames.shutdown();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            debug!("the watchdog panicked");
        }
    }
}

fn watch(frames: &FrameSocket, channels: &Channels) {
    wait_for_hang_up(frames);
    // Whoever waits on the socket sees its end, also when the server closed one direction only.
    frames.shutdown();
    let busy = channels.end();
    // All at once, then one after the other, so that one that resists does not delay the rest.
    for closer in &busy {
        closer.shutdown(Duration::ZERO);
    }
    for closer in &busy {
        if !closer.shutdown(PATIENCE) {
            debug!("a channel does not end");
        }
    }
}

fn wait_for_hang_up(frames: &FrameSocket) {
    // nix has no name for it.
    let hang_up = PollFlags::from_bits_retain(libc::POLLRDHUP);
    let mut fds = [PollFd::new(frames.as_fd(), hang_up)];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Ok(_) => return,
            Err(why) => {
                debug!(%why, "cannot watch the socket");
                return;
            }
        }
    }
}
