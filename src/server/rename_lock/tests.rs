use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread::Scope;

use lisafs_patience::{Ended, eventually};

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn exclusive(lock: &RenameLock, deadline: Instant) -> Option<ExclusiveGuard<'_>> {
    let patience = deadline.saturating_duration_since(Instant::now());
    let (writer, _) = lock.writer_within(patience)?;
    writer.exclusive_until(deadline)
}

/// Holds the lock shared on a thread of its own until what is returned is dropped.
fn reader<'s>(scope: &'s Scope<'s, '_>, lock: &'s RenameLock) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel();
    let (inside, entered) = mpsc::channel();
    scope.spawn(move || {
        let _guard = lock.shared();
        inside.send(()).unwrap();
        let _ = released.recv();
    });
    entered.recv().unwrap();
    release
}

fn wait_for_waiting(lock: &RenameLock, count: usize) {
    eventually("they wait at the gate", || {
        lock.gate.lock().waiting >= count
    });
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
                for round in 0..1_000 {
                    let mut guard = exclusive(&lock, soon()).unwrap();
                    assert_eq!(writers.fetch_add(1, SeqCst), 0);
                    assert_eq!(readers.load(SeqCst), 0);
                    if round % 2 == 0 {
                        guard.enter_host();
                        guard.leave_host();
                    }
                    assert_eq!(readers.load(SeqCst), 0);
                    writers.fetch_sub(1, SeqCst);
                }
            });
        }
    });
}

/// Each rename is overtaken, as if the host had taken too long, by whoever comes.
#[test]
fn a_writer_that_was_overtaken_is_alone_again() {
    let lock = RenameLock::default();
    let (readers, writers, stop) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    let overtaken = AtomicUsize::new(0);
    thread::scope(|scope| {
        let _ended = Ended(&stop);
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let guard = lock.shared();
                    readers.fetch_add(1, SeqCst);
                    assert_eq!(writers.load(SeqCst), 0);
                    readers.fetch_sub(1, SeqCst);
                    drop(guard);
                    // Rather here than inside, where the writer would have to wait for it.
                    thread::yield_now();
                }
            });
        }
        for _ in 0..300 {
            let mut guard = exclusive(&lock, soon()).unwrap();
            guard.enter_host();
            lock.gate.lock().state = State::InHost(Instant::now());
            // Who waits is to look, and who comes is to come.
            lock.opened.notify_all();
            thread::sleep(Duration::from_micros(100));
            if lock.gate.lock().state == State::Overtaken {
                overtaken.fetch_add(1, SeqCst);
            }
            guard.leave_host();
            assert_eq!(writers.fetch_add(1, SeqCst), 0);
            assert_eq!(readers.load(SeqCst), 0);
            thread::yield_now();
            assert_eq!(readers.load(SeqCst), 0);
            writers.fetch_sub(1, SeqCst);
            drop(guard);
            // It would be longer than all of this.
            lock.gate.lock().rest = None;
        }
    });
    assert_ne!(overtaken.load(SeqCst), 0);
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
        let taken = exclusive(&lock, soon()).is_some();
        stop.store(true, SeqCst);
        assert!(taken);
    });
}

#[test]
fn who_has_waited_passes_before_the_next_writer() {
    let lock = RenameLock::default();
    for _ in 0..100 {
        let passed = AtomicBool::new(false);
        thread::scope(|scope| {
            let first = exclusive(&lock, soon());
            scope.spawn(|| {
                let _guard = lock.shared();
                passed.store(true, SeqCst);
            });
            wait_for_waiting(&lock, 1);
            drop(first);
            let _second = exclusive(&lock, soon()).unwrap();
            assert!(passed.load(SeqCst));
        });
    }
}

/// However long it takes in all.
#[test]
fn a_queue_of_writers_that_moves_is_waited_for() {
    const PATIENCE: Duration = Duration::from_secs(1);
    let lock = RenameLock::default();
    let alone = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (writer, deadline) = lock.writer_within(PATIENCE).unwrap();
                assert!(deadline > Instant::now());
                let _guard = writer.exclusive_until(deadline).unwrap();
                thread::sleep(PATIENCE / 5);
                alone.fetch_add(1, SeqCst);
            });
        }
    });
    assert_eq!(alone.load(SeqCst), 8);
}

/// One that nobody comes out of is not, although the turn goes from one to the next.
#[test]
fn a_queue_of_writers_that_are_never_alone_is_not_waited_for() {
    const PATIENCE: Duration = Duration::from_millis(400);
    let lock = RenameLock::default();
    thread::scope(|scope| {
        let stuck = reader(scope, &lock);
        let writers = [(); 4].map(|()| {
            scope.spawn(|| {
                let since = Instant::now();
                let alone = lock.writer_within(PATIENCE);
                let alone = alone.and_then(|(writer, deadline)| writer.exclusive_until(deadline));
                assert!(alone.is_none());
                since.elapsed()
            })
        });
        for writer in writers {
            assert!(writer.join().unwrap() < 4 * PATIENCE);
        }
        drop(stuck);
    });
}

