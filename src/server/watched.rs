//! What somebody sees of the requests that a thread serves, if anybody looks.

use flipcall::SharedBytes;

use super::dispatch::Told;
use crate::observe::{Exchange, Watch};
use crate::wire::Mid;

/// The watch over a serving thread. Without one a request costs two branches more.
#[derive(Debug)]
pub(super) struct Watched(Option<Box<dyn Watch>>);

impl Watched {
    pub(super) fn new(watch: Option<Box<dyn Watch>>) -> Watched {
        Watched(watch)
    }

    /// A request has come.
    pub(super) fn begin(&mut self, mid: Mid) {
        if let Some(watch) = &mut self.0 {
            watch.begin(mid);
        }
    }

    /// It is answered. `parsed` is the private part of its payload of `len` bytes.
    pub(super) fn end(
        &mut self,
        mid: Mid,
        parsed: &[u8],
        len: usize,
        reply: SharedBytes<'_>,
        told: Told,
    ) {
        if let Some(watch) = &mut self.0 {
            watch.end(&Exchange {
                mid,
                request: parsed,
                request_len: len,
                reply: reply.slice(0, told.len).unwrap_or(reply),
                outcome: told.outcome,
                descriptors: told.num_fds.into(),
            });
        }
    }
}
