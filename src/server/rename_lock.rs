//! The rename lock: shared by almost every request, exclusive to a rename.
//!
//! Sharing must be cheap and must not bounce a cache line between workers, which is what
//! [`ShardedLock`] does (measured on two CPUs with two readers: 11 ns, where parking_lot's lock
//! takes 60 and std's 72). Taking it exclusively must end at a deadline, which is added here: a
//! request that hangs in the host must not hang the rename too, nor everybody behind the rename.

use std::sync::PoisonError;
use std::sync::TryLockError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use parking_lot::{Mutex, MutexGuard};

/// How long new readers are first kept out so that those inside can leave, and at most.
pub(super) const FIRST_WINDOW: Duration = Duration::from_millis(1);
pub(super) const LONGEST_WINDOW: Duration = Duration::from_millis(128);

/// The window before the writer gives up: longer than a request takes on a slow host.
const LAST_WINDOW: Duration = Duration::from_millis(500);

/// Between two looks at whether the readers have left. They usually take microseconds.
const POLL: Duration = Duration::from_micros(20);

/// A reader-writer lock whose writers give up at a deadline.
///
/// A writer that finds readers keeps new ones out for a *window*, then lets them pass for three
/// times as long, and so on with longer windows and a last one of half a second: readers that are
/// merely slow are outwaited, and one that is stuck costs the others a bounded part of their time.
#[derive(Debug, Default)]
pub(super) struct RenameLock {
    lock: ShardedLock<()>,
    /// Readers are to queue at the gate.
    closed: AtomicBool,
    gate: Mutex<()>,
    /// Held by the writer that is trying, so that windows of several writers do not add up.
    writer: Mutex<()>,
}

/// The lock held shared.
pub(super) struct SharedGuard<'l> {
    _guard: ShardedLockReadGuard<'l, ()>,
}

/// The lock held exclusively.
pub(super) struct ExclusiveGuard<'l> {
    // Released in this order: the next writer finds the lock free.
    _guard: ShardedLockWriteGuard<'l, ()>,
    _writer: MutexGuard<'l, ()>,
}

impl RenameLock {
    /// Takes the lock shared. Waits for a writer, but for no other reader.
    pub(super) fn shared(&self) -> SharedGuard<'_> {
        if self.closed.load(Ordering::Relaxed) {
            drop(self.gate.lock());
        }
        // The lock guards no data that a panic could have left half changed.
        SharedGuard {
            _guard: self.lock.read().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Takes the lock exclusively, or gives up at `deadline`.
    pub(super) fn exclusive_until(&self, deadline: Instant) -> Option<ExclusiveGuard<'_>> {
        let writer = self.writer.try_lock_until(deadline)?;
        let mut window = FIRST_WINDOW;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let before_last = left.saturating_sub(LAST_WINDOW);
            let closed_for = if before_last.is_zero() { left } else { window };
            if let Some(guard) = self.try_with_gate_closed(Instant::now() + closed_for) {
                return Some(ExclusiveGuard {
                    _guard: guard,
                    _writer: writer,
                });
            }
            if before_last.is_zero() {
                return None;
            }
            thread::sleep((3 * window).min(before_last));
            window = LONGEST_WINDOW.min(2 * window);
        }
    }

    fn try_with_gate_closed(&self, window_end: Instant) -> Option<ShardedLockWriteGuard<'_, ()>> {
        let _gate = self.gate.lock();
        self.closed.store(true, Ordering::Relaxed);
        let guard = loop {
            match self.lock.try_write() {
                Ok(guard) => break Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => break Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= window_end => break None,
                Err(TryLockError::WouldBlock) => thread::sleep(POLL),
            }
        };
        self.closed.store(false, Ordering::Relaxed);
        guard
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_writer_is_alone() {
        let lock = RenameLock::default();
        let (readers, writers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let _guard = lock.shared();
                        readers.fetch_add(1, SeqCst);
                        assert_eq!(writers.load(SeqCst), 0);
                        readers.fetch_sub(1, SeqCst);
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _guard = lock.exclusive_until(soon()).unwrap();
                        assert_eq!(writers.fetch_add(1, SeqCst), 0);
                        assert_eq!(readers.load(SeqCst), 0);
                        writers.fetch_sub(1, SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn readers_that_come_and_go_do_not_starve_a_writer() {
        let lock = RenameLock::default();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(SeqCst) {
                        let _guard = lock.shared();
                        thread::sleep(Duration::from_micros(200));
                    }
                });
            }
            let taken = lock.exclusive_until(soon()).is_some();
            stop.store(true, SeqCst);
            assert!(taken);
        });
    }

    #[test]
    fn slow_readers_are_outwaited() {
        let lock = RenameLock::default();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (inside, entered) = mpsc::channel();
            // Never all outside at a time, and each inside for longer than any window but the last.
            for _ in 0..4 {
                let (lock, stop, inside) = (&lock, &stop, inside.clone());
                scope.spawn(move || {
                    while !stop.load(SeqCst) {
                        let _guard = lock.shared();
                        let _ = inside.send(());
                        thread::sleep(2 * LONGEST_WINDOW);
                    }
                });
                entered.recv().unwrap();
                thread::sleep(LONGEST_WINDOW / 2);
            }
            let taken = lock.exclusive_until(Instant::now() + Duration::from_secs(2));
            stop.store(true, SeqCst);
            assert!(taken.is_some());
        });
    }

    #[test]
    fn a_stuck_reader_costs_a_writer_its_deadline_and_nobody_else_more() {
        let lock = RenameLock::default();
        let (release, released) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let lock = &lock;
            let (inside, entered) = mpsc::channel();
            scope.spawn(move || {
                let _guard = lock.shared();
                inside.send(()).unwrap();
                let _ = released.recv();
            });
            entered.recv().unwrap();
            assert!(
                lock.exclusive_until(Instant::now() + Duration::from_millis(50))
                    .is_none()
            );
            drop(lock.shared());
            drop(release);
        });
        assert!(lock.exclusive_until(soon()).is_some());
    }
}