/// However its patience meets their turns: in the end of each it may have waited for as long as that.
#[test]
fn who_waits_on_keeps_its_place() {
    const PATIENCE: Duration = Duration::from_secs(1);
    const OTHERS: usize = 3;
    let turn = PATIENCE * 9 / 20;
    let lock = RenameLock::default();
    let (begun, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let _ended = Ended(&over);
        for _ in 0..OTHERS {
            scope.spawn(|| {
                while !over.load(SeqCst) && begun.load(SeqCst) < 5 * OTHERS {
                    let _guard = exclusive(&lock, soon()).unwrap();
                    begun.fetch_add(1, SeqCst);
                    thread::sleep(turn);
                }
            });
        }
        // All of them wait, or have been there before.
        thread::sleep(turn / 2);
        let before = begun.load(SeqCst);
        let turn = lock.writer_within(PATIENCE);
        let ahead = begun.load(SeqCst) - before;
        assert!(turn.is_some());
        assert!(ahead < 2 * OTHERS, "{ahead} were ahead");
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
        let taken = exclusive(&lock, Instant::now() + Duration::from_secs(2));
        stop.store(true, SeqCst);
        assert!(taken.is_some());
    });
}

#[test]
fn a_stuck_reader_costs_a_writer_its_deadline_and_nobody_else_more() {
    let lock = RenameLock::default();
    thread::scope(|scope| {
        let stuck = reader(scope, &lock);
        assert!(exclusive(&lock, Instant::now() + Duration::from_millis(50)).is_none());
        drop(lock.shared());
        drop(stuck);
    });
    assert!(exclusive(&lock, soon()).is_some());
}

/// The next one has no more time than the first had to leave to the others.
#[test]
fn a_window_in_vain_is_followed_by_a_rest_whoever_comes_next() {
    let lock = RenameLock::default();
    thread::scope(|scope| {
        let stuck = reader(scope, &lock);
        let (writer, _) = lock.writer_within(Duration::from_secs(20)).unwrap();
        let since = Instant::now();
        assert!(!writer.close_for(LAST_WINDOW, lock.gate.lock(), Duration::ZERO));
        drop(writer);
        let rest = lock.gate.lock().rest;
        let until = match rest {
            Some(Rest::Readers(until)) => until,
            other => panic!("{other:?}"),
        };
        assert!(until >= since + 4 * LAST_WINDOW);
        assert!(exclusive(&lock, until - LONGEST_WINDOW).is_none());
        // It has not closed the gate at all.
        assert_eq!(lock.gate.lock().rest, rest);
        assert!(exclusive(&lock, until + LONGEST_WINDOW).is_none());
        assert!(Instant::now() >= until);
        assert_ne!(lock.gate.lock().rest, rest);
        drop(stuck);
    });
}

/// Nobody is in the way any more, so nobody is kept out for long.
#[test]
fn the_rest_after_a_window_in_vain_ends_with_the_readers() {
    let lock = RenameLock::default();
    thread::scope(|scope| {
        let stuck = reader(scope, &lock);
        assert!(exclusive(&lock, Instant::now() + LAST_WINDOW).is_none());
        lock.gate.lock().rest = Some(Rest::Readers(soon() + LONGEST_PAUSE));
        let since = Instant::now();
        scope.spawn(move || {
            thread::sleep(LONGEST_WINDOW);
            drop(stuck);
        });
        assert!(exclusive(&lock, soon()).is_some());
        assert!(since.elapsed() >= LONGEST_WINDOW);
    });
}

/// Others were kept out as long as by one that succeeds.
#[test]
fn a_writer_that_was_overtaken_and_refused_is_followed_by_a_rest() {
    let lock = RenameLock::default();
    let mut writer = exclusive(&lock, soon()).unwrap();
    writer.enter_host();
    lock.gate.lock().state = State::InHost(Instant::now());
    drop(lock.shared());
    drop(writer);
    let until = match lock.gate.lock().rest {
        Some(Rest::Overtaken(until)) => until,
        other => panic!("{other:?}"),
    };
    // Although there is nobody inside.
    assert!(exclusive(&lock, soon()).is_some());
    assert!(Instant::now() >= until);
}

/// However long they are: the rest would come out of the time that the next has.
#[test]
fn writers_that_get_in_need_no_rest() {
    let lock = RenameLock::default();
    thread::scope(|scope| {
        for _ in 0..3 {
            let waited_for = exclusive(&lock, soon());
            scope.spawn(|| drop(lock.shared()));
            wait_for_waiting(&lock, 1);
            thread::sleep(LONGEST_WINDOW);
            drop(waited_for);
            assert_eq!(lock.gate.lock().rest, None);
        }
    });
}

