//! The rename lock: shared by almost every request, exclusive to a rename.
//!
//! Sharing must be cheap and must not bounce a cache line between workers, which is what
//! [`ShardedLock`] does (measured on two CPUs with two readers: 11 ns, where parking_lot's lock
//! takes 60 and std's 72). What it lacks is added here: nobody may wait for ever because the host does
//! not answer somebody else. Who holds it shared may hang there, so who wants it exclusively gives up
//! at a deadline. And a rename may hang there, so those who wait for it go on after a while.
//!
//! # How
//!
//! Exclusive is a state, not a guard, so that it can be taken from a thread that is stuck. A *writer*,
//! of which there is one at a time, *closes* the gate, and takes and releases the sharded lock once: all
//! readers have left then. A reader takes its part of the sharded lock first and looks at the gate
//! after that. So either the writer waits for the reader, or the reader comes after the writer was
//! there, sees the gate closed, and leaves again to wait at it. Who opens the gate stores that behind
//! all it has done to the tree, and readers load it before they look.
//!
//! While the writer has the host rename ([`ExclusiveGuard::enter_host`]), whoever waits at the gate
//! opens it when the time is up, and the writer is not alone any more. [`ExclusiveGuard::leave_host`]
//! closes it again if that has happened, without a deadline, since the host has renamed: in between,
//! readers see the tree as it was. Nothing else opens a gate that another thread has closed.
//!
//! # Who gets how much
//!
//! - A writer that finds readers keeps new ones out for a *window* only, and tries longer windows. The
//!   last half a second before its deadline is its last one: readers that are merely slow are outwaited.
//! - After a window in vain no writer closes the gate for three times as long, unless the readers have
//!   all left. So writers that cannot get in, however many there are and whenever they begin, leave the
//!   others three quarters of the time. After one that was overtaken nobody closes it for half a second.
//! - Writers queue, each in its place (`turns.rs`). One gives up when for the whole of its time none of them
//!   has come to an end, but by giving up: a queue that moves is waited for.
//! - Who has waited at the gate passes before it is closed again, also between renames in a row. These
//!   have no rest in between: a host on which each takes long would be slower by as much, and others
//!   in the queue would give up. So one request of each of the others is served between two of them.

mod turns;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard};
use parking_lot::{Condvar, Mutex, MutexGuard};
use turns::{Turn, Turns};

/// How long new readers are first kept out so that those inside can leave, and at most.
pub(super) const FIRST_WINDOW: Duration = Duration::from_millis(1);
pub(super) const LONGEST_WINDOW: Duration = Duration::from_millis(128);

/// The window before a writer gives up: longer than a request takes on a slow host.
const LAST_WINDOW: Duration = Duration::from_millis(500);

/// How long a rename that was overtaken leaves the others alone before it tries again to be alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long others wait for a rename that is in the host.
const HOST_LIMIT: Duration = Duration::from_millis(500);

/// How long nobody is alone after that.
const AFTER_HOST_LIMIT: Duration = Duration::from_millis(500);

/// Between two looks at whether the readers have left. They usually take microseconds.
const POLL: Duration = Duration::from_micros(20);

/// The same while nobody is kept out.
const REST_POLL: Duration = Duration::from_millis(2);

/// A reader-writer lock whose writers give up at a deadline, and can be outrun when they are stuck.
#[derive(Debug, Default)]
pub(super) struct RenameLock {
    lock: ShardedLock<()>,
    /// Readers are to wait at the gate. Changed together with its state.
    closed: AtomicBool,
    gate: Mutex<Gate>,
    /// The gate has been opened.
    opened: Condvar,
    /// Nobody waits at the gate any more.
    passed: Condvar,
    /// Whose turn it is may close the gate.
    turns: Turns,
}

#[derive(Debug, Default)]
struct Gate {
    state: State,
    /// Readers at the gate, which pass before it is closed again.
    waiting: usize,
    /// It is not closed again before this is over.
    rest: Option<Rest>,
}

