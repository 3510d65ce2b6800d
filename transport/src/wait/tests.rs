mod bought;

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
        Waiter::with_clock(Role::Server, policy, &spinners, NoClock)
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
        Waiter::new(Role::Server, policy, &spinners)
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
    let mut waiter = Waiter::with_clock(Role::Server, WaitPolicy::Adaptive, &spinners, clock);
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

#[test]
fn a_client_may_spin_longer_than_a_server() {
    let spinners = Spinners::with_limit(1);
    let [server, client] = [Role::Server, Role::Client].map(|role| {
        Waiter::new(role, WaitPolicy::Adaptive, &spinners)
            .budget
            .affordable()
    });
    assert!(server < client, "{server} and {client} ns");
}
