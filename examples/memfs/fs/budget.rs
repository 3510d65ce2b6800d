//! How much there may be of something: bytes, or files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lisafs::Errno;

/// A limit, and how much of it is used.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Budget> {
        Arc::new(Budget {
            limit,
            used: AtomicU64::new(0),
        })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    fn take(&self, amount: u64) -> Result<(), Errno> {
        let take = |used: u64| used.checked_add(amount).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map(drop)
            .map_err(|_| Errno::ENOSPC)
    }

    fn give_back(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// A part of a budget. It is kept beside what it pays for and given back when it is dropped, so an
/// operation that fails halfway cannot leave anything charged.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    amount: u64,
}

impl Charge {
    /// # Errors
    /// ENOSPC if there is not so much left.
    pub(crate) fn new(budget: &Arc<Budget>, amount: u64) -> Result<Charge, Errno> {
        budget.take(amount)?;
        Ok(Charge {
            budget: Arc::clone(budget),
            amount,
        })
    }

    /// Nothing yet.
    pub(crate) fn none(budget: &Arc<Budget>) -> Charge {
        Charge {
            budget: Arc::clone(budget),
            amount: 0,
        }
    }

    /// # Errors
    /// ENOSPC if there is not so much left; nothing is changed then.
    pub(crate) fn grow(&mut self, by: u64) -> Result<(), Errno> {
        self.budget.take(by)?;
        self.amount += by;
        Ok(())
    }

    pub(crate) fn shrink(&mut self, by: u64) {
        let by = by.min(self.amount);
        self.budget.give_back(by);
        self.amount -= by;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back(self.amount);
    }
}
