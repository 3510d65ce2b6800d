use std::rc::Rc;

use super::super::thread::{Fake, Fate};
use super::*;

/// A thread on CPU 0 of two, and the time.
struct Life {
    fate: Rc<Fate>,
    placement: Placement<Fake>,
    now: u64,
}

const NEAR: Found = Found::Asleep(1_000);
const REMOTE: Found = Found::Asleep(9_000);

impl Life {
    fn new(cpus: Option<[usize; 2]>) -> Life {
        let fate = Rc::new(Fate::default());
        Life {
            placement: Placement::new(Fake(Rc::clone(&fate), cpus)),
            fate,
            now: 1 << 40,
        }
    }

    /// One that has found out that its client has to be woken.
    fn together() -> Life {
        let mut life = Life::new(Some([0, 1]));
        life.give(NEAR, WINDOW, 1_000_000);
        assert_eq!(life.placement.advice(), Advice::Sleep);
        life
    }

    /// Hands over so many times, with so many nanoseconds from one to the next.
    fn give(&mut self, found: Found, times: u32, every: u64) {
        for _ in 0..times {
            self.now += every;
            let now = self.now;
            self.placement.gave(found, || now);
        }
    }

    fn binds(&self) -> Vec<Vec<usize>> {
        self.fate.binds.take()
    }
}

#[test]
fn a_client_that_does_not_sleep_is_spun_for() {
    let mut life = Life::new(Some([0, 1]));
    life.give(Found::Awake, 10 * WINDOW, 1_000);
    assert_eq!(life.placement.advice(), Advice::Budget);
    assert!(!life.placement.times_wakes());
    assert_eq!(life.binds(), Vec::<Vec<usize>>::new());
}

#[test]
fn two_wakes_into_the_other_cpu_make_it_follow() {
    let mut life = Life::together();
    life.give(REMOTE, 1, 1_000);
    life.give(NEAR, 1, 1_000);
    life.give(REMOTE, 1, 1_000);
    assert_eq!(life.binds(), Vec::<Vec<usize>>::new());
    life.give(REMOTE, 1, 1_000);
    assert_eq!(life.binds(), [[1]]);
    assert_eq!(life.placement.advice(), Advice::Sleep);
}

#[test]
fn a_wake_in_which_the_thread_lost_its_cpu_tells_nothing() {
    let mut life = Life::together();
    for _ in 0..WINDOW - 1 {
        life.fate.preemptions.set(life.fate.preemptions.get() + 1);
        life.give(REMOTE, 1, 1_000_000);
    }
    assert_eq!(life.binds(), Vec::<Vec<usize>>::new());
}

#[test]
fn a_chase_becomes_rare() {
    let mut life = Life::together();
    life.give(REMOTE, FAR_WAKES, 1_000_000);
    assert_eq!(life.binds(), [[1]]);
    // It is elsewhere again: follow it once more, let the scheduler have its way, and stay for a while.
    life.give(REMOTE, FAR_WAKES, CALM.0);
    assert_eq!(life.binds(), [vec![0], vec![0, 1]]);
    life.give(REMOTE, 1, CALM.0);
    assert_eq!(life.binds(), Vec::<Vec<usize>>::new());
    let began = life.now;
    life.give(REMOTE, 1_000_000, 30_000);
    let binds = life.binds();
    let moves = binds.iter().filter(|cpus| cpus.len() == 1).count();
    let at_most = 2 * usize::try_from((life.now - began) / CALM.1).unwrap();
    assert!(
        (at_most / 4..=at_most + 40).contains(&moves),
        "{moves} of {at_most}"
    );
}

#[test]
fn a_move_that_lasted_is_followed_by_the_next_at_once() {
    let mut life = Life::together();
    for target in [1, 0, 1] {
        life.give(REMOTE, FAR_WAKES, CALM.0);
        assert_eq!(life.binds(), [[target]]);
        life.give(NEAR, WORTH, 1_000);
    }
}

#[test]
fn it_is_bound_for_a_while_only() {
    let mut life = Life::together();
    life.give(REMOTE, FAR_WAKES, 1_000_000);
    assert_eq!(life.binds(), [[1]]);
    life.give(NEAR, 3 * WINDOW, BOUND / u64::from(WINDOW));
    assert_eq!(life.binds(), [[0, 1]]);
    life.give(NEAR, 10 * WINDOW, BOUND);
    assert_eq!(life.binds(), Vec::<Vec<usize>>::new());
}

/// Requests that come fast, long after the last try, and find what they found before it.
fn until_a_try(life: &mut Life) {
    life.give(NEAR, WINDOW, RETRY.1 / u64::from(WINDOW));
    life.give(NEAR, WINDOW, 5_000);
    assert_eq!(life.placement.advice(), Advice::Spin);
}

#[test]
fn a_try_that_finds_the_client_awake_ends_apart() {
    let mut life = Life::together();
    until_a_try(&mut life);
    assert_eq!(life.binds(), [[1]]);
    life.give(NEAR, TRY / 4, 5_000);
    life.give(Found::Awake, TRY - TRY / 4, 5_000);
    assert_eq!(life.placement.advice(), Advice::Budget);
    assert_eq!(life.binds(), [[0, 1]], "free to go where it likes");
}

#[test]
fn tries_that_fail_become_rare() {
    let mut life = Life::together();
    let mut tries = 0;
    for _ in 0..1_000_000 / WINDOW {
        for _ in 0..WINDOW {
            let before = life.placement.advice();
            life.give(NEAR, 1, 20_000);
            if before != Advice::Spin && life.placement.advice() == Advice::Spin {
                tries += 1;
            }
        }
    }
    // Twenty seconds: at 5, 15, 35, 75, 155, 315, 635 ms, 1.3, 2.6, 5.1, 10.2 and 20.3 s, or so.
    assert!((10..=12).contains(&tries), "{tries}");
}

#[test]
fn a_slow_client_is_left_together() {
    let mut life = Life::together();
    life.give(NEAR, 100 * WINDOW, 1_000_000);
    assert_eq!(life.placement.advice(), Advice::Sleep);
}

#[test]
fn without_a_choice_nothing_is_chosen() {
    let mut life = Life::new(None);
    life.give(REMOTE, 10 * WINDOW, 1_000);
    assert_eq!(life.placement.advice(), Advice::Budget);
    assert_eq!(life.binds(), Vec::<Vec<usize>>::new());
}

/// The real calls, on a thread of their own.
#[test]
fn a_thread_is_where_it_was_bound_to() {
    std::thread::spawn(|| {
        let Some(cpus) = ThisThread.two_cpus() else {
            return;
        };
        for cpu in cpus {
            assert!(ThisThread.bind(&[cpu]));
            assert_eq!(ThisThread.cpu(), Some(cpu));
            assert_eq!(ThisThread.two_cpus(), None);
        }
        assert!(ThisThread.bind(&cpus));
        assert_eq!(ThisThread.two_cpus(), Some(cpus));
        assert!(ThisThread.preemptions() >= 0);
    })
    .join()
    .unwrap();
}
