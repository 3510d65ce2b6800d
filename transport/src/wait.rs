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

/// Polls between two looks at the clock: about a microsecond, so that a wait which ends at once
/// reads no clock, and a budget is overdrawn by little.
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
    /// Poll for up to this long, then sleep. Polls only while [`Spinners`] has room, so a machine
    /// with one usable CPU always parks.
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
    ///
    /// Looks once, into /proc and /sys among others: call it before a sandbox hides them.
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
    /// Spins that ran out of budget; unless the turn comes that very moment, a park follows.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;
    use crate::control::{CLIENT_ACTIVE, Role, SERVER_ACTIVE};

    #[test]
    fn what_is_no_policy_is_refused_with_the_alternatives() {
        let wrong = [
            "",
            "adaptive",
            "PARK",
            "park ",
            "spin",
            "spin=",
            "spin=+5",
            "spin=-1",
            "spin=0",
            "spin=1000001",
            "spin=1us",
            "spin=0x10",
            "spin=99999999999999999999999",
        ];
        for text in wrong {
            let message = text.parse::<WaitPolicy>().unwrap_err().to_string();
            assert!(message.contains(&format!("{text:?}")), "{message}");
            assert!(
                message.contains("`park`") && message.contains("`spin=USEC`"),
                "{message}"
            );
            assert!(message.contains("1000000"), "{message}");
        }
    }

    #[test]
    fn display_is_what_is_parsed() {
        for text in ["park", "spin=1", "spin=1000000"] {
            assert_eq!(text.parse::<WaitPolicy>().unwrap().to_string(), text);
        }
    }

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

    /// Waits as the server for a word that says `state`, and is handed it once it sleeps.
    fn wait_once(policy: WaitPolicy, limit: usize, state: u32) -> WaitStats {
        let asked = AtomicU32::new(state);
        let (our_gate, their_gate) = (AtomicU32::new(0), AtomicU32::new(0));
        let ours = Control {
            state: &asked,
            gate: &our_gate,
            role: Role::Server,
        };
        let theirs = Control {
            state: &asked,
            gate: &their_gate,
            role: Role::Client,
        };
        let counters = Counters::default();
        let spinners = Spinners::with_limit(limit);
        thread::scope(|scope| {
            if state == CLIENT_ACTIVE {
                scope.spawn(|| {
                    while !ours.is_asleep() {
                        thread::yield_now();
                    }
                    theirs.give().unwrap();
                });
            }
            Waiter::new(policy, &spinners)
                .wait(&ours, &counters)
                .unwrap();
        });
        assert_eq!(
            spinners.pool.spinning.load(Relaxed),
            0,
            "a place was not given back"
        );
        counters.snapshot()
    }

    #[test]
    fn counters_tell_how_a_wait_ended() {
        let parked = WaitStats {
            parks: 1,
            ..WaitStats::default()
        };
        assert_eq!(wait_once(WaitPolicy::Park, 1, CLIENT_ACTIVE), parked);
        // Nobody may spin.
        let spin = WaitPolicy::Spin(Duration::from_micros(1));
        assert_eq!(wait_once(spin, 0, CLIENT_ACTIVE), parked);
        let missed = WaitStats {
            spin_misses: 1,
            parks: 1,
            ..WaitStats::default()
        };
        assert_eq!(wait_once(spin, 1, CLIENT_ACTIVE), missed);
        let hit = WaitStats {
            spin_hits: 1,
            ..WaitStats::default()
        };
        assert_eq!(wait_once(WaitPolicy::Spin(MAX_SPIN), 1, SERVER_ACTIVE), hit);
    }
}
