#![forbid(unsafe_code)]
//! How to wait for one's turn: spin, sleep, or first one and then the other.

use std::fmt;
use std::hint;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::{Control, Ended, Word};

/// Polls between two looks at the clock: about a microsecond, so that a wait which ends at once reads
/// no clock, and a budget is overdrawn by little.
const POLLS_PER_CLOCK_READ: u32 = 64;

/// The longest spin that can be asked for on a command line.
const MAX_SPIN: Duration = Duration::from_secs(1);

/// What an endpoint does while the peer has the window.
///
/// The text forms, for command lines, are `park` and `spin=USEC`:
///
/// ```
/// use std::time::Duration;
/// use flipcall::WaitPolicy;
///
/// assert_eq!("park".parse(), Ok(WaitPolicy::Park));
/// assert_eq!("spin=50".parse(), Ok(WaitPolicy::Spin(Duration::from_micros(50))));
/// assert_eq!(WaitPolicy::Spin(Duration::from_micros(50)).to_string(), "spin=50");
/// assert!("spin=-1".parse::<WaitPolicy>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitPolicy {
    /// Sleep at once. Costs no CPU time while waiting and two context switches per round trip.
    Park,
    /// Poll for up to this long, then sleep. Polls only while [`Spinners`] has room, so a machine with
    /// one usable CPU always parks.
    Spin(Duration),
}

/// A string that names no [`WaitPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown wait policy {given:?}: use `park`, or `spin=USEC` with USEC from 1 to {max}",
    max = MAX_SPIN.as_micros()
)]
pub struct ParseWaitPolicyError {
    given: String,
}

impl FromStr for WaitPolicy {
    type Err = ParseWaitPolicyError;

    fn from_str(text: &str) -> Result<WaitPolicy, ParseWaitPolicyError> {
        let budget = || {
            let digits = text.strip_prefix("spin=")?;
            // `u64::from_str` alone would let "+5" through.
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let budget = Duration::from_micros(digits.parse().ok()?);
            (!budget.is_zero() && budget <= MAX_SPIN).then_some(budget)
        };
        match text {
            "park" => Ok(WaitPolicy::Park),
            _ => budget()
                .map(WaitPolicy::Spin)
                .ok_or_else(|| ParseWaitPolicyError {
                    given: text.to_owned(),
                }),
        }
    }
}

impl fmt::Display for WaitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitPolicy::Park => f.write_str("park"),
            WaitPolicy::Spin(budget) => write!(f, "spin={}", budget.as_micros()),
        }
    }
}

/// The right to spin, shared by all endpoints that should not starve each other.
///
/// A spinner that waits for a thread which has no CPU to run on makes the wait longer. So at most
/// *usable CPUs - 1* of the endpoints made with (clones of) one handle spin at any time, the others
/// sleep at once. Give all channels of a server the same handle, and all channels of a client.
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
    pub fn new() -> Spinners {
        Spinners::with_limit(thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1))
    }

    /// A limit chosen by the caller; zero turns every [`WaitPolicy`] into [`WaitPolicy::Park`].
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

    fn enter(&self) -> Option<Spinning<'_>> {
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
struct Spinning<'a> {
    pool: &'a Pool,
}

impl Drop for Spinning<'_> {
    fn drop(&mut self) {
        self.pool.spinning.fetch_sub(1, Relaxed);
    }
}

/// What the waits of one endpoint came to, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitStats {
    /// Waits that went to sleep.
    pub parks: u64,
    /// Hand-overs that woke the peer (a system call each).
    pub wakes: u64,
    /// Waits that were over while spinning.
    pub spin_hits: u64,
    /// Spins that ran out of budget; each is followed by a park.
    pub spin_misses: u64,
}

/// The counters behind [`WaitStats`]: one writer, any number of readers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    parks: AtomicU64,
    wakes: AtomicU64,
    spin_hits: AtomicU64,
    spin_misses: AtomicU64,
}

impl Counters {
    pub(crate) fn count_wake(&self) {
        bump(&self.wakes);
    }

    pub(crate) fn snapshot(&self) -> WaitStats {
        WaitStats {
            parks: self.parks.load(Relaxed),
            wakes: self.wakes.load(Relaxed),
            spin_hits: self.spin_hits.load(Relaxed),
            spin_misses: self.spin_misses.load(Relaxed),
        }
    }
}

/// Only the thread that owns the endpoint counts, so no locked instruction is needed.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

/// A [`WaitPolicy`] at work in one endpoint; what a policy learns from wait to wait belongs here.
#[derive(Debug)]
pub(crate) struct Waiter {
    policy: WaitPolicy,
    spinners: Spinners,
}

impl Waiter {
    pub(crate) fn new(policy: WaitPolicy, spinners: &Spinners) -> Waiter {
        Waiter {
            policy,
            spinners: spinners.clone(),
        }
    }

    /// Waits until `control` says it is our turn.
    pub(crate) fn wait<W: Word>(
        &mut self,
        control: &Control<'_, W>,
        counters: &Counters,
    ) -> Result<(), Ended> {
        if let WaitPolicy::Spin(budget) = self.policy
            && let Some(_place) = self.spinners.enter()
        {
            if spin(control, budget)? {
                bump(&counters.spin_hits);
                return Ok(());
            }
            bump(&counters.spin_misses);
        }
        if control.is_mine()? {
            return Ok(());
        }
        bump(&counters.parks);
        control.park()
    }
}

/// Polls for `budget`; false if it ran out.
fn spin<W: Word>(control: &Control<'_, W>, budget: Duration) -> Result<bool, Ended> {
    let mut started = None;
    loop {
        for _ in 0..POLLS_PER_CLOCK_READ {
            if control.is_mine()? {
                return Ok(true);
            }
            hint::spin_loop();
        }
        let now = Instant::now();
        if now.duration_since(*started.get_or_insert(now)) >= budget {
            return Ok(false);
        }
    }
}
