//! The turns of writers: one at a time, in the order in which they came.
//!
//! A mutex does not do: who waits for one until a deadline, and then once more, is behind all others again.
//!
//! Nobody is given a turn. The end of one wakes the first of those who wait, and meanwhile a thread that is
//! running may have another: if each turn began with a thread that wakes up, short ones would be few. When
//! the first has waited for half a millisecond as such, the next turn is its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use parking_lot::{Condvar, Mutex, MutexGuard};

/// How long others may be ahead of the first of those who wait.
const AHEAD: Duration = Duration::from_micros(500);

/// How long one that was in vain tells more than others that were not for being alone: another try takes
/// half as long.
const IN_VAIN: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
pub(super) struct Turns {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    taken: bool,
    /// Each is woken when it is the first and a turn ends.
    waiting: VecDeque<Arc<Condvar>>,
    /// Since when the first of them is the first; `None` if there is none.
    first_since: Option<Instant>,
    /// When the last turn came to an end that says that others will.
    ended: Option<Instant>,
    /// When one was in vain, if nobody has been alone since.
    in_vain: Option<Instant>,
}

/// Nobody else has one meanwhile.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    /// Whether its owner has been alone, if that was tried. Having given up says nothing to those who
    /// wait for the same, and nor does what came to an end without trying meanwhile.
    pub(super) was_alone: Option<bool>,
}

impl Turns {
    /// Takes a turn, or gives up when none has come to an end for as long as `patience`, but in vain.
    /// Returns as well since when that is so.
    pub(super) fn take_within(&self, patience: Duration) -> Option<(Turn<'_>, Instant)> {
        let mut since = Instant::now();
        let mut line = self.line.lock();
        if !line.is_free(since) {
            since = Line::wait(&mut line, since, patience)?;
        }
        line.taken = true;
        let turn = Turn {
            turns: self,
            was_alone: None,
        };
        Some((turn, since))
    }
}

impl Line {
    /// Whether who is not in the line may have a turn.
    fn is_free(&self, now: Instant) -> bool {
        !self.taken && self.first_since.is_none_or(|first| now < first + AHEAD)
    }

    #[cold]
    fn wait(
        line: &mut MutexGuard<'_, Line>,
        mut since: Instant,
        patience: Duration,
    ) -> Option<Instant> {
        // Most turns are shorter than it takes to wake up.
        let backoff = Backoff::new();
        while !backoff.is_completed() {
            MutexGuard::unlocked(line, || backoff.snooze());
            if line.is_free(since) {
                return Some(since);
            }
        }
        let woken = Arc::new(Condvar::new());
        line.waiting.push_back(Arc::clone(&woken));
        line.first_since.get_or_insert(since);
        loop {
            if backoff.is_completed() {
                woken.wait_until(line, since + patience);
                backoff.reset();
            } else {
                MutexGuard::unlocked(line, || backoff.snooze());
            }
            since = line.ended.map_or(since, |ended| ended.max(since));
            // Also one who was woken too late: nobody else has been.
            let is_next = !line.taken && line.place(&woken) == Some(0);
            if is_next || since + patience <= Instant::now() {
                line.leave(&woken);
                return is_next.then_some(since);
            }
        }
    }

    fn place(&self, woken: &Arc<Condvar>) -> Option<usize> {
        let mut waiting = self.waiting.iter();
        waiting.position(|other| Arc::ptr_eq(other, woken))
    }

