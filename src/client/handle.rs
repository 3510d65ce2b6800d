//! An id, and who gives it up.

use super::Client;
use crate::wire::FdId;

/// An object of the server that exists for this handle and is given up with it.
#[derive(Debug)]
pub(super) struct Handle {
    client: Client,
    id: FdId,
    close: Close,
}

/// When to tell the server that nobody uses an id any more.
#[derive(Clone, Copy, Debug)]
enum Close {
    /// At once, because more hangs on it than a number: deleted files keep their space while they
    /// are open, and sockets their peers.
    AtOnce,
    /// With others.
    Batched,
    /// Never: it belongs to the connection.
    Never,
}

impl Handle {
    pub(super) fn at_once(client: &Client, id: FdId) -> Handle {
        Handle::new(client, id, Close::AtOnce)
    }

    pub(super) fn batched(client: &Client, id: FdId) -> Handle {
        Handle::new(client, id, Close::Batched)
    }

    pub(super) fn borrowed(client: &Client, id: FdId) -> Handle {
        Handle::new(client, id, Close::Never)
    }

    fn new(client: &Client, id: FdId, close: Close) -> Handle {
        Handle {
            client: client.clone(),
            id,
            close,
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn id(&self) -> FdId {
        self.id
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        match self.close {
            Close::AtOnce => self.client.close_now(self.id),
            Close::Batched => self.client.close_later(self.id),
            Close::Never => {}
        }
    }
}
