//! The hand-over protocol under loom: every interleaving, with the orderings that ship.
//!
//! The module under test is compiled into this binary and run on a word whose atomics are loom's
//! and whose futex is a mutex and a condition variable, as the kernel's is a locked bucket. loom
//! itself reports a thread that nobody wakes as a deadlock.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../src/control.rs"]
#[allow(dead_code, reason = "the models need less than the crate")]
mod control;

use std::sync::atomic::Ordering::{self, Acquire, Relaxed};

use loom::model::Builder;
use loom::sync::atomic::AtomicU32;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use nix::errno::Errno;

use control::{CLIENT_ACTIVE, Control, Ended, Role, SHUT_DOWN, Word};

struct ModelWord {
    value: AtomicU32,
    bucket: Mutex<()>,
    sleepers: Condvar,
}

impl ModelWord {
    fn new() -> ModelWord {
        ModelWord {
            value: AtomicU32::new(0),
            bucket: Mutex::new(()),
            sleepers: Condvar::new(),
        }
    }
}

impl Word for ModelWord {
    fn load(&self, order: Ordering) -> u32 {
        self.value.load(order)
    }

    fn compare_exchange(&self, from: u32, to: u32, order: Ordering) -> Result<u32, u32> {
        self.value.compare_exchange(from, to, order, Relaxed)
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

    fn wait(&self, expected: u32) -> Result<(), Errno> {
        let bucket = self.bucket.lock().unwrap();
        if self.value.load(Acquire) == expected {
            drop(self.sleepers.wait(bucket).unwrap());
        }
        Ok(())
    }

    fn wake(&self, count: i32) -> Result<(), Errno> {
        let _bucket = self.bucket.lock().unwrap();
        match count {
            1 => self.sleepers.notify_one(),
            _ => self.sleepers.notify_all(),
        }
        Ok(())
    }
}

/// One window: the word, one word of payload, and each side's private gate.
struct Channel {
    state: ModelWord,
    payload: AtomicU32,
    client_gate: ModelWord,
    server_gate: ModelWord,
}

impl Channel {
    fn new() -> Arc<Channel> {
        Arc::new(Channel {
            state: ModelWord::new(),
            payload: AtomicU32::new(0),
            client_gate: ModelWord::new(),
            server_gate: ModelWord::new(),
        })
    }

    fn client(&self) -> Control<'_, ModelWord> {
        Control {
            state: &self.state,
            gate: &self.client_gate,
            role: Role::Client,
        }
    }

    fn server(&self) -> Control<'_, ModelWord> {
        Control {
            state: &self.state,
            gate: &self.server_gate,
            role: Role::Server,
        }
    }

    /// One request and its reply, as the client sees them.
    fn ask(&self) -> Result<u32, Ended> {
        self.payload.store(1, Relaxed);
        self.client().give()?;
        wait(&self.client())?;
        Ok(self.payload.load(Relaxed))
    }

    /// One request and its reply, as the server sees them.
    fn answer(&self) -> Result<(), Ended> {
        wait(&self.server())?;
        assert_eq!(self.payload.load(Relaxed), 1, "the request is not visible");
        self.payload.store(2, Relaxed);
        self.server().give()
    }
}

/// Looks first and then sleeps, as a real wait does.
fn wait(control: &Control<'_, ModelWord>) -> Result<(), Ended> {
    if control.is_mine()? {
        Ok(())
    } else {
        control.park()
    }
}

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[test]
fn data_arrives_with_the_word() {
    explore(4, || {
        let channel = Channel::new();
        let server = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || channel.answer())
        };
        assert_eq!(channel.ask(), Ok(2), "the reply is not visible");
        assert_eq!(server.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_shutdown_during_a_round_trip_strands_nobody() {
    explore(2, || {
        let channel = Channel::new();
        let server = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || {
                let ended = channel.answer().and_then(|()| wait(&channel.server()));
                assert_eq!(ended, Err(Ended::Shutdown));
            })
        };
        let closer = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || channel.server().close())
        };
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

#[test]
fn both_sides_may_shut_down_at_once() {
    explore(3, || {
        let channel = Channel::new();
        let closer = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || channel.client().close())
        };
        let server = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || wait(&channel.server()))
        };
        channel.server().close();
        assert_eq!(server.join().unwrap(), Err(Ended::Shutdown));
        closer.join().unwrap();
        assert!(!channel.server().is_asleep());
        assert_eq!(channel.state.load(Acquire), SHUT_DOWN);
    });
}

#[test]
fn an_end_by_error_wakes_the_peer() {
    explore(4, || {
        let channel = Channel::new();
        let server = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || {
                wait(&channel.server()).unwrap();
                channel.server().end(Ended::BadState(7))
            })
        };
        assert_eq!(channel.ask(), Err(Ended::Shutdown));
        assert_eq!(server.join().unwrap(), Ended::BadState(7));
    });
}

#[test]
fn a_peer_that_revives_the_word_cannot_keep_a_thread_asleep() {
    explore(2, || {
        let channel = Channel::new();
        let server = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || wait(&channel.server()))
        };
        let hostile = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || channel.state.swap(CLIENT_ACTIVE, Relaxed))
        };
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
fn an_idle_shutdown_loses_no_reply() {
    explore(2, || {
        let channel = Channel::new();
        channel.payload.store(1, Relaxed);
        channel.client().give().unwrap();
        let server = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || {
                assert_eq!(channel.answer(), Ok(()), "the turn was ours");
                assert_eq!(wait(&channel.server()), Err(Ended::Shutdown));
            })
        };
        let closer = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || channel.server().close_if_asleep())
        };
        assert_eq!(wait(&channel.client()), Ok(()));
        assert_eq!(channel.payload.load(Relaxed), 2, "the reply is not visible");
        closer.join().unwrap();
        end(&channel.server());
        server.join().unwrap();
    });
}

#[test]
fn an_idle_shutdown_leaves_a_request_to_be_answered_or_refused() {
    explore(2, || {
        let channel = Channel::new();
        let server = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || {
                channel.server().park()?;
                assert_eq!(channel.answer(), Ok(()), "the turn was ours");
                Ok::<(), Ended>(())
            })
        };
        let closer = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || channel.server().close_if_asleep())
        };
        let client = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || channel.ask())
        };
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
    explore(4, || {
        let channel = Channel::new();
        let server = {
            let channel = Arc::clone(&channel);
            thread::spawn(move || wait(&channel.server()))
        };
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
