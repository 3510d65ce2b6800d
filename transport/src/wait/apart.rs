#![forbid(unsafe_code)]
//! Keeping a server's thread off the CPU of a client that would spin.
//!
//! Where both sides have agreed on the parking flags, both spin, and that wants a CPU for each. The
//! scheduler puts a thread that wakes where it likes, though, and now and then that is the CPU of
//! the one that wakes it. Two threads on one CPU that sleep in turns are never both ready to run,
//! so nothing ever moves one of them away, while their spins only keep the other from running.
//!
//! A spin that was in vain is the sign, the flag of the client is the proof: it says on which CPU the
//! client sleeps. If that is this one, the thread goes to another before it wakes the client. A client
//! may lie, and have the thread moved: not more often than once in a [`CALM`], which is longer each
//! time that the client was seldom found awake after a move.

use super::thread::Thread;

/// Between two moves, in nanoseconds: at first, and at most.
const CALM: (u64, u64) = (1_000_000, 1_000_000_000);
/// So often a move has to spare the client a wake to have been worth it. One that never spins is better
/// off where it is.
const WORTH: u32 = 256;

/// Where the thread of one endpoint is not to be.
#[derive(Debug)]
pub(super) struct Apart<T> {
    thread: T,
    /// Whether spinning was in vain since the last hand-over.
    doubt: bool,
    /// When the thread was moved last, and how long that has to do.
    moved: Option<u64>,
    calm: u64,
    /// How many hand-overs have found the client awake since the last move; None once it has been
    /// judged.
    awake: Option<u32>,
}

impl<T: Thread> Apart<T> {
    /// For the thread that calls it, which has to be the one that waits.
    pub(super) fn new(thread: T) -> Apart<T> {
        Apart {
            thread,
            doubt: false,
            moved: None,
            calm: CALM.0,
            awake: None,
        }
    }

    /// A spin has found nothing, or has lost its CPU.
    pub(super) fn spun_in_vain(&mut self) {
        self.doubt = true;
    }

    /// The client is about to get control, and says that it sleeps on the CPU `client`, or that it
    /// does not sleep. Returns whether the thread was moved.
    pub(super) fn giving(&mut self, client: Option<usize>, now: impl FnOnce() -> u64) -> bool {
        let Some(client) = client else {
            self.awake = self.awake.map(|awake| awake.saturating_add(1));
            return false;
        };
        if !self.doubt {
            return false;
        }
        self.doubt = false;
        if self.thread.cpu() != Some(client) {
            return false;
        }
        match self.awake.take() {
            Some(awake) if awake < WORTH => self.calm = self.calm.saturating_mul(2).min(CALM.1),
            Some(_) => self.calm = CALM.0,
            None => {}
        }
        let now = now();
        let resting = |moved| now.saturating_sub(moved) < self.calm;
        if self.moved.is_some_and(resting) {
            return false;
        }
        (self.moved, self.awake) = (Some(now), Some(0));
        self.thread.leave(client)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::thread::{Fake, Fate};
    use super::*;

    /// A thread on CPU 0, and the time.
    struct Life {
        fate: Rc<Fate>,
        apart: Apart<Fake>,
        now: u64,
    }

    impl Life {
        fn new() -> Life {
            let fate = Rc::new(Fate::default());
            Life {
                apart: Apart::new(Fake(Rc::clone(&fate), None)),
                fate,
                now: 1 << 40,
            }
        }

        /// Spins in vain and hands over to a client that sleeps here. Says whether it has moved,
        /// and comes back if so.
        fn meet(&mut self) -> bool {
            self.apart.spun_in_vain();
            let now = self.now;
            let moved = self.apart.giving(Some(0), || now);
            assert_eq!(self.fate.cpu.replace(0), usize::from(moved));
            moved
        }

        fn give(&mut self, times: u32) {
            for _ in 0..times {
                let now = self.now;
                assert!(!self.apart.giving(None, || now));
            }
        }
    }

    #[test]
    fn it_leaves_a_client_that_sleeps_here_after_a_spin_in_vain() {
        let mut life = Life::new();
        let now = life.now;
        assert!(!life.apart.giving(Some(0), || now), "nothing is wrong yet");
        assert!(life.meet());
    }

    #[test]
    fn it_stays_where_the_client_does_not_sleep() {
        let mut life = Life::new();
        let now = life.now;
        life.apart.spun_in_vain();
        assert!(!life.apart.giving(Some(1), || now));
        // That was what the spin was about.
        assert!(!life.apart.giving(Some(0), || now));
    }

    #[test]
    fn moves_that_do_not_last_become_rare() {
        let mut life = Life::new();
        let mut moves = 0;
        for _ in 0..60_000 {
            life.now += 1_000_000;
            moves += u32::from(life.meet());
        }
        // A minute: ten while the pause doubles up to a second, then one each second.
        assert!((60..=70).contains(&moves), "{moves}");
    }

    #[test]
    fn clients_that_always_sleep_are_left_alone() {
        let mut life = Life::new();
        assert!(life.meet());
        for _ in 0..10 * WORTH {
            let now = life.now;
            assert!(!life.apart.giving(Some(1), || now));
        }
        life.now += CALM.0;
        assert!(!life.meet());
    }

    #[test]
    fn a_move_that_lasts_is_made_again() {
        let mut life = Life::new();
        for _ in 0..100 {
            assert!(life.meet());
            life.give(WORTH);
            assert!(!life.meet(), "too soon");
            life.now += CALM.0;
            life.give(WORTH);
        }
    }
}
