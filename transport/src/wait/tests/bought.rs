//! What a peer can have a server spin by the moments at which it asks. The time is made up: a real
//! server loses its CPU to others so often that it spins little with an account and without.

use super::*;
use crate::wait::budget::SAVINGS;
use nix::errno::Errno;
use std::sync::atomic::Ordering;

/// Between two clock reads.
const STEP: u64 = 500;

/// A window, and the time at which the peer hands it over.
#[derive(Default)]
struct Scene {
    state: AtomicU32,
    now: Cell<u64>,
    turn: Cell<u64>,
    /// How much of the time went by in sleeps.
    asleep: Cell<u64>,
}

impl Scene {
    fn pass(&self, time: u64) {
        self.now.set(self.now.get() + time);
        if self.now.get() >= self.turn.get() {
            self.state.store(SERVER_ACTIVE, SeqCst);
        }
    }
}

impl Clock for &Scene {
    fn now(&self) -> u64 {
        self.pass(STEP);
        self.now.get()
    }
}

/// A word of the scene. To sleep on one takes until the turn comes.
struct Timed<'s> {
    scene: &'s Scene,
    value: &'s AtomicU32,
}

impl Word for Timed<'_> {
    fn load(&self, order: Ordering) -> u32 {
        self.value.load(order)
    }

    fn store(&self, to: u32, order: Ordering) {
        self.value.store(to, order);
    }

    fn compare_exchange(&self, from: u32, to: u32, order: Ordering) -> Result<u32, u32> {
        Word::compare_exchange(self.value, from, to, order)
    }

    fn swap(&self, to: u32, order: Ordering) -> u32 {
        self.value.swap(to, order)
    }

    fn fetch_or(&self, bits: u32, order: Ordering) -> u32 {
        self.value.fetch_or(bits, order)
    }

    fn fetch_and(&self, bits: u32, order: Ordering) -> u32 {
        self.value.fetch_and(bits, order)
    }

    fn wait(&self, _: u32, _: &Self, _: u32) -> Result<(), Errno> {
        let left = self.scene.turn.get().saturating_sub(self.scene.now.get());
        self.scene.asleep.set(self.scene.asleep.get() + left);
        self.scene.pass(left);
        Ok(())
    }

    fn wake(&self, _: i32) -> Result<u32, Errno> {
        Ok(0)
    }

    fn wake_own(&self) {}
}

/// How long a server spins for each of many requests that take it `work`, and come so long after the
/// answer as `gap` says, which is told how long the server is going to spin.
fn spun(work: u64, gap: impl Fn(u64) -> u64) -> u64 {
    const REQUESTS: u64 = 300;
    let scene = Scene::default();
    let words: [AtomicU32; 3] = Default::default();
    let word = |value| Timed {
        scene: &scene,
        value,
    };
    let [gate, mine, theirs] = words.each_ref().map(word);
    let state = word(&scene.state);
    let control = Control {
        state: &state,
        gate: &gate,
        role: Role::Server,
        flags: Some(Flags {
            mine: &mine,
            theirs: &theirs,
        }),
    };
    let spinners = Spinners::with_limit(1);
    let policy = WaitPolicy::Adaptive;
    let mut waiter = Waiter::with_clock(Role::Server, policy, &spinners, &scene);
    let mut spun = 0;
    for _ in 0..REQUESTS {
        scene.pass(work);
        scene.state.store(CLIENT_ACTIVE, SeqCst);
        let (began, asleep) = (scene.now.get(), scene.asleep.get());
        scene.turn.set(began + gap(waiter.budget.allowance()));
        waiter.wait(&control, &Counters::default()).unwrap();
        spun += scene.now.get() - began - (scene.asleep.get() - asleep);
    }
    spun.saturating_sub(SAVINGS) / REQUESTS
}

#[test]
fn no_peer_buys_more_than_a_sleep_and_its_work_are_worth() {
    // Clock reads that are part of the wait, or of the work.
    let (reads, unseen) = (4 * STEP, 2 * STEP);
    for work in [0, 500, 1_500] {
        let bound = 20_000 + 8 * (work + unseen) + reads;
        assert!(bound < 45_000, "a server could spin no longer anyway");
        let constant = [30_000, 40_000, 45_000, 48_000, 49_500].map(|gap| spun(work, |_| gap));
        // Just before the server gives up, or as long as it ever spins where it does not at all.
        let last = |margin: u64| spun(work, |allowance| allowance.max(12_500) - margin);
        let all = [
            constant.as_slice(),
            &[last(1_500), last(2_500), last(4_000)],
        ]
        .concat();
        for spent in &all {
            assert!(*spent <= bound, "{all:?} ns after {work} ns of work");
        }
        // Someone comes close.
        let most = all.iter().max().unwrap();
        assert!(*most > 15_000, "{all:?} ns");
    }
}
