#![forbid(unsafe_code)]
//! How to wait for one's turn: spin, sleep, or first one and then the other.
//!
//! `policy` is what the user asks for, `spinners` how many may spin at a time, `budget` what an
//! adaptive endpoint has learned, `placement` where a server's thread is, `stats` what came of it.

mod budget;
mod placement;
mod policy;
mod spinners;
mod stats;

use std::hint;
use std::time::Instant;

use nix::sched::sched_getcpu;

use crate::control::{Control, Ended, Given, Role, Word};
use budget::Budget;
use placement::{Advice, Found, Placement, ThisThread};
pub use policy::{ParseWaitPolicyError, WaitPolicy};
pub use spinners::Spinners;
pub(crate) use stats::Counters;
pub use stats::WaitStats;

/// Polls between two looks at the clock: about a microsecond, so that a wait which ends at once
/// reads no clock, and a budget is overdrawn by little.
const POLLS_PER_CLOCK_READ: u32 = 64;

/// Between two clock reads of a spinner, in nanoseconds: so much longer than the polls in between
/// take that the thread must have lost its CPU.
const PREEMPTED: u64 = 30_000;

/// Nanoseconds since some moment. Never goes back.
pub(crate) trait Clock {
    fn now(&self) -> u64;
}

/// CLOCK_MONOTONIC, which is read without a system call.
#[derive(Debug)]
pub(crate) struct Monotonic {
    start: Instant,
}

impl Clock for Monotonic {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A [`WaitPolicy`] at work in one endpoint.
#[derive(Debug)]
pub(crate) struct Waiter<C = Monotonic> {
    policy: WaitPolicy,
    spinners: Spinners,
    budget: Budget,
    /// From the first hand-over on, where there is one: it is about the thread that does that.
    placement: Option<Placement<ThisThread>>,
    clock: C,
}

/// How a spin ended, and how long it took by the clock reads in it, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spun {
    /// It is our turn. `None` if that was so before the first clock read.
    Hit(Option<Lap>),
    Missed(Lap),
    Preempted(Lap),
}

/// From the first to the last clock read of a spin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lap {
    started: u64,
    last: u64,
}

impl Lap {
    fn length(self) -> u64 {
        self.last.saturating_sub(self.started)
    }
}

impl Waiter {
    pub(crate) fn new(policy: WaitPolicy, spinners: &Spinners) -> Waiter {
        let start = Instant::now();
        Waiter::with_clock(policy, spinners, Monotonic { start })
    }
}

impl<C: Clock> Waiter<C> {
    fn with_clock(policy: WaitPolicy, spinners: &Spinners, clock: C) -> Waiter<C> {
        Waiter {
            policy,
            spinners: spinners.clone(),
            budget: Budget::new(),
            placement: None,
            clock,
        }
    }

    /// Hands over, and learns from how it found the peer.
    pub(crate) fn give<W: Word>(
        &mut self,
        control: &Control<'_, W>,
        counters: &Counters,
    ) -> Result<(), Ended> {
        let started = match &self.placement {
            Some(placement) if placement.times_wakes() => Some(self.clock.now()),
            _ => None,
        };
        let given = control.give()?;
        match given {
            Given::Awake => counters.count_elided_wake(),
            Given::Woken | Given::NotAsleep => counters.count_wake(),
        }
        if self.is_placed(control) {
            let found = match given {
                Given::Awake | Given::NotAsleep => Found::Awake,
                Given::Woken => {
                    let took = started.map(|started| self.clock.now().saturating_sub(started));
                    Found::Asleep(took.unwrap_or(0))
                }
            };
            let clock = &self.clock;
            let placement = self
                .placement
                .get_or_insert_with(|| Placement::new(ThisThread));
            if placement.gave(found, || clock.now()) {
                counters.count_move();
            }
        }
        Ok(())
    }

    /// Whether the thread goes where the peer is, see `placement`.
    fn is_placed<W: Word>(&self, control: &Control<'_, W>) -> bool {
        self.policy == WaitPolicy::Adaptive
            && control.role == Role::Server
            && control.flags.is_none()
    }

