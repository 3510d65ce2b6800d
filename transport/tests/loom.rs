//! The hand-over protocol under loom: the interleavings that two to four preemptions make, with the
//! orderings that ship.
//!
//! The module under test is compiled into this binary and run on a word whose atomics are loom's
//! and whose futex is a mutex and a condition variable, as the kernel's is a locked bucket. loom
//! itself reports a thread that nobody wakes as a deadlock.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../src/control.rs"]
#[allow(dead_code, reason = "the models need less than the crate")]
mod control;

use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use loom::model::Builder;
use loom::sync::atomic::{AtomicU32, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};
use nix::errno::Errno;

use control::{AWAKE, CLIENT_ACTIVE, Control, Ended, Flags, Given, Role, SHUT_DOWN, Word};

/// A word on loom's atomics. Those take `SeqCst` for `AcqRel`, so that order is made of fences here;
/// they are all that is left of it, and a word that is not `ordered` goes without.
struct ModelWord {
    value: AtomicU32,
    ordered: bool,
    /// Whether the peer moves whoever sleeps on it to where no wake of the word reaches.
    moved: bool,
    bucket: Mutex<()>,
    sleepers: Condvar,
}

impl ModelWord {
    fn new(ordered: bool) -> ModelWord {
        ModelWord {
            value: AtomicU32::new(0),
            ordered,
            moved: false,
            bucket: Mutex::new(()),
            sleepers: Condvar::new(),
        }
    }

    /// Makes an access in the given order, if `SeqCst` surrounded by fences.
    fn access<R>(&self, order: Ordering, weaker: Ordering, access: impl Fn(Ordering) -> R) -> R {
        if order != SeqCst {
            return access(order);
        }
        if self.ordered {
            fence(SeqCst);
        }
        let result = access(weaker);
        if self.ordered {
            fence(SeqCst);
        }
        result
    }
}

impl Word for ModelWord {
    fn load(&self, order: Ordering) -> u32 {
        self.access(order, Acquire, |order| self.value.load(order))
    }

    fn store(&self, to: u32, order: Ordering) {
        self.access(order, Release, |order| self.value.store(to, order));
    }

    fn compare_exchange(&self, from: u32, to: u32, order: Ordering) -> Result<u32, u32> {
        self.access(order, AcqRel, |order| {
            self.value.compare_exchange(from, to, order, Relaxed)
        })
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

    /// Where nobody is moved, as a kernel that knows of no second word: nothing may depend on that but a
    /// peer's tricks.
    fn wait(&self, expected: u32, own: &ModelWord, held: u32) -> Result<(), Errno> {
        let reached = if self.moved { own } else { self };
        let bucket = reached.bucket.lock().unwrap();
        let is_held = !self.moved || own.value.load(Acquire) == held;
        if is_held && self.value.load(Acquire) == expected {
            drop(reached.sleepers.wait(bucket).unwrap());
        }
        Ok(())
    }

    /// How many were asleep a condition variable does not tell, and nothing here depends on it.
    fn wake(&self, count: i32) -> Result<u32, Errno> {
        let _bucket = self.bucket.lock().unwrap();
        match count {
            1 => self.sleepers.notify_one(),
            _ => self.sleepers.notify_all(),
        }
        Ok(1)
    }

    fn wake_own(&self) {
        let _bucket = self.bucket.lock().unwrap();
        self.sleepers.notify_all();
    }
}

/// One window: the word, the parking flags, one word of payload, and each side's private gate.
struct Channel {
    state: ModelWord,
    client_asleep: ModelWord,
    server_asleep: ModelWord,
    payload: AtomicU32,
    client_gate: ModelWord,
    server_gate: ModelWord,
    parking: bool,
}

impl Channel {
    /// One on which every hand-over wakes.
    fn new() -> Arc<Channel> {
        Channel::build(false, true, true)
    }

    /// One with parking flags.
    fn with_flags() -> Arc<Channel> {
        Channel::build(true, true, true)
    }

    /// One whose peer moves sleepers away from the word.
    fn moved() -> Arc<Channel> {
        let mut channel = Channel::parts(true, true, true);
        channel.state.moved = true;
        Arc::new(channel)
    }