#[test]
fn staggered_writers_leave_readers_most_of_the_time() {
    // With the rest after the second of the last windows, which ends at four seconds.
    const END: Duration = Duration::from_millis(5500);
    let lock = RenameLock::default();
    let (mut open, mut closed) = (0_u32, 0_u32);
    thread::scope(|scope| {
        let stuck = reader(scope, &lock);
        let since = Instant::now();
        let lock = &lock;
        for writer in 0..4 {
            scope.spawn(move || {
                thread::sleep(LAST_WINDOW * writer);
                while since.elapsed() < END {
                    drop(exclusive(lock, Instant::now() + 4 * LAST_WINDOW));
                }
            });
        }
        while since.elapsed() < END {
            let is_open = lock.gate.lock().state.is_open();
            *(if is_open { &mut open } else { &mut closed }) += 1;
            thread::sleep(Duration::from_millis(1));
        }
        drop(stuck);
    });
    assert!(closed > 0, "nobody has tried");
    // A quarter, as there are three parts for one; the rest is for how badly that is measured: a look that is
    // late may count for many. Writers that do not rest have it closed all the time.
    assert!(closed < open, "open {open} times, closed {closed} times");
}

#[test]
fn who_waits_for_a_writer_that_hangs_overtakes_it() {
    let lock = RenameLock::default();
    let alone = AtomicBool::new(false);
    let (inside, entered) = mpsc::channel();
    thread::scope(|scope| {
        let mut writer = exclusive(&lock, soon()).unwrap();
        for _ in 0..3 {
            let (lock, inside) = (&lock, inside.clone());
            scope.spawn(move || {
                let _guard = lock.shared();
                inside.send(Instant::now()).unwrap();
            });
        }
        wait_for_waiting(&lock, 3);
        // They are not to be let in before it says that it may hang, and not at once then.
        thread::sleep(2 * LONGEST_WINDOW);
        entered.try_recv().unwrap_err();
        let since = Instant::now();
        writer.enter_host();
        for _ in 0..3 {
            assert!(entered.recv().unwrap() >= since + HOST_LIMIT);
        }
        drop(lock.shared());
        // There is no other writer meanwhile.
        assert!(exclusive(&lock, Instant::now() + FIRST_WINDOW).is_none());

        // It is alone again when all have left.
        let last = reader(scope, &lock);
        let (alone, waiting) = (&alone, &lock);
        scope.spawn(move || {
            thread::sleep(3 * LONGEST_WINDOW);
            assert!(!alone.load(SeqCst));
            // Others still come and go.
            drop(waiting.shared());
            assert!(!alone.load(SeqCst));
            drop(last);
        });
        writer.leave_host();
        alone.store(true, SeqCst);
        assert_eq!(lock.gate.lock().state, State::Closed);
        drop(writer);
    });
    // The others are left alone for a while.
    assert!(lock.gate.lock().rest.is_some());
    drop(lock.shared());
    assert!(exclusive(&lock, soon()).is_some());
}

#[test]
fn nobody_overtakes_a_writer_that_is_alone_again() {
    // A machine that holds this thread up for so long in between may do so once and again.
    let is_alone = (0..20).any(|_| is_alone_after_the_host());
    assert!(is_alone, "it was overtaken in time, each time");
}

/// Whether a writer has left the host before anybody could overtake it, and then was alone.
fn is_alone_after_the_host() -> bool {
    let lock = RenameLock::default();
    let (inside, entered) = mpsc::channel();
    thread::scope(|scope| {
        let mut writer = exclusive(&lock, soon()).unwrap();
        scope.spawn(|| {
            let _guard = lock.shared();
            inside.send(()).unwrap();
        });
        wait_for_waiting(&lock, 1);
        writer.enter_host();
        // Who waits is to know until when.
        lock.opened.notify_all();
        thread::sleep(FIRST_WINDOW);
        writer.leave_host();
        if writer.overtaken {
            return false;
        }
        let late = entered.recv_timeout(HOST_LIMIT + 2 * LONGEST_WINDOW);
        drop(writer);
        late.unwrap_err();
        true
    })
}

#[test]
fn a_panic_opens_the_gate_wherever_it_comes() {
    let lock = RenameLock::default();
    for steps in 0..4 {
        let panics = catch_unwind(AssertUnwindSafe(|| {
            let mut writer = exclusive(&lock, soon()).unwrap();
            if steps > 0 {
                writer.enter_host();
            }
            if steps > 1 {
                lock.gate.lock().state = State::InHost(Instant::now());
                drop(lock.shared());
            }
            if steps > 2 {
                writer.leave_host();
            }
            panic!("injected");
        }));
        panics.unwrap_err();
        assert_eq!(lock.gate.lock().state, State::Open);
        drop(lock.shared());
    }
}
