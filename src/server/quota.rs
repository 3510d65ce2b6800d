//! Limits on what a client can make the server hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Errno;

/// How much of something may be held at a time.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::server::Quota;
///
/// let quota = Quota::new(2);
/// let held = [quota.take(), quota.take()];
/// assert_eq!(quota.take().map(drop), Err(Errno::EMFILE));
/// drop(held);
/// assert_eq!(quota.used(), 0);
/// ```
#[derive(Debug)]
pub struct Quota {
    used: AtomicUsize,
    limit: usize,
}

impl Quota {
    /// `limit` of it.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Quota> {
        Arc::new(Quota {
            used: AtomicUsize::new(0),
            limit,
        })
    }

    /// How much is held.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes one.
    ///
    /// # Errors
    /// EMFILE when all are taken.
    pub fn take(self: &Arc<Self>) -> Result<Share, Errno> {
        self.take_below(self.limit).ok_or(Errno::EMFILE)
    }

    /// Takes one for something that can be done without, unless half of all are taken.
    #[must_use]
    pub fn spare(self: &Arc<Self>) -> Option<Share> {
        self.take_below(self.limit / 2)
    }

    fn take_below(self: &Arc<Self>, limit: usize) -> Option<Share> {
        let increment = |used: usize| (used < limit).then_some(used + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, increment)
            .ok()?;
        Some(Share {
            quota: Arc::clone(self),
        })
    }
}

/// One of a quota, given back when it is dropped.
///
/// ```
/// use std::fs::File;
/// use std::sync::Arc;
/// use lisafs::server::{Quota, Share};
///
/// /// A descriptor, and the right to have it.
/// struct Counted {
///     file: File,
///     _share: Share,
/// }
///
/// fn open(quota: &Arc<Quota>) -> std::io::Result<Counted> {
///     let share = quota.take()?;
///     Ok(Counted { file: File::open("/proc/self/comm")?, _share: share })
/// }
///
/// let quota = Quota::new(1);
/// let counted = open(&quota)?;
/// assert_eq!(quota.used(), 1);
/// assert!(open(&quota).is_err());
/// # assert!(counted.file.metadata()?.is_file());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.quota.used.fetch_sub(1, Ordering::Relaxed);
    }
}
