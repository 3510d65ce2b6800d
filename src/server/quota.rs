//! Limits on what a client can make the server hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Errno;

/// How much of something may be held at a time.
#[derive(Debug)]
pub(super) struct Quota {
    used: AtomicUsize,
    limit: usize,
}

impl Quota {
    pub(super) fn new(limit: usize) -> Arc<Quota> {
        Arc::new(Quota {
            used: AtomicUsize::new(0),
            limit,
        })
    }

    /// How much is held.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes one.
    ///
    /// # Errors
    /// EMFILE when all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Result<Share, Errno> {
        let increment = |used: usize| (used < self.limit).then_some(used + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, increment)
            .map_err(|_| Errno::EMFILE)?;
        Ok(Share {
            quota: Arc::clone(self),
        })
    }
}

/// One of a quota, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    quota: Arc<Quota>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.quota.used.fetch_sub(1, Ordering::Relaxed);
    }
}