    fn build(parking: bool, state_ordered: bool, flags_ordered: bool) -> Arc<Channel> {
        Arc::new(Channel::parts(parking, state_ordered, flags_ordered))
    }

    fn parts(parking: bool, state_ordered: bool, flags_ordered: bool) -> Channel {
        Channel {
            state: ModelWord::new(state_ordered),
            client_asleep: ModelWord::new(flags_ordered),
            server_asleep: ModelWord::new(flags_ordered),
            payload: AtomicU32::new(0),
            client_gate: ModelWord::new(true),
            server_gate: ModelWord::new(true),
            parking,
        }
    }

    fn client(&self) -> Control<'_, ModelWord> {
        Control {
            state: &self.state,
            gate: &self.client_gate,
            role: Role::Client,
            flags: self.parking.then_some(Flags {
                mine: &self.client_asleep,
                theirs: &self.server_asleep,
            }),
        }
    }

    fn server(&self) -> Control<'_, ModelWord> {
        Control {
            state: &self.state,
            gate: &self.server_gate,
            role: Role::Server,
            flags: self.parking.then_some(Flags {
                mine: &self.server_asleep,
                theirs: &self.client_asleep,
            }),
        }
    }

    /// One request and its reply, as the client sees them.
    fn ask(&self) -> Result<u32, Ended> {
        self.payload.store(1, Relaxed);
        self.client().give()?;
        wait(&self.client())?;
        assert_eq!(self.client_asleep.load(Relaxed), AWAKE);
        Ok(self.payload.load(Relaxed))
    }

    /// One request and its reply, as the server sees them.
    fn answer(&self) -> Result<(), Ended> {
        wait(&self.server())?;
        assert_eq!(self.payload.load(Relaxed), 1, "the request is not visible");
        assert_eq!(self.server_asleep.load(Relaxed), AWAKE);
        self.payload.store(2, Relaxed);
        self.server().give().map(drop)
    }
}

/// Looks first and then sleeps, as a real wait does.
fn wait(control: &Control<'_, ModelWord>) -> Result<(), Ended> {
    if control.is_mine()? {
        Ok(())
    } else {
        control.park(1)
    }
}

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Runs `side` in another thread.
fn beside<T: 'static>(
    channel: &Arc<Channel>,
    side: impl FnOnce(&Channel) -> T + 'static,
) -> JoinHandle<T> {
    let channel = Arc::clone(channel);
    thread::spawn(move || side(&channel))
}

/// Explores a model without parking flags and with them.
fn explore_both(preemptions: usize, model: impl Fn(Arc<Channel>) + Copy + Send + Sync + 'static) {
    for parking in [false, true] {
        explore(preemptions, move || {
            model(Channel::build(parking, true, true))
        });
    }
}

fn round_trip(channel: &Arc<Channel>) {
    let server = beside(channel, |channel| channel.answer());
    assert_eq!(channel.ask(), Ok(2), "the reply is not visible");
    assert_eq!(server.join().unwrap(), Ok(()));
}

#[test]
fn data_arrives_with_the_word() {
    explore(4, || round_trip(&Channel::new()));
}

#[test]
fn nobody_sleeps_for_ever_because_a_wake_was_left_out() {
    explore(3, || round_trip(&Channel::with_flags()));
}

/// Of each pair of accesses that cross over, one is to the state and one to a flag. If neither side
/// orders its two, a side can sleep while the other takes it for awake; loom finds that, and so
/// would find any change to `control.rs` that comes to the same.
#[test]
#[should_panic(expected = "deadlock")]
fn without_their_ordering_the_flags_strand_somebody() {
    explore(3, || round_trip(&Channel::build(true, false, false)));
}

#[test]
fn a_stale_flag_costs_a_wake_and_no_more() {
    explore(3, || {
        let channel = Channel::with_flags();
        channel.server_asleep.store(1, Relaxed);
        assert_eq!(channel.client().give(), Ok(Given::Woken));
        wait(&channel.server()).unwrap();
        round_trip_back(&channel);
    });
}

/// The server's turn, which it gives back to a client that may sleep.
fn round_trip_back(channel: &Arc<Channel>) {
    let client = beside(channel, |channel| wait(&channel.client()));
    channel.server().give().unwrap();
    assert_eq!(client.join().unwrap(), Ok(()));
}

