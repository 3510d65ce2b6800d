//! Requests as bytes, and replies judged.

use lisafs::server::DirectWorker;
use lisafs::wire::{Decode, FdId, Mid, MountReq, MountResp, Request};

use super::NullFs;

/// A request, encoded once, sent over and over.
pub(crate) struct Prepared {
    mid: Mid,
    bytes: Vec<u8>,
    reply: Vec<u8>,
}

impl Prepared {
    /// Encodes `request`, with `data` behind it.
    pub(crate) fn new<R: Request>(request: &R, data: &[u8]) -> Prepared {
        let mut bytes = Vec::new();
        request.encode(&mut bytes).unwrap();
        bytes.extend_from_slice(data);
        Prepared {
            mid: R::MID,
            bytes,
            reply: vec![0; 64 << 10],
        }
    }

    /// Has it served, and returns the payload of the reply.
    ///
    /// # Panics
    /// If it is refused.
    pub(crate) fn serve(&mut self, worker: &mut DirectWorker<'_, NullFs>) -> &mut [u8] {
        let (mid, len) = worker.serve(self.mid, &mut self.bytes, &mut self.reply);
        assert_eq!(mid, self.mid);
        &mut self.reply[..len]
    }

    /// Puts `id` where the request has an id, at the byte `offset`.
    pub(crate) fn set_id(&mut self, offset: usize, id: FdId) {
        self.bytes[offset..offset + 8].copy_from_slice(&id.0.to_le_bytes());
    }
}

/// Mounts, and returns the id of the root.
pub(crate) fn mount(worker: &mut DirectWorker<'_, NullFs>) -> FdId {
    let mut mount = Prepared::new(&MountReq {}, &[]);
    let reply = mount.serve(worker);
    MountResp::from_bytes(reply).unwrap().root.control_fd
}