/// Why the gate is not closed again, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// There was no waiting for the readers inside. It ends with the first moment in which there are none.
    Readers(Instant),
    /// Everybody was kept out for long.
    Overtaken(Instant),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nobody wants to be alone.
    #[default]
    Open,
    /// The writer is to be alone, or is.
    Closed,
    /// As `Closed`, but whoever waits may open it at this time.
    InHost(Instant),
    /// The writer was alone, and somebody could not wait any longer.
    Overtaken,
}

impl State {
    fn is_open(self) -> bool {
        matches!(self, State::Open | State::Overtaken)
    }
}

/// The lock held shared.
pub(super) struct SharedGuard<'l> {
    _guard: ShardedLockReadGuard<'l, ()>,
}

/// The right to close the gate.
pub(super) struct Writer<'l> {
    lock: &'l RenameLock,
    turn: Turn<'l>,
}

/// The lock held exclusively, or the right to have it again.
pub(super) struct ExclusiveGuard<'l> {
    writer: Writer<'l>,
    overtaken: bool,
}

impl RenameLock {
    /// Takes the lock shared. Waits for a writer that is alone, but for no other reader.
    pub(super) fn shared(&self) -> SharedGuard<'_> {
        let guard = self.read();
        if !self.closed.load(Ordering::Acquire) {
            return guard;
        }
        // The writer waits for it.
        drop(guard);
        self.pass_gate()
    }

    fn read(&self) -> SharedGuard<'_> {
        // The lock guards no data that a panic could have left half changed.
        let guard = self.lock.read();
        SharedGuard {
            _guard: guard.unwrap_or_else(PoisonError::into_inner),
        }
    }

    #[cold]
    fn pass_gate(&self) -> SharedGuard<'_> {
        let mut gate = self.gate.lock();
        gate.waiting += 1;
        loop {
            let until = match gate.state {
                State::Open | State::Overtaken => break,
                // It may get into the host without waking anybody.
                State::Closed => Instant::now() + LONGEST_WINDOW,
                State::InHost(limit) if limit <= Instant::now() => {
                    self.open(&mut gate, State::Overtaken);
                    break;
                }
                State::InHost(limit) => limit,
            };
            self.opened.wait_until(&mut gate, until);
        }
        // At once: while the gate is open, the sharded lock is taken exclusively for moments only.
        let guard = self.read();
        gate.waiting -= 1;
        if gate.waiting == 0 {
            self.passed.notify_all();
        }
        guard
    }

    fn set(&self, gate: &mut Gate, state: State) {
        gate.state = state;
        self.closed.store(!state.is_open(), Ordering::Release);
    }

    fn open(&self, gate: &mut Gate, state: State) {
        self.set(gate, state);
        self.opened.notify_all();
    }

    /// Whether there is no reader inside. While the gate is closed there is none from then on.
    fn have_left(&self) -> bool {
        match self.lock.try_write() {
            Ok(_) | Err(TryLockError::Poisoned(_)) => true,
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Takes the right to close the gate, or gives up when nobody who had it has come to an end for as long
    /// as `patience`, but by giving up, or soon after one who did. Returns until when the writer may try to be
    /// alone, too.
    pub(super) fn writer_within(&self, patience: Duration) -> Option<(Writer<'_>, Instant)> {
        let (turn, since) = self.turns.take_within(patience)?;
        let writer = Writer { lock: self, turn };
        Some((writer, since + patience))
    }
}

impl<'l> Writer<'l> {
    /// Waits until nobody holds the lock shared and keeps everybody out, or gives up at `deadline`.
    pub(super) fn exclusive_until(mut self, deadline: Instant) -> Option<ExclusiveGuard<'l>> {
        let is_alone = self.close_until(deadline);
        self.turn.was_alone = Some(is_alone);
        is_alone.then_some(ExclusiveGuard {
            writer: self,
            overtaken: false,
        })
    }

    fn close_until(&self, deadline: Instant) -> bool {
        let (mut window, mut is_last) = (FIRST_WINDOW, false);
        loop {
            let Some(mut gate) = self.wait_for_turn(Some(deadline)) else {
                return false;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            // Too little would be left after another one and its rest.
            if !is_last && left < LAST_WINDOW + 4 * window {
                is_last = true;
                if let Some(pause) = left.checked_sub(LAST_WINDOW) {
                    gate.rest = Some(Rest::Readers(Instant::now() + pause));
                    continue;
                }
            }
            if is_last {
                window = LAST_WINDOW.min(left);
            }
            if self.close_for(window, gate, Duration::ZERO) {
                return true;
            }
            if is_last {
                return false;
            }
            window = LONGEST_WINDOW.min(2 * window);
        }
    }

    /// Waits until the gate may be closed, which is not before `deadline` if there is no answer.
    fn wait_for_turn(&self, deadline: Option<Instant>) -> Option<MutexGuard<'l, Gate>> {
        let mut gate = self.lock.gate.lock();
        // Nobody else changes it.
        if let Some(rest) = gate.rest
            && !MutexGuard::unlocked(&mut gate, || self.is_over(rest, deadline))
        {
            return None;
        }
        // They have been woken. The gate is open, so nobody new comes.
        while gate.waiting > 0 {
            match deadline {
                None => self.lock.passed.wait(&mut gate),
                Some(deadline) => {
                    if self.lock.passed.wait_until(&mut gate, deadline).timed_out() {
                        return None;
                    }
                }
            }
        }
        Some(gate)
    }

    /// Whether `rest` has ended when it is time to close the gate, or at `deadline`.
    fn is_over(&self, rest: Rest, deadline: Option<Instant>) -> bool {
        let (until, poll) = match rest {
            Rest::Readers(until) => (until, REST_POLL),
            Rest::Overtaken(until) => (until, Duration::MAX),
        };
        let end = deadline.map_or(until, |deadline| until.min(deadline));
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return end == until;
            }
            thread::sleep(left.min(poll));
            if matches!(rest, Rest::Readers(_)) && self.lock.have_left() {
                return true;
            }
        }
    }

    /// Closes the gate. If there are readers inside for longer than `window`, opens it again, for `rest`
    /// at least.
    fn close_for(&self, window: Duration, mut gate: MutexGuard<'l, Gate>, rest: Duration) -> bool {
        let lock = self.lock;
        let before = gate.state;
        gate.rest = None;
        lock.set(&mut gate, State::Closed);
        drop(gate);
        if lock.have_left() {
            return true;
        }
        let since = Instant::now();
        while since.elapsed() < window {
            thread::sleep(POLL);
            if lock.have_left() {
                return true;
            }
        }
        let mut gate = lock.gate.lock();
        lock.open(&mut gate, before);
        let rest = rest.max(3 * since.elapsed());
        gate.rest = Some(Rest::Readers(Instant::now() + rest));
        false
    }
}

