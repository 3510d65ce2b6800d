//! The channels of a connection: how many, and how they end.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use flipcall::{Closer, FdSender};
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

/// What becomes of what channels have answered last when their connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastAnswers {
    /// It can be read, also by who has not looked yet.
    Promised,
    /// It can be read by who has begun to.
    Kept,
    /// The client has hung up, or has ended its own direction of the socket: nobody is to read it, and
    /// the windows keep no memory.
    Discarded,
}

#[derive(Default)]
struct State {
    next: u64,
    running: Vec<(u64, Closer)>,
    /// Of those that have ended, what the client has not taken all descriptors from: they count against
    /// a limit that all processes of our user share, so the places are not free.
    untaken: Vec<Arc<FdSender>>,
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
    /// ENOMEM when there are as many as there may be, those included that have ended with descriptors
    /// that the client has not taken; ENOSYS when the connection is ending.
    pub(super) fn open<S: ServerImpl>(
        &self,
        connection: &Arc<Connection<S>>,
    ) -> Result<ClientEnd, Errno> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Errno::ENOSYS);
        }
        state.untaken.retain(is_unread);
        if state.running.len() + state.untaken.len() >= connection.opts().max_channels {
            return Err(Errno::ENOMEM);
        }
        let (channel, client) = Channel::new(connection)?;
        let (number, closer) = (state.next, client.closer.clone());
        let (counted, ending) = (closer.clone(), closer.clone());
        let descriptors = channel.descriptors();
        let id = connection.id();
        let connection = Arc::clone(connection);
        thread::Builder::new()
            .name(format!("channel {id}.{number}"))
            .stack_size(STACK_SIZE)
            .spawn(move || {
                // Made here and not outside, where it would have to go if there is no thread: its
                // drop takes the lock that is held there.
                let _end = ChannelEnd {
                    connection: &connection,
                    number,
                    closer: ending,
                    descriptors,
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
    /// Whoever still asks is told at once, unless answers are promised.
    pub(super) fn end(&self, deadline: Instant, answers: LastAnswers) -> usize {
        let mut state = self.state.lock();
        state.closed = true;
        state.untaken.clear();
        let all = state.running.clone();
        while !state.running.is_empty() && Instant::now() < deadline {
            for (_, closer) in &state.running {
                closer.shutdown_if_idle();
            }
            self.ended.wait_for(&mut state, END_TURN);
        }
        let told = match answers {
            LastAnswers::Promised => &state.running,
            LastAnswers::Kept | LastAnswers::Discarded => &all,
        };
        for (_, closer) in told {
            match answers {
                LastAnswers::Promised | LastAnswers::Kept => {
                    closer.shutdown(Duration::ZERO);
                }
                LastAnswers::Discarded => closer.discard(),
            }
        }
        let stuck = state.running.len();
        // Giving memory back takes a while, and others wait for the lock.
        drop(state);
        stuck
    }
}

fn is_unread(descriptors: &Arc<FdSender>) -> bool {
    // It does not fail for a socket; nobody is to lose a place for it if it does.
    descriptors.is_unread().unwrap_or(false)
}

/// Tells that a channel has ended, however it did.
struct ChannelEnd<'c, S: ServerImpl> {
    connection: &'c Connection<S>,
    number: u64,
    closer: Closer,
    descriptors: Arc<FdSender>,
}

impl<S: ServerImpl> Drop for ChannelEnd<'_, S> {
    fn drop(&mut self) {
        // The client has ended its channel or hung up, or waits for a reply that does not come. Once we
        // are the ones who hang up, it may be reading its last one: gVisor's then ends the channel at
        // once, whatever its threads are at. Who ends the connection does not see this channel any more.
        if self.connection.last_answers() == LastAnswers::Discarded {
            self.closer.discard();
        }
        let channels = self.connection.channels();
        let mut state = channels.state.lock();
        state.running.retain(|(number, _)| *number != self.number);
        if !state.closed && is_unread(&self.descriptors) {
            // For the client it has ended all the same.
            self.descriptors.shutdown();
            state.untaken.push(Arc::clone(&self.descriptors));
        }
        channels.ended.notify_all();
    }
}
