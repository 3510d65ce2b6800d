#![forbid(unsafe_code)]
//! On which CPU a server's thread waits for a client.
//!
//! Two threads that hand a window back and forth have two good ways to live. On CPUs of their own,
//! spinning, they answer each other in a few hundred nanoseconds, as long as the answer comes before
//! the other has gone to sleep. On one CPU, sleeping, each hand-over is a context switch, a few
//! microseconds, and costs nobody else anything. The bad way lies between: asleep on CPUs of their
//! own, where each hand-over has to bring an idle CPU back to life. In a virtual machine that is
//! ten times the price of the context switch, half of it paid in CPU time by the one who wakes.
//!
//! The scheduler knows nothing of such pairs and puts a thread that wakes on an idle CPU, if there
//! is one. So the server's thread follows its client, by these rules:
//!
//! 1. It starts *apart* and spins as its budget says. If it has to wake its client more often than
//!    not, spinning is not what this client needs, and they shall be *together*.
//! 2. Together it does not spin, for the client needs that very CPU. It times the wakes: one that
//!    takes long without the thread having lost its CPU meanwhile has reached into another CPU. After
//!    two of them in a row the thread moves to that other CPU. It stays bound to it for a while only,
//!    so that the scheduler can undo what has become wrong.
//!    Where the other CPU is idle otherwise, the scheduler may pull the client away again with each
//!    wake. Then following it makes things worse, so moves that do not last become rare.
//! 3. If requests come fast, it now and then *tries* the other way: moves away and spins for some
//!    requests, and stays apart if the client was seldom found asleep. The next try is later each
//!    time that this fails.
//!
//! Where the client is asleep nobody says; with two CPUs it is the other one. So all of this is for
//! threads that may use exactly two, any others stay where the scheduler puts them; and for clients
//! that have not agreed on the parking flags. Those that have spin as well, so apart is what both
//! want. What a client can make of it is bounded: a move costs some ten microseconds and takes two
//! long wakes, there are few within [`CALM`], and no more than one try in a while.

use super::thread::{ThisThread, Thread};

/// A wake that takes this long, in nanoseconds, was for another CPU: those for the same one take a
/// quarter of that, and those for an idle one twice as much, on the machines where it matters. Where
/// all are faster, the thread stays put, and nothing is lost.
const FAR: u64 = 4_000;
/// So many such wakes in a row, and the thread moves.
const FAR_WAKES: u32 = 2;
/// No two moves within so many nanoseconds: at first, and at most.
const CALM: (u64, u64) = (50_000, 10_000_000);
/// So many hand-overs a move has to last to have been worth it.
const WORTH: u32 = 6;
/// How long the thread stays bound to one CPU.
const BOUND: u64 = 100_000_000;
/// So many hand-overs are looked at together.
const WINDOW: u32 = 64;
/// How long a window takes, at most, where another try makes sense: 25 µs for each request.
const FAST: u64 = WINDOW as u64 * 25_000;
/// How many hand-overs a try lasts.
const TRY: u32 = 24;
/// When to try again: at first, and at most.
const RETRY: (u64, u64) = (5_000_000, 10_000_000_000);

/// How a hand-over found the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Awake,
    /// It had to be woken, which took so many nanoseconds.
    Asleep(u64),
}

/// What to do in the wait that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Spin as the budget says.
    Budget,
    /// Spin for as long as one may.
    Spin,
    /// Do not spin.
    Sleep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Apart,
    Together,
    Try,
}

/// Where the thread of one endpoint is to be, and how to wait there.
#[derive(Debug)]
pub(super) struct Placement<T = ThisThread> {
    thread: T,
    /// None where there is nothing to choose.
    cpus: Option<[usize; 2]>,
    plan: Plan,
    /// The hand-overs of this window, and those of them that found the peer awake.
    seen: u32,
    awake: u32,
    window_began: u64,
    far: u32,
    preemptions: i64,
    /// When the thread was moved or released last, and how long that has to do.
    moved: u64,
    calm: u64,
    /// How many hand-overs the last move has lasted; None once it has been given up.
    lasted: Option<u32>,
    bound: bool,
    retry: u64,
    next_try: u64,
}

