#![forbid(unsafe_code)]
//! How many endpoints may spin at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// The right to spin, shared by all endpoints that should not starve each other.
///
/// A spinner that waits for a thread which has no CPU to run on makes the wait longer. So at most
/// *usable CPUs - 1* of the endpoints made with (clones of) one handle spin at any time, the others
/// sleep at once. Give all channels of a server the same handle, and all channels of a client.
///
/// ```
/// use flipcall::{ClientEndpoint, PacketWindow, Spinners, WaitPolicy};
///
/// // One handle for all channels of a client.
/// let spinners = Spinners::new();
/// # let (one, two) = (PacketWindow::create(4096)?, PacketWindow::create(4096)?);
/// let one = ClientEndpoint::new(one, WaitPolicy::Adaptive, &spinners);
/// let two = ClientEndpoint::new(two, WaitPolicy::Adaptive, &spinners);
/// // Zero turns every policy into `Park`.
/// assert_eq!(Spinners::with_limit(0).limit(), 0);
/// # Ok::<(), flipcall::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Spinners {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    limit: usize,
    spinning: AtomicUsize,
}

impl Spinners {
    /// A limit of one less than the CPUs this process may use, by its affinity mask and by its
    /// cgroup's CPU quota. Zero if there is only one, or if the number cannot be found out.
    ///
    /// Looks once, into /proc and /sys among others: call it before a sandbox hides them.
    pub fn new() -> Spinners {
        Spinners::with_limit(thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1))
    }

    /// A limit chosen by the caller; zero turns every [`WaitPolicy`](super::WaitPolicy) into `Park`.
    pub fn with_limit(limit: usize) -> Spinners {
        Spinners {
            pool: Arc::new(Pool {
                limit,
                spinning: AtomicUsize::new(0),
            }),
        }
    }

    /// How many endpoints may spin at the same time.
    pub fn limit(&self) -> usize {
        self.pool.limit
    }

    #[cfg(test)]
    pub(super) fn spinning(&self) -> usize {
        self.pool.spinning.load(Relaxed)
    }

    /// A place among the spinners, if there is one.
    pub(super) fn enter(&self) -> Option<Spinning<'_>> {
        let room = |spinning: usize| (spinning < self.pool.limit).then(|| spinning + 1);
        self.pool
            .spinning
            .fetch_update(Relaxed, Relaxed, room)
            .ok()?;
        Some(Spinning { pool: &self.pool })
    }
}

impl Default for Spinners {
    fn default() -> Spinners {
        Spinners::new()
    }
}

/// One place among the spinners, given back on drop.
pub(super) struct Spinning<'a> {
    pool: &'a Pool,
}

impl Drop for Spinning<'_> {
    fn drop(&mut self) {
        self.pool.spinning.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn no_more_than_the_limit_spin_at_once() {
        let spinners = Spinners::with_limit(2);
        let first = spinners.enter().unwrap();
        let shared = spinners.clone();
        let _second = shared.enter().unwrap();
        assert!(spinners.enter().is_none());
        drop(first);
        assert!(spinners.enter().is_some());
        assert!(Spinners::with_limit(0).enter().is_none());
    }

    #[test]
    fn nobody_spins_on_a_single_cpu() {
        let limit = thread::spawn(|| {
            let this_thread = Pid::from_raw(0);
            let usable = sched_getaffinity(this_thread).unwrap();
            let mut first = CpuSet::new();
            let cpu = (0..CpuSet::count())
                .find(|cpu| usable.is_set(*cpu).unwrap())
                .unwrap();
            first.set(cpu).unwrap();
            sched_setaffinity(this_thread, &first).unwrap();
            Spinners::new().limit()
        });
        assert_eq!(limit.join().unwrap(), 0);
    }
}