    /// Waits until `control` says it is our turn.
    pub(crate) fn wait<W: Word>(
        &mut self,
        control: &Control<'_, W>,
        counters: &Counters,
    ) -> Result<(), Ended> {
        if control.is_mine()? {
            counters.count_hit();
            return Ok(());
        }
        match self.policy {
            WaitPolicy::Park => park(control, counters),
            WaitPolicy::Spin(budget) => {
                let budget = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
                match self.spin(control, counters, budget, u64::MAX)? {
                    Some(Spun::Hit(_)) => Ok(()),
                    _ => park(control, counters),
                }
            }
            WaitPolicy::Adaptive => self.wait_adaptively(control, counters),
        }
    }

    fn wait_adaptively<W: Word>(
        &mut self,
        control: &Control<'_, W>,
        counters: &Counters,
    ) -> Result<(), Ended> {
        let advice = self.placement.as_ref().map(Placement::advice);
        let allowance = match advice.unwrap_or(Advice::Budget) {
            Advice::Budget => self.budget.allowance(),
            Advice::Spin => self.budget.longest(),
            Advice::Sleep => 0,
        };
        let spun = match allowance {
            0 => None,
            _ => self.spin(control, counters, allowance, PREEMPTED)?,
        };
        let started = match spun {
            Some(Spun::Hit(None)) => return Ok(()),
            Some(Spun::Hit(Some(lap))) => {
                self.budget.begin(lap.started);
                self.budget.hit(lap.length(), lap.last);
                return Ok(());
            }
            Some(Spun::Missed(lap)) => {
                self.budget.begin(lap.started);
                self.budget.missed(lap.length(), lap.last);
                lap.started
            }
            Some(Spun::Preempted(lap)) => {
                self.budget.begin(lap.started);
                self.budget.preempted(lap.length(), lap.last);
                lap.started
            }
            None => {
                let now = self.clock.now();
                self.budget.begin(now);
                now
            }
        };
        park(control, counters)?;
        let now = self.clock.now();
        self.budget.parked(now.saturating_sub(started), now);
        Ok(())
    }

    /// Polls for `budget` nanoseconds, or until two clock reads lie `preempted` apart. `None` if
    /// there was no room among the spinners.
    fn spin<W: Word>(
        &self,
        control: &Control<'_, W>,
        counters: &Counters,
        budget: u64,
        preempted: u64,
    ) -> Result<Option<Spun>, Ended> {
        let Some(_place) = self.spinners.enter() else {
            return Ok(None);
        };
        let spun = poll(control, &self.clock, budget, preempted)?;
        match spun {
            Spun::Hit(_) => counters.count_hit(),
            Spun::Missed(_) | Spun::Preempted(_) => counters.count_miss(),
        }
        Ok(Some(spun))
    }
}

fn poll<W: Word>(
    control: &Control<'_, W>,
    clock: &impl Clock,
    budget: u64,
    preempted: u64,
) -> Result<Spun, Ended> {
    let mut lap: Option<Lap> = None;
    loop {
        for _ in 0..POLLS_PER_CLOCK_READ {
            if control.is_mine()? {
                return Ok(Spun::Hit(lap));
            }
            hint::spin_loop();
        }
        let now = clock.now();
        let previous = *lap.get_or_insert(Lap {
            started: now,
            last: now,
        });
        let current = Lap {
            last: now,
            ..previous
        };
        if now.saturating_sub(previous.last) >= preempted {
            return Ok(Spun::Preempted(current));
        }
        if current.length() >= budget {
            return Ok(Spun::Missed(current));
        }
        lap = Some(current);
    }
}