impl ExclusiveGuard<'_> {
    /// From now on this thread may hang, and others may be let in.
    pub(super) fn enter_host(&mut self) {
        let lock = self.writer.lock;
        let limit = Instant::now() + HOST_LIMIT;
        lock.set(&mut lock.gate.lock(), State::InHost(limit));
    }

    /// Keeps everybody out again, however long that takes, and until the end: this thread will not hang.
    pub(super) fn leave_host(&mut self) {
        let lock = self.writer.lock;
        let mut gate = lock.gate.lock();
        if gate.state != State::Overtaken {
            lock.set(&mut gate, State::Closed);
            return;
        }
        drop(gate);
        self.overtaken = true;
        let (mut window, mut pause) = (FIRST_WINDOW, Duration::ZERO);
        loop {
            // It is `Some`, as there is no deadline.
            let gate = self.writer.wait_for_turn(None);
            // A reader that is stuck may be so for days, and all others would notice each time.
            if gate.is_some_and(|gate| self.writer.close_for(window, gate, pause)) {
                return;
            }
            pause = LONGEST_PAUSE.min(2 * pause + window);
            window = LONGEST_WINDOW.min(2 * window);
        }
    }
}

impl Drop for ExclusiveGuard<'_> {
    fn drop(&mut self) {
        let lock = self.writer.lock;
        let mut gate = lock.gate.lock();
        // Also one that has not left the host properly, since it was refused there.
        if self.overtaken || gate.state == State::Overtaken {
            gate.rest = Some(Rest::Overtaken(Instant::now() + AFTER_HOST_LIMIT));
        }
        lock.open(&mut gate, State::Open);
        // Behind this the turn ends: the next writer finds the gate open.
    }
}

#[cfg(test)]
mod tests;
