#![forbid(unsafe_code)]
//! How to wait for one's turn: spin, sleep, or first one and then the other.
//!
//! `policy` is what the user asks for, `spinners` how many may spin at a time, `budget` what an
//! adaptive endpoint has learned, `placement` and `apart` where a server's thread is: near a client
//! that sleeps, or away from one that spins; `stats` what came of it.

mod apart;
mod budget;
mod placement;
mod policy;
mod spinners;
mod stats;
mod thread;

use std::hint;
use std::time::Instant;

use nix::sched::sched_getcpu;

use crate::control::{Control, Ended, Given, Role, Word};
use apart::Apart;
use budget::Budget;
use placement::{Advice, Found, Placement};
pub use policy::{ParseWaitPolicyError, WaitPolicy};
pub use spinners::Spinners;
pub(crate) use stats::Counters;
pub use stats::WaitStats;
use thread::ThisThread;

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
    /// The same, where there are flags.
    apart: Option<Apart<ThisThread>>,
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
    /// For an end of that role.
    pub(crate) fn new(role: Role, policy: WaitPolicy, spinners: &Spinners) -> Waiter {
        let start = Instant::now();
        Waiter::with_clock(role, policy, spinners, Monotonic { start })
    }
}

impl<C: Clock> Waiter<C> {
    fn with_clock(role: Role, policy: WaitPolicy, spinners: &Spinners, clock: C) -> Waiter<C> {
        Waiter {
            policy,
            spinners: spinners.clone(),
            budget: Budget::new(role),
            placement: None,
            apart: None,
            clock,
        }
    }

    /// Hands over, and learns from how it found the peer.
    pub(crate) fn give<W: Word>(
        &mut self,
        control: &Control<'_, W>,
        counters: &Counters,
    ) -> Result<(), Ended> {
        self.keep_apart(control, counters);
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

    /// Goes away from where the peer is, see `apart`.
    fn keep_apart<W: Word>(&mut self, control: &Control<'_, W>, counters: &Counters) {
        if self.policy != WaitPolicy::Adaptive || control.role != Role::Server {
            return;
        }
        if control.flags.is_none() {
            return;
        }
        let cpu = control.peer_sleeps_on();
        let cpu = cpu.and_then(|cpu| usize::try_from(cpu).ok());
        let clock = &self.clock;
        let apart = self.apart.get_or_insert_with(|| Apart::new(ThisThread));
        if apart.giving(cpu, || clock.now()) {
            self.budget.forget();
            counters.count_move();
        }
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
            Advice::Spin => self.budget.affordable(),
            Advice::Sleep => 0,
        };
        let spun = match allowance {
            0 => None,
            _ => self.spin(control, counters, allowance, PREEMPTED)?,
        };
        let started = match spun {
            Some(Spun::Hit(None)) => {
                self.budget.saved();
                return Ok(());
            }
            Some(Spun::Hit(Some(lap))) => {
                self.budget.begin(lap.started);
                self.budget.hit(lap.length(), lap.last);
                return Ok(());
            }
            Some(Spun::Missed(lap)) => {
                self.budget.begin(lap.started);
                self.budget.missed(lap.length(), lap.last);
                self.doubt();
                lap.started
            }
            Some(Spun::Preempted(lap)) => {
                self.budget.begin(lap.started);
                self.budget.preempted(lap.length(), lap.last);
                self.doubt();
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

    fn doubt(&mut self) {
        if let Some(apart) = &mut self.apart {
            apart.spun_in_vain();
        }
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
mod tests;