impl<T: Thread> Placement<T> {
    /// For the thread that calls it, which has to be the one that waits.
    pub(super) fn new(thread: T) -> Placement<T> {
        Placement {
            cpus: thread.two_cpus(),
            thread,
            plan: Plan::Apart,
            seen: 0,
            awake: 0,
            window_began: 0,
            far: 0,
            preemptions: 0,
            moved: 0,
            calm: CALM.0,
            lasted: None,
            bound: false,
            retry: RETRY.0,
            next_try: 0,
        }
    }

    pub(super) fn advice(&self) -> Advice {
        match self.plan {
            Plan::Apart => Advice::Budget,
            Plan::Together => Advice::Sleep,
            Plan::Try => Advice::Spin,
        }
    }

    /// Whether hand-overs are to be timed.
    pub(super) fn times_wakes(&self) -> bool {
        self.plan == Plan::Together
    }

    /// A hand-over has found the peer like that; `now` is asked for the time if it matters. Returns
    /// whether the thread was moved.
    pub(super) fn gave(&mut self, found: Found, now: impl Fn() -> u64) -> bool {
        let Some(cpus) = self.cpus else { return false };
        self.seen += 1;
        self.lasted = self.lasted.map(|lasted| lasted.saturating_add(1));
        if found == Found::Awake {
            self.awake += 1;
        }
        let moved = match found {
            Found::Asleep(took) if self.plan == Plan::Together => self.follow(took, cpus, &now),
            _ => false,
        };
        let window = match self.plan {
            Plan::Apart | Plan::Together => WINDOW,
            Plan::Try => TRY,
        };
        if self.seen >= window {
            let now = now();
            let moved_too = self.judge(cpus, now);
            (self.seen, self.awake, self.window_began) = (0, 0, now);
            return moved || moved_too;
        }
        moved
    }

    /// Moves to the CPU that the peer was woken on, once it is clear that it is not this one.
    fn follow(&mut self, took: u64, cpus: [usize; 2], now: &impl Fn() -> u64) -> bool {
        if took < FAR || self.was_preempted() {
            self.far = 0;
            return false;
        }
        self.far += 1;
        if self.far < FAR_WAKES {
            return false;
        }
        self.far = 0;
        let now = now();
        match self.lasted {
            Some(lasted) if lasted < WORTH => {
                self.calm = self.calm.saturating_mul(2).min(CALM.1);
                let moved = self.change_cpu(cpus, now);
                self.release(cpus);
                self.lasted = None;
                return moved;
            }
            Some(_) => self.calm = CALM.0,
            None => {}
        }
        now.saturating_sub(self.moved) >= self.calm && self.change_cpu(cpus, now)
    }

    /// At the end of a window: is this the way to live?
    fn judge(&mut self, cpus: [usize; 2], now: u64) -> bool {
        let mostly_awake = self.awake * 2 > self.seen;
        match self.plan {
            Plan::Apart if mostly_awake => false,
            Plan::Apart => {
                self.join(now);
                false
            }
            Plan::Together => {
                let since = now.saturating_sub(self.window_began);
                if now >= self.next_try && since <= FAST {
                    self.plan = Plan::Try;
                    return self.change_cpu(cpus, now);
                }
                if self.bound && now.saturating_sub(self.moved) > BOUND {
                    self.release(cpus);
                }
                false
            }
            Plan::Try if mostly_awake => {
                self.plan = Plan::Apart;
                self.retry = RETRY.0;
                self.release(cpus);
                false
            }
            Plan::Try => {
                self.retry = self.retry.saturating_mul(2).min(RETRY.1);
                self.join(now);
                false
            }
        }
    }

    fn join(&mut self, now: u64) {
        self.plan = Plan::Together;
        self.next_try = now.saturating_add(self.retry);
        self.far = 0;
        self.preemptions = self.thread.preemptions();
    }

    fn was_preempted(&mut self) -> bool {
        let preemptions = self.thread.preemptions();
        std::mem::replace(&mut self.preemptions, preemptions) != preemptions
    }

    /// Goes to the CPU that it is not on.
    fn change_cpu(&mut self, [one, other]: [usize; 2], now: u64) -> bool {
        let target = if self.thread.cpu() == Some(one) {
            other
        } else {
            one
        };
        (self.moved, self.lasted) = (now, Some(0));
        self.bound = self.thread.bind(&[target]);
        self.bound
    }

    /// Lets the scheduler choose again.
    fn release(&mut self, cpus: [usize; 2]) {
        if self.bound {
            self.bound = !self.thread.release(&cpus);
        }
    }
}

#[cfg(test)]
mod tests;