/// The handshake wakes in both directions, whatever the flags say, and the server publishes for the
/// first time while the client already leaves wakes out.
#[test]
fn the_flags_begin_after_the_handshake() {
    explore(2, || {
        let channel = Channel::with_flags();
        let server = beside(&channel, |channel| {
            let before = Control {
                flags: None,
                ..channel.server()
            };
            wait(&before).unwrap();
            before.give().unwrap();
            channel.answer()
        });
        let before = Control {
            flags: None,
            ..channel.client()
        };
        assert_eq!(before.give(), Ok(Given::Woken));
        wait(&before).unwrap();
        assert_eq!(channel.ask(), Ok(2));
        assert_eq!(server.join().unwrap(), Ok(()));
    });
}

/// The peer writes our flag while we are about to sleep. It forgets us, which is its loss: the end
/// still reaches us.
#[test]
fn a_peer_that_clears_our_flag_cannot_keep_us_from_leaving() {
    explore(2, || {
        let channel = Channel::with_flags();
        let server = beside(&channel, |channel| wait(&channel.server()));
        let hostile = beside(&channel, |channel| {
            channel.server_asleep.store(AWAKE, Relaxed)
        });
        end(&channel.server());
        assert_eq!(server.join().unwrap(), Err(Ended::Shutdown));
        hostile.join().unwrap();
    });
}

/// The server answers for the last time and is gone; the client is told so before it has looked.
#[test]
fn a_client_takes_the_reply_that_was_there_when_it_was_shut_down() {
    explore_both(3, |channel| {
        channel.payload.store(1, Relaxed);
        channel.client().give().unwrap();
        let server = beside(&channel, |channel| {
            assert_eq!(channel.answer(), Ok(()));
            // Its socket has ended by now.
            channel.client().close();
        });
        assert_eq!(wait(&channel.client()), Ok(()));
        assert_eq!(channel.payload.load(Relaxed), 2, "the reply is not visible");
        server.join().unwrap();
        assert!(channel.client().is_closing(), "the next request is refused");
    });
}

/// Also those that the flags call awake, and those whose wake was left out.
#[test]
fn a_shutdown_during_a_round_trip_strands_nobody() {
    explore_both(2, |channel| {
        let server = beside(&channel, |channel| {
            let ended = channel.answer().and_then(|()| wait(&channel.server()));
            assert_eq!(ended, Err(Ended::Shutdown));
        });
        let closer = beside(&channel, |channel| channel.server().close());
        match channel.ask() {
            Ok(reply) => assert_eq!(reply, 2),
            Err(ended) => assert_eq!(ended, Ended::Shutdown),
        }
        closer.join().unwrap();
        server.join().unwrap();
        assert!(!channel.server().is_asleep());
        assert_eq!(channel.state.load(Acquire), SHUT_DOWN);
        assert_eq!(channel.ask(), Err(Ended::Shutdown));
    });
}

/// `close` leaves the word alone while it is the client's, who may give it away that very moment.
#[test]
fn a_client_that_is_shut_down_as_it_gives_tells_the_server() {
    explore_both(2, |channel| {
        let server = beside(&channel, |channel| {
            let ended = channel.answer().and_then(|()| wait(&channel.server()));
            assert_eq!(ended, Err(Ended::Shutdown));
        });
        let closer = beside(&channel, |channel| channel.client().close());
        let answer = channel.ask();
        closer.join().unwrap();
        match answer {
            // The reply is the client's to read, and the end the server's to be told later.
            Ok(reply) => {
                assert_eq!(reply, 2);
                channel.client().mark();
            }
            Err(ended) => assert_eq!(ended, Ended::Shutdown),
        }
        server.join().unwrap();
        assert_eq!(channel.state.load(Acquire), SHUT_DOWN);
    });
}

#[test]
fn both_sides_may_shut_down_at_once() {
    explore_both(3, |channel| {
        let closer = beside(&channel, |channel| channel.client().close());
        let server = beside(&channel, |channel| wait(&channel.server()));
        channel.server().close();
        assert_eq!(server.join().unwrap(), Err(Ended::Shutdown));
        closer.join().unwrap();
        assert!(!channel.server().is_asleep());
        assert_eq!(channel.state.load(Acquire), SHUT_DOWN);
    });
}

