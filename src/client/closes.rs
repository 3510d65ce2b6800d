//! Ids that are to be given up, collected so that one Close carries many.

use parking_lot::Mutex;
use tracing::debug;

use super::pool::Pool;
use crate::wire::{Array, CloseReq, FdId};

/// How many ids are collected before they are sent.
const BATCH: usize = 100;

/// The ids that nobody uses any more and that the server still holds.
#[derive(Debug, Default)]
pub(super) struct Closes {
    queue: Mutex<Vec<FdId>>,
}

impl Closes {
    /// Gives `id` up with the next Close.
    pub(super) fn later(&self, id: FdId, pool: &Pool) {
        let mut queue = self.queue.lock();
        queue.push(id);
        if queue.len() >= BATCH {
            let batch = std::mem::take(&mut *queue);
            drop(queue);
            send(&batch, pool);
        }
    }

    /// Gives `id` up at once, and all that were collected with it.
    pub(super) fn now(&self, id: FdId, pool: &Pool) {
        let mut batch = std::mem::take(&mut *self.queue.lock());
        batch.push(id);
        send(&batch, pool);
    }

    /// Gives up all that were collected.
    pub(super) fn flush(&self, pool: &Pool) {
        let batch = std::mem::take(&mut *self.queue.lock());
        if !batch.is_empty() {
            send(&batch, pool);
        }
    }
}

/// Nobody is left to tell about a failure: Close fails only when the connection has, and that
/// gives up all ids anyway.
fn send(batch: &[FdId], pool: &Pool) {
    let mut lease = pool.lease();
    // A server may set a limit below a whole batch. It is at least 21 bytes, so two ids fit.
    let room = (lease.max_message_size() as usize).saturating_sub(2) / size_of::<FdId>();
    for part in batch.chunks(room.clamp(1, BATCH)) {
        let close = CloseReq {
            fds: Array::new(part),
        };
        if let Err(why) = lease.call(&close) {
            debug!(%why, "ids were not given up");
        }
    }
}
