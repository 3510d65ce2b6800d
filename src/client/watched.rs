//! What somebody sees of the requests that go over a communicator, if anybody looks.

use flipcall::SharedBytes;

use super::Error;
use crate::Errno;
use crate::observe::{Exchange, Observer, Via, Watch};
use crate::wire::describe::PREFIX;
use crate::wire::{Decode, ErrorResp, Mid, PWriteReq};

/// The watch over a communicator. Without one a request costs two branches more.
#[derive(Debug, Default)]
pub(super) struct Watched(Option<Box<Seen>>);

/// The watch, and the request that it waits for the reply to.
#[derive(Debug)]
struct Seen {
    watch: Box<dyn Watch>,
    mid: Mid,
    request: Vec<u8>,
    request_len: usize,
}

impl Watched {
    pub(super) fn new(observer: &dyn Observer, via: Via) -> Watched {
        Watched(Some(Box::new(Seen {
            watch: observer.watch(via),
            mid: Mid::ERROR,
            request: Vec::with_capacity(PREFIX),
            request_len: 0,
        })))
    }

    /// A request with the payload `payload` is about to leave.
    pub(super) fn begin(&mut self, mid: Mid, payload: SharedBytes<'_>) {
        let Some(seen) = &mut self.0 else { return };
        let most = match mid {
            Mid::PWRITE => PWriteReq::DATA_OFFSET as usize,
            _ => PREFIX,
        };
        seen.mid = mid;
        seen.request_len = payload.len();
        seen.request.resize(payload.len().min(most), 0);
        // As long as what it is copied from, at the most.
        let _ = payload.copy_to(0, &mut seen.request);
        seen.watch.begin(mid);
    }

    /// The reply `got` has come, and its payload.
    pub(super) fn end(&mut self, got: Mid, payload: SharedBytes<'_>, descriptors: usize) {
        let Some(seen) = &mut self.0 else { return };
        let outcome = match got {
            _ if got == seen.mid => Ok(()),
            Mid::ERROR => {
                let mut errno = [0; 4];
                let errno = match payload.copy_to(0, &mut errno) {
                    Ok(()) => ErrorResp::from_bytes(&errno).ok(),
                    Err(_) => None,
                };
                let errno = errno.and_then(|reply| Errno::new(reply.errno));
                Err(errno.unwrap_or(Errno::EIO))
            }
            _ => Err(Errno::EINVAL),
        };
        seen.end(payload, outcome, descriptors);
    }

    /// No reply comes.
    pub(super) fn fail(&mut self, why: &Error) {
        if let Some(seen) = &mut self.0 {
            seen.end(SharedBytes::from(&mut [][..]), Err(why.errno()), 0);
        }
    }
}

impl Seen {
    fn end(&mut self, reply: SharedBytes<'_>, outcome: Result<(), Errno>, descriptors: usize) {
        self.watch.end(&Exchange {
            mid: self.mid,
            request: &self.request,
            request_len: self.request_len,
            reply,
            outcome,
            descriptors,
        });
    }
}