    fn leave(&mut self, woken: &Arc<Condvar>) {
        let place = self.place(woken);
        place.map(|place| self.waiting.remove(place));
        if place == Some(0) {
            self.first_since = (!self.waiting.is_empty()).then(Instant::now);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut line = self.turns.line.lock();
        line.taken = false;
        let now = Instant::now();
        if let Some(was_alone) = self.was_alone {
            line.in_vain = (!was_alone).then_some(now);
        }
        if line.in_vain.is_none_or(|ended| now >= ended + IN_VAIN) {
            line.ended = Some(now);
        }
        if let Some(first) = line.waiting.front() {
            first.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;
    use std::thread;

    use lisafs_patience::eventually;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn wait_for_waiting(turns: &Turns, count: usize) {
        eventually("they wait", || turns.line.lock().waiting.len() == count);
    }

    #[test]
    fn they_are_taken_in_the_order_in_which_they_were_asked_for() {
        let turns = Turns::default();
        let (taken, order) = mpsc::channel();
        thread::scope(|scope| {
            let (first, _) = turns.take_within(LONG).unwrap();
            for number in 0..5 {
                let (turns, taken) = (&turns, taken.clone());
                scope.spawn(move || {
                    // This one gives up, and the others stay where they are.
                    let patience = if number == 2 { Duration::ZERO } else { LONG };
                    let turn = turns.take_within(patience);
                    assert_eq!(turn.is_some(), number != 2);
                    if let Some(_turn) = turn {
                        taken.send(number).unwrap();
                    }
                });
                if number == 2 {
                    thread::sleep(AHEAD);
                }
                wait_for_waiting(turns, if number < 2 { number + 1 } else { number });
            }
            // Nobody is ahead of one who has waited so long.
            thread::sleep(AHEAD);
            drop(first);
            drop(turns.take_within(LONG).unwrap());
            assert_eq!(order.try_recv(), Ok(0));
        });
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [1, 3, 4]);
        assert!(turns.line.lock().first_since.is_none());
    }

    /// Two turns before it take longer than it has patience, one does not.
    #[test]
    fn a_turn_that_is_in_vain_is_no_reason_to_wait_on() {
        const PATIENCE: Duration = Duration::from_secs(3);
        let turn = PATIENCE * 3 / 5;
        for was_alone in [None, Some(true), Some(false)] {
            let turns = Turns::default();
            thread::scope(|scope| {
                let turns = &turns;
                let end = move |mut owned: Turn<'_>| {
                    thread::sleep(turn);
                    owned.was_alone = was_alone;
                };
                let (first, _) = turns.take_within(LONG).unwrap();
                scope.spawn(move || end(turns.take_within(LONG).unwrap().0));
                wait_for_waiting(turns, 1);
                let third = scope.spawn(|| turns.take_within(PATIENCE).is_some());
                wait_for_waiting(turns, 2);
                end(first);
                assert_eq!(third.join().unwrap(), was_alone != Some(false));
            });
        }
    }

    /// As long as that is new, and nobody has been alone since.
    #[test]
    fn nor_is_one_that_was_not_for_being_alone_after_that() {
        let turns = Turns::default();
        let end = |was_alone| {
            let (mut turn, _) = turns.take_within(LONG).unwrap();
            turn.was_alone = was_alone;
            drop(turn);
            turns.line.lock().ended
        };
        let before = end(None);
        assert!(before.is_some());
        assert_eq!(end(Some(false)), before);
        assert_eq!(end(None), before);
        let alone = end(Some(true));
        assert!(alone > before);
        assert!(end(None) > alone);
        assert!(end(Some(false)) < end(Some(true)));
        let alone = end(Some(true));
        assert_eq!(end(Some(false)), alone);
        turns.line.lock().in_vain = Instant::now().checked_sub(IN_VAIN);
        assert!(end(None) > alone);
    }

    /// Whoever gives up in the moment in which a turn ends, and is the one who is woken.
    #[test]
    fn nobody_is_left_asleep() {
        let turns = Turns::default();
        let (inside, gone) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let is_over = AtomicBool::new(false);
        let take = |patience| {
            let Some((turn, _)) = turns.take_within(patience) else {
                return false;
            };
            assert_eq!(inside.fetch_add(1, SeqCst), 0);
            thread::sleep(Duration::from_micros(20));
            inside.fetch_sub(1, SeqCst);
            drop(turn);
            true
        };
        thread::scope(|scope| {
            let patient = [(); 3].map(|()| {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        assert!(take(LONG));
                    }
                })
            });
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(SeqCst) {
                        if !take(Duration::from_micros(100)) {
                            gone.fetch_add(1, SeqCst);
                        }
                    }
                });
            }
            let ends = patient.map(|patient| patient.join());
            is_over.store(true, SeqCst);
            assert!(ends.iter().all(Result::is_ok));
        });
        assert_ne!(gone.load(SeqCst), 0);
        let line = turns.line.lock();
        assert!(!line.taken && line.waiting.is_empty());
    }
}
