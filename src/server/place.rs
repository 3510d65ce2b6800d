//! The places that connections take, and what becomes of one whose threads outlast it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::quota::{Quota, Share};
use crate::Errno;

/// How many connections there may be. As many again may have ended but for threads that are stuck in
/// the host.
#[derive(Debug)]
pub(super) struct Places {
    connected: Arc<Quota>,
    stuck: Arc<Quota>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Places {
        Places {
            connected: Quota::new(limit),
            stuck: Quota::new(limit),
        }
    }

    /// Takes one for a connection.
    ///
    /// # Errors
    /// EMFILE when all are taken.
    pub(super) fn take(&self) -> Result<Place, Errno> {
        Ok(Place {
            held: Mutex::new(Held {
                stuck: false,
                _share: Some(self.connected.take()?),
            }),
            stuck: Arc::clone(&self.stuck),
        })
    }
}

/// The place of a connection. Others get it when this is dropped, at the latest.
#[derive(Debug)]
pub(super) struct Place {
    held: Mutex<Held>,
    stuck: Arc<Quota>,
}

#[derive(Debug)]
struct Held {
    /// It is one of those for what is stuck.
    stuck: bool,
    _share: Option<Share>,
}

impl Place {
    /// Gives it to others: nothing is left of the connection.
    pub(super) fn leave(&self) {
        *self.held.lock() = Held {
            stuck: false,
            _share: None,
        };
    }

    /// Gives it to others although threads are stuck in the host, if not too many connections have left
    /// some there, and if `give_up` gives up the rest. Returns whether it did; otherwise they keep it.
    pub(super) fn leave_stuck(&self, give_up: impl FnOnce() -> bool) -> bool {
        let mut held = self.held.lock();
        if !held.stuck
            && let Ok(share) = self.stuck.take()
            && give_up()
        {
            *held = Held {
                stuck: true,
                _share: Some(share),
            };
        }
        held.stuck
    }
}