#[test]
fn an_end_by_error_wakes_the_peer() {
    explore_both(4, |channel| {
        let server = beside(&channel, |channel| {
            wait(&channel.server()).unwrap();
            channel.server().end(Ended::BadState(7))
        });
        assert_eq!(channel.ask(), Err(Ended::Shutdown));
        assert_eq!(server.join().unwrap(), Ended::BadState(7));
    });
}

#[test]
fn a_peer_that_revives_the_word_cannot_keep_a_thread_asleep() {
    explore_both(2, |channel| {
        let server = beside(&channel, |channel| wait(&channel.server()));
        let hostile = beside(&channel, |channel| {
            channel.state.swap(CLIENT_ACTIVE, Relaxed)
        });
        channel.server().close();
        while channel.server().is_asleep() {
            thread::yield_now();
            channel.server().wake_all();
        }
        assert_eq!(server.join().unwrap(), Err(Ended::Shutdown));
        hostile.join().unwrap();
    });
}

#[test]
fn a_peer_that_moves_sleepers_cannot_keep_a_thread_asleep() {
    explore(4, || {
        let channel = Channel::moved();
        let server = beside(&channel, |channel| wait(&channel.server()));
        // Once is enough: no wake can fall between the look at the gate and the sleep.
        channel.server().close();
        assert_eq!(server.join().unwrap(), Err(Ended::Shutdown));
    });
    explore(4, || {
        let channel = Channel::moved();
        let server = beside(&channel, |channel| wait(&channel.server()));
        let control = channel.server();
        while !control.is_closing() {
            control.close_if_asleep();
            thread::yield_now();
        }
        assert_eq!(server.join().unwrap(), Err(Ended::Shutdown));
    });
}

#[test]
fn an_idle_shutdown_loses_no_reply() {
    explore_both(2, |channel| {
        channel.payload.store(1, Relaxed);
        channel.client().give().unwrap();
        let server = beside(&channel, |channel| {
            assert_eq!(channel.answer(), Ok(()), "the turn was ours");
            assert_eq!(wait(&channel.server()), Err(Ended::Shutdown));
        });
        let closer = beside(&channel, |channel| channel.server().close_if_asleep());
        assert_eq!(wait(&channel.client()), Ok(()));
        assert_eq!(channel.payload.load(Relaxed), 2, "the reply is not visible");
        closer.join().unwrap();
        end(&channel.server());
        server.join().unwrap();
    });
}

#[test]
fn an_idle_shutdown_leaves_a_request_to_be_answered_or_refused() {
    explore_both(2, |channel| {
        let server = beside(&channel, |channel| {
            channel.server().park(1)?;
            assert_eq!(channel.answer(), Ok(()), "the turn was ours");
            Ok::<(), Ended>(())
        });
        let closer = beside(&channel, |channel| channel.server().close_if_asleep());
        let client = beside(&channel, |channel| channel.ask());
        match server.join().unwrap() {
            Ok(()) => assert_eq!(client.join().unwrap(), Ok(2)),
            Err(ended) => {
                assert_eq!(ended, Ended::Shutdown);
                if channel.state.load(Acquire) != SHUT_DOWN {
                    // Nobody has refused the request, which comes too late: the client's own side
                    // has to learn elsewhere that the server has gone.
                    end(&channel.client());
                }
                assert_eq!(client.join().unwrap(), Err(Ended::Shutdown));
            }
        }
        closer.join().unwrap();
    });
}

#[test]
fn idle_shutdowns_send_a_thread_away_that_is_about_to_sleep() {
    explore_both(4, |channel| {
        let server = beside(&channel, |channel| wait(&channel.server()));
        let control = channel.server();
        control.close_if_asleep();
        while control.is_asleep() || !control.is_closing() {
            thread::yield_now();
            control.close_if_asleep();
        }
        assert_eq!(server.join().unwrap(), Err(Ended::Shutdown));
        assert_eq!(channel.state.load(Acquire), CLIENT_ACTIVE);
    });
}

/// Ends the channel as a deadline does: again and again, until nobody of this side sleeps.
fn end(control: &Control<'_, ModelWord>) {
    control.close();
    while control.is_asleep() {
        thread::yield_now();
        control.wake_all();
    }
}
