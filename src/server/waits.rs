//! What waiting on channels came to, over the life of a server.

use std::collections::HashMap;

use flipcall::{Closer, WaitStats};
use parking_lot::Mutex;

/// The waits on all channels that a server has or has had.
#[derive(Debug, Default)]
pub(super) struct Waits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: HashMap<u64, Closer>,
    ended: WaitStats,
}

impl Waits {
    /// Counts the waits of a channel in. To be kept until it has ended.
    pub(super) fn count(&self, channel: Closer) -> Counted<'_> {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.running.insert(number, channel);
        Counted {
            waits: self,
            number,
        }
    }

    /// All of them. Never less than before, as channels come and go under one lock.
    pub(super) fn sum(&self) -> WaitStats {
        let state = self.state.lock();
        let mut sum = state.ended;
        for channel in state.running.values() {
            sum += channel.wait_stats();
        }
        sum
    }
}

/// A channel whose waits are counted.
#[derive(Debug)]
pub(super) struct Counted<'w> {
    waits: &'w Waits,
    number: u64,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut state = self.waits.state.lock();
        if let Some(channel) = state.running.remove(&self.number) {
            state.ended += channel.wait_stats();
        }
    }
}
