//! The channels of a connection: how many, and how they end.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use flipcall::Closer;
use parking_lot::{Condvar, Mutex};

use super::backend::ServerImpl;
use super::channel::{Channel, ClientEnd};
use super::connection::{Connection, STACK_SIZE};
use crate::Errno;
use crate::observe::rarely;

/// How often the end of a connection looks for channels that have become idle meanwhile.
const END_TURN: Duration = Duration::from_millis(1);

/// The channels that a connection has running.
#[derive(Default)]
pub(super) struct Channels {
    state: Mutex<State>,
    /// Signalled when a channel ends.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    running: Vec<(u64, Closer)>,
    /// No more channels are made.
    closed: bool,
}

impl Channels {
    /// How many are running.
    pub(super) fn len(&self) -> usize {
        self.state.lock().running.len()
    }

    /// Makes a channel and starts its thread.
    ///
    /// # Errors
    /// ENOMEM when there are as many as there may be, ENOSYS when the connection is ending.
    pub(super) fn open<S: ServerImpl>(
        &self,
        connection: &Arc<Connection<S>>,
    ) -> Result<ClientEnd, Errno> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Errno::ENOSYS);
        }
        if state.running.len() >= connection.opts().max_channels {
            return Err(Errno::ENOMEM);
        }
        let (channel, client) = Channel::new(connection)?;
        let (number, closer) = (state.next, client.closer.clone());
        let counted = closer.clone();
        let id = connection.id();
        let connection = Arc::clone(connection);
        thread::Builder::new()
            .name(format!("channel {id}.{number}"))
            .stack_size(STACK_SIZE)
            .spawn(move || {
                // Made here and not outside, where it would have to go if there is no thread: its
                // drop takes the lock that is held there.
                let _end = ChannelEnd {
                    channels: connection.channels(),
                    number,
                };
                let _counted = connection.waits().count(counted);
                if let Err(errno) = connection.backend().thread_started() {
                    rarely!(error, %errno, "a channel cannot be served: its thread has no set-up");
                    return;
                }
                if let Err(error) = channel.serve(&connection, number) {
                    tracing::debug!(connection = id, number, %error, "channel ended");
                }
            })
            .map_err(Errno::from)?;
        state.next += 1;
        state.running.push((number, closer));
        Ok(client)
    }

    /// Ends all channels, each when it has answered the request that it is at, and makes no more.
    /// Returns how many are still at it at the deadline; they end with their request.
    ///
    /// With `answers_promised` what a channel has answered last stays readable. Otherwise whoever
    /// still asks is told at once.
    pub(super) fn end(&self, deadline: Instant, answers_promised: bool) -> usize {
        let mut state = self.state.lock();
        state.closed = true;
        let all = state.running.clone();
        while !state.running.is_empty() && Instant::now() < deadline {
            for (_, closer) in &state.running {
                closer.shutdown_if_idle();
            }
            self.ended.wait_for(&mut state, END_TURN);
        }
        let late = if answers_promised {
            &state.running
        } else {
            &all
        };
        for (_, closer) in late {
            closer.shutdown(Duration::ZERO);
        }
        state.running.len()
    }
}

/// Tells that a channel has ended, however it did.
struct ChannelEnd<'c> {
    channels: &'c Channels,
    number: u64,
}

impl Drop for ChannelEnd<'_> {
    fn drop(&mut self) {
        let mut state = self.channels.state.lock();
        state.running.retain(|(number, _)| *number != self.number);
        self.channels.ended.notify_all();
    }
}