/// Sleeps until it is our turn, if it is not already.
fn park<W: Word>(control: &Control<'_, W>, counters: &Counters) -> Result<(), Ended> {
    counters.count_park();
    // The flag tells the peer's scheduler where we sleep; without flags nobody asks.
    let cpu = match control.flags {
        Some(_) => sched_getcpu().ok().and_then(|cpu| u32::try_from(cpu).ok()),
        None => None,
    };
    control.park(cpu.unwrap_or(0).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::thread;
    use std::time::Duration;

    use super::policy::MAX_SPIN;
    use super::*;
    use crate::control::{CLIENT_ACTIVE, Flags, Given, Role, SERVER_ACTIVE};

    /// A channel in private memory, seen from both sides.
    #[derive(Default)]
    struct Channel {
        state: AtomicU32,
        gates: [AtomicU32; 2],
        flags: [AtomicU32; 2],
    }

    impl Channel {
        fn server(&self) -> Control<'_, AtomicU32> {
            self.side(Role::Server, 1)
        }

        fn client(&self) -> Control<'_, AtomicU32> {
            self.side(Role::Client, 0)
        }

        fn side(&self, role: Role, index: usize) -> Control<'_, AtomicU32> {
            Control {
                state: &self.state,
                gate: &self.gates[index],
                role,
                flags: Some(Flags {
                    mine: &self.flags[index],
                    theirs: &self.flags[1 - index],
                }),
            }
        }
    }

    /// A word that becomes ours while the clock is read, and a clock that moves when it is read.
    struct Story<'a> {
        now: Cell<u64>,
        step: u64,
        /// At this time the turn comes.
        turn: u64,
        channel: &'a Channel,
    }

    impl Clock for Story<'_> {
        fn now(&self) -> u64 {
            self.now.set(self.now.get() + self.step);
            if self.now.get() >= self.turn {
                self.channel.state.store(SERVER_ACTIVE, SeqCst);
            }
            self.now.get()
        }
    }

    fn spin(step: u64, turn: u64, budget: u64) -> Spun {
        let channel = Channel::default();
        let story = Story {
            now: Cell::new(0),
            step,
            turn,
            channel: &channel,
        };
        poll(&channel.server(), &story, budget, PREEMPTED).unwrap()
    }

    #[test]
    fn a_spin_ends_with_the_turn_the_budget_or_the_cpu() {
        let lap = |started, last| Lap { started, last };
        // The turn comes with the third clock read, and the next poll finds it.
        assert_eq!(
            spin(1_000, 3_000, 50_000),
            Spun::Hit(Some(lap(1_000, 3_000)))
        );
        assert_eq!(
            spin(1_000, u64::MAX, 5_000),
            Spun::Missed(lap(1_000, 6_000))
        );
        assert_eq!(
            spin(PREEMPTED, u64::MAX, 500_000),
            Spun::Preempted(lap(PREEMPTED, 2 * PREEMPTED))
        );
    }

    /// A clock that nobody may read.
    struct NoClock;

    impl Clock for NoClock {
        fn now(&self) -> u64 {
            panic!("the clock was read")
        }
    }

    #[test]
    fn no_clock_is_read_for_a_turn_that_is_there() {
        let channel = Channel::default();
        channel.state.store(SERVER_ACTIVE, SeqCst);
        let counters = Counters::default();
        let spinners = Spinners::with_limit(1);
        for policy in [
            WaitPolicy::Adaptive,
            WaitPolicy::Park,
            WaitPolicy::Spin(MAX_SPIN),
        ] {
            Waiter::with_clock(policy, &spinners, NoClock)
                .wait(&channel.server(), &counters)
                .unwrap();
        }
        assert_eq!(counters.snapshot().spin_hits, 3);
        let spun = poll(&channel.server(), &NoClock, 1, 1).unwrap();
        assert_eq!(spun, Spun::Hit(None));
    }

    /// Hands the window to a side that sleeps, once it does.
    fn give_to_sleeper(from: &Control<'_, AtomicU32>, to: &Control<'_, AtomicU32>) -> Given {
        while !to.is_asleep() {
            thread::yield_now();
        }
        from.give().unwrap()
    }

    /// Waits as the server for a word that says `state`, and is handed it once it sleeps.
    fn wait_once(policy: WaitPolicy, limit: usize, state: u32) -> WaitStats {
        let channel = Channel::default();
        channel.state.store(state, SeqCst);
        let (ours, theirs) = (channel.server(), channel.client());
        let counters = Counters::default();
        let spinners = Spinners::with_limit(limit);
        thread::scope(|scope| {
            if state == CLIENT_ACTIVE {
                scope.spawn(|| give_to_sleeper(&theirs, &ours));
            }
            Waiter::new(policy, &spinners)
                .wait(&ours, &counters)
                .unwrap();
        });
        assert_eq!(spinners.spinning(), 0, "a place was not given back");
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
        // Nothing has been learned.
        assert_eq!(wait_once(WaitPolicy::Adaptive, 1, CLIENT_ACTIVE), parked);
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

    /// One adaptive wait as the server, with `step` nanoseconds between clock reads; the turn comes
    /// once it sleeps.
    fn adaptive_wait(waiter: &mut Waiter<Steps>, step: u64) -> WaitStats {
        waiter.clock.step = step;
        let channel = Channel::default();
        let (ours, theirs) = (channel.server(), channel.client());
        let counters = Counters::default();
        thread::scope(|scope| {
            scope.spawn(|| give_to_sleeper(&theirs, &ours));
            waiter.wait(&ours, &counters).unwrap();
        });
        counters.snapshot()
    }

    /// A clock that moves by so much with each read.
    #[derive(Debug)]
    struct Steps {
        now: Cell<u64>,
        step: u64,
    }

    impl Clock for Steps {
        fn now(&self) -> u64 {
            self.now.set(self.now.get() + self.step);
            self.now.get()
        }
    }

    #[test]
    fn short_sleeps_teach_it_to_spin_and_long_ones_and_preemption_not_to() {
        let clock = Steps {
            now: Cell::new(1 << 40),
            step: 0,
        };
        let spinners = Spinners::with_limit(1);
        let mut waiter = Waiter::with_clock(WaitPolicy::Adaptive, &spinners, clock);
        assert_eq!(adaptive_wait(&mut waiter, 1_000).spin_misses, 0);
        assert_eq!(adaptive_wait(&mut waiter, 1_000).spin_misses, 1, "learned");
        // The sleep itself takes one step here, and so do two reads of a spin.
        assert_eq!(adaptive_wait(&mut waiter, 29_000).spin_misses, 1);
        assert_eq!(adaptive_wait(&mut waiter, 31_000).spin_misses, 1);
        assert_eq!(
            adaptive_wait(&mut waiter, 1_000).spin_misses,
            0,
            "preempted"
        );
        assert_eq!(adaptive_wait(&mut waiter, 1_000).spin_misses, 0, "held");
        waiter.clock.now.set(waiter.clock.now.get() + 2_000_000_000);
        assert_eq!(adaptive_wait(&mut waiter, 1_000).spin_misses, 0);
        assert_eq!(adaptive_wait(&mut waiter, 1_000).spin_misses, 1, "again");
        assert_eq!(adaptive_wait(&mut waiter, 1_000).parks, 1);
    }

    #[test]
    fn nobody_wakes_a_side_that_is_awake() {
        let channel = Channel::default();
        let (server, client) = (channel.server(), channel.client());
        assert_eq!(client.give(), Ok(Given::Awake));
        assert_eq!(server.give(), Ok(Given::Awake));
        let counters = Counters::default();
        thread::scope(|scope| {
            let given = scope.spawn(|| give_to_sleeper(&client, &server));
            park(&server, &counters).unwrap();
            assert_ne!(given.join().unwrap(), Given::Awake);
        });
        let flag = channel.flags[1].load(SeqCst);
        assert_eq!(flag, 0, "a thread that is awake says so");
        let unflagged = Control {
            flags: None,
            ..server
        };
        assert_eq!(unflagged.give(), Ok(Given::NotAsleep));
    }
}
