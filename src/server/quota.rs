//! Limits on what a client can make the server hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    pooled: Option<Pooled>,
}

/// What a quota has of the one that it is part of.
#[derive(Debug)]
struct Pooled {
    pool: Arc<Quota>,
    /// Taken when the quota was made. Each one beyond it is taken and given back by itself.
    reserved: usize,
    /// The pool has back what was reserved.
    given_up: AtomicBool,
}

impl Pooled {
    fn give_up(&self) {
        if !self.given_up.swap(true, Ordering::Relaxed) {
            self.pool.release(self.reserved);
        }
    }
}

impl Quota {
    /// `limit` of it.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Quota> {
        Quota::build(limit, None)
    }

    /// `limit` of it, if all quotas within `pool` together do not hold more than that has. `reserved`
    /// are there for this one, whatever the others hold. A quarter of the pool is only for what is reserved,
    /// so that there is something for quotas to come.
    ///
    /// ```
    /// use lisafs::Errno;
    /// use lisafs::server::Quota;
    ///
    /// let pool = Quota::new(12);
    /// let greedy = Quota::within(&pool, 2, 12)?;
    /// let modest = Quota::within(&pool, 2, 12)?;
    /// let held: Vec<_> = std::iter::from_fn(|| greedy.take().ok()).collect();
    /// assert_eq!(held.len(), 7);
    /// assert!(modest.take().is_ok());
    /// assert!(Quota::within(&pool, 3, 12).is_ok());
    /// # Ok::<(), Errno>(())
    /// ```
    ///
    /// # Errors
    /// EMFILE when the pool has not so many to reserve.
    pub fn within(pool: &Arc<Quota>, reserved: usize, limit: usize) -> Result<Arc<Quota>, Errno> {
        let reserved = reserved.min(limit);
        if !pool.claim(reserved, pool.limit) {
            return Err(Errno::EMFILE);
        }
        let pooled = Pooled {
            pool: Arc::clone(pool),
            reserved,
            given_up: AtomicBool::new(false),
        };
        Ok(Quota::build(limit, Some(pooled)))
    }

    fn build(limit: usize, pooled: Option<Pooled>) -> Arc<Quota> {
        Arc::new(Quota {
            used: AtomicUsize::new(0),
            limit,
            pooled,
        })
    }

    /// How much is held.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How much can be held whatever others hold.
    #[must_use]
    pub fn sure(&self) -> usize {
        self.pooled.as_ref().map_or(self.limit, |of| of.reserved)
    }

    /// Takes one.
    ///
    /// # Errors
    /// EMFILE when all are taken.
    pub fn take(self: &Arc<Self>) -> Result<Share, Errno> {
        self.take_below(self.limit, |pool| pool - pool / 4)
            .ok_or(Errno::EMFILE)
    }

    /// Takes one for something that can be done without, unless half of all are taken, or half of the
    /// pool.
    #[must_use]
    pub fn spare(self: &Arc<Self>) -> Option<Share> {
        self.take_below(self.limit / 2, |pool| pool / 2)
    }

    /// Lets others have what is reserved, though some of it may be held for long: no more is taken.
    pub(super) fn give_up(&self) {
        if let Some(pooled) = &self.pooled {
            pooled.give_up();
        }
    }

    /// Takes one if there is one below `limit`, and, beyond what is reserved, below the part of the pool
    /// that `of_limit` makes of its limit.
    fn take_below(
        self: &Arc<Self>,
        limit: usize,
        of_limit: impl Fn(usize) -> usize,
    ) -> Option<Share> {
        let mut used = self.used.load(Ordering::Relaxed);
        // One of the pool, taken before this is counted: whoever gives one back beyond what is reserved
        // gives back what is there.
        let mut of_pool = None;
        let taken = loop {
            if used >= limit {
                break None;
            }
            let beyond = self.pooled.as_ref().filter(|of| used >= of.reserved);
            if let Some(Pooled { pool, .. }) = beyond
                && of_pool.is_none()
            {
                if !pool.claim(1, of_limit(pool.limit)) {
                    break None;
                }
                of_pool = Some(pool);
            }
            let counted = self.used.compare_exchange_weak(
                used,
                used + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match counted {
                Ok(_) => {
                    of_pool = of_pool.filter(|_| beyond.is_none());
                    break Some(Share {
                        quota: Arc::clone(self),
                    });
                }
                Err(now) => used = now,
            }
        };
        // Others have given back meanwhile, and it was not needed, or they have taken the last.
        if let Some(pool) = of_pool {
            pool.release(1);
        }
        taken
    }

    /// Takes `count` at once, if no more than `limit` are taken then. Returns whether it did.
    fn claim(&self, count: usize, limit: usize) -> bool {
        let increased = |used: usize| {
            let used = used.checked_add(count)?;
            (used <= limit).then_some(used)
        };
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, increased)
            .is_ok()
    }

    fn release(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Whoever has a share keeps the quota alive, so all beyond are back.
        self.give_up();
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
        let used = self.quota.used.fetch_sub(1, Ordering::Relaxed);
        if let Some(of) = &self.quota.pooled
            && used > of.reserved
        {
            of.pool.release(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn what_is_reserved_is_there_whatever_others_hold() {
        let pool = Quota::new(13);
        let [one, two] = [3, 3].map(|reserved| Quota::within(&pool, reserved, 7).unwrap());
        assert_eq!(pool.used(), 6);
        let held: Vec<_> = (0..7).map(|_| one.take().unwrap()).collect();
        assert_eq!((one.used(), pool.used()), (7, 10));
        let reserved: Vec<_> = (0..3).map(|_| two.take().unwrap()).collect();
        // Three quarters are in use; the rest is for somebody else to be sure of.
        assert!(two.take().is_err());
        assert!(Quota::within(&pool, 4, 7).is_err());
        drop(Quota::within(&pool, 3, 7).unwrap());
        drop(held);
        assert_eq!(pool.used(), 6);
        let more: Vec<_> = (0..3).map(|_| two.take().unwrap()).collect();
        assert!(two.spare().is_none());
        assert_eq!((two.sure(), pool.sure()), (3, 13));
        // Its own limit is kept.
        let last = two.take().unwrap();
        assert!(two.take().is_err());
        drop((reserved, more, last, two, one));
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn what_can_be_done_without_leaves_half_of_the_pool() {
        let pool = Quota::new(10);
        let quota = Quota::within(&pool, 1, 100).unwrap();
        let spare: Vec<_> = std::iter::from_fn(|| quota.spare()).collect();
        assert_eq!((spare.len(), pool.used()), (5, 5));
        let held: Vec<_> = std::iter::from_fn(|| quota.take().ok()).collect();
        assert_eq!((held.len(), pool.used()), (3, 8));
    }

    #[test]
    fn a_pool_has_an_end() {
        let pool = Quota::new(5);
        let one = Quota::within(&pool, 3, 100).unwrap();
        assert_eq!(Quota::within(&pool, 3, 100).map(drop), Err(Errno::EMFILE));
        // Not more is reserved than may be held.
        let two = Quota::within(&pool, 3, 2).unwrap();
        assert_eq!(pool.used(), 5);
        drop((one, two));
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn what_is_given_up_is_for_others_and_given_back_once() {
        let pool = Quota::new(8);
        let stuck = Quota::within(&pool, 4, 8).unwrap();
        let held: Vec<_> = (0..5).map(|_| stuck.take().unwrap()).collect();
        stuck.give_up();
        stuck.give_up();
        assert_eq!(pool.used(), 1);
        let other = Quota::within(&pool, 7, 8).unwrap();
        drop((held, stuck));
        assert_eq!(pool.used(), 7);
        drop(other);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn threads_lose_none_and_never_hold_too_many() {
        const THREADS: usize = 4;
        let pool = Quota::new(8);
        let quotas = [1, 2].map(|reserved| Quota::within(&pool, reserved, 5).unwrap());
        // Counted apart from the quotas.
        let (all, start) = (AtomicUsize::new(0), Barrier::new(THREADS));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (all, start) = (&all, &start);
                let quota = &quotas[thread % 2];
                scope.spawn(move || {
                    start.wait();
                    for round in 0..20_000 {
                        let take = |_| {
                            let share = quota.take().ok()?;
                            let held = all.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(held <= 6, "{held} are held of three quarters of 8");
                            Some(share)
                        };
                        let held: Vec<_> = (0..round % 5).map_while(take).collect();
                        all.fetch_sub(held.len(), Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!((quotas[0].used(), quotas[1].used()), (0, 0));
        assert_eq!(pool.used(), 3);
    }
}
