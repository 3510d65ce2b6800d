//! Shutdowns at random moments, of everything that others are using: each returns, frees whoever
//! waits, and closes no descriptor under anybody's feet.
//!
//! `LISAFS_SHUTDOWN_ROUNDS=100000` asks for so many rounds of each, which take minutes, and
//! `LISAFS_SHUTDOWN_SEED` for the choices of a run that has failed.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::fs::File;
use std::io::{Write, stderr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;
use flipcall::{
    Active, ClientEndpoint, ErrorKind, FdReceiver, FrameBuffer, FrameSocket, PacketWindow,
    Received, SendError, ServerEndpoint, SharedBytes, Spinners, WaitPolicy, fd_channel,
};
use lisafs_patience::Ended;
use nix::errno::Errno;

/// Far longer than anything here takes, even on a machine that does ten other things.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the short form of a test takes at the most.
const SHORT: Duration = Duration::from_millis(1500);

/// How many rounds there are even if they take longer than that.
const FEWEST: u64 = 100;

/// What all choices of this process follow from.
static SEED: LazyLock<u64> =
    LazyLock::new(|| asked("LISAFS_SHUTDOWN_SEED").unwrap_or_else(|| fastrand::u64(..)));

fn asked(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok();
    value.map(|value| value.parse().unwrap())
}

/// Says so past the harness, which has no time to show what was printed before an abort.
fn tell(what: &str) {
    // Nobody is left to tell if that fails.
    let _ = writeln!(stderr(), "{what}; LISAFS_SHUTDOWN_SEED={}", *SEED);
}

/// Tells the seed of a round that fails.
struct Round(u64);

impl Drop for Round {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&format!("round {} has failed", self.0));
        }
    }
}

/// Runs `round`, which says whether it has met somebody at work: as often as the environment asks for, or
/// a thousand times, or as often as there is time for and until some have and some have not.
fn rounds(mut round: impl FnMut(&mut Rng) -> bool) {
    let asked = asked("LISAFS_SHUTDOWN_ROUNDS");
    let mut chance = Rng::with_seed(*SEED);
    let started = Instant::now();
    let (mut number, mut at_work) = (0, 0);
    let is_enough = |number, at_work| match asked {
        Some(asked) => number >= asked,
        None => {
            let is_late = number >= FEWEST && started.elapsed() > SHORT;
            let both = (1..number).contains(&at_work);
            let has_time = started.elapsed() < SHORT + DEADLINE;
            assert!(both || has_time, "{at_work} of {number} were at work");
            both && (number >= 1000 || is_late)
        }
    };
    while !is_enough(number, at_work) {
        let _telling = Round(number);
        at_work += u64::from(round(&mut chance));
        number += 1;
    }
    eprintln!("{at_work} of {number} were at work");
}

/// Waits for any time up to a fraction of a millisecond, and mostly for less: threads are starting,
/// about to sleep, asleep, or at work.
fn any_moment(chance: &mut Rng) {
    let bound = 1 << chance.u64(..19);
    let (started, delay) = (Instant::now(), Duration::from_nanos(chance.u64(..bound)));
    // Where all share a CPU, others get on only when this one lets go of it.
    if delay > Duration::from_micros(50) {
        return thread::sleep(delay);
    }
    let lets_go = chance.bool();
    while started.elapsed() < delay {
        if lets_go {
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// What the thread has come to, which must have ended.
fn ended<T>(thread: ScopedJoinHandle<'_, T>, what: &str) -> T {
    let started = Instant::now();
    while !thread.is_finished() {
        if started.elapsed() > DEADLINE {
            // Its scope would wait for it for ever.
            tell(&format!("{what} is stranded"));
            std::process::abort();
        }
        thread::yield_now();
    }
    thread.join().unwrap()
}

/// Opens files all the time: the number of a descriptor that is closed is soon that of another.
fn with_a_thief(run: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                let loot: Vec<_> = (0..4).map(|_| File::open("/dev/null").unwrap()).collect();
                thread::yield_now();
                drop(loot);
            }
        });
        let _ended = Ended(&over);
        run();
    });
}

/// Shutdown at any point of a busy conversation, from either side.
#[test]
fn a_shutdown_at_any_moment_ends_both_sides() {
    rounds(|chance| {
        let wait = chance
            .choice([WaitPolicy::Park, WaitPolicy::Adaptive])
            .unwrap();
        let window = PacketWindow::create(64).unwrap();
        let (memory, place) = (window.try_clone_fd().unwrap(), window.descriptor());
        let server = ServerEndpoint::new(window, wait, &Spinners::with_limit(1));
        let window = PacketWindow::from_peer(memory, place).unwrap();
        let client = ClientEndpoint::new(window, wait, &Spinners::with_limit(1));
        let closers = [server.closer(), client.closer()];
        let talks = AtomicBool::new(false);
        let talk = |mut active: Active| {
            loop {
                match active.send_recv(4) {
                    Ok(_) => talks.store(true, Relaxed),
                    Err(error) => return error.kind(),
                }
            }
        };
        thread::scope(|scope| {
            let client = scope.spawn(|| client.connect().map_or_else(|why| why.kind(), talk));
            let server = scope.spawn(|| match server.recv_first() {
                Ok((active, _)) => talk(active),
                Err(why) => why.kind(),
            });
            any_moment(chance);
            let acknowledged = chance.choice(&closers).unwrap().shutdown(DEADLINE);
            // Both, before the scope could wait for one of them.
            let whys = (ended(client, "the client"), ended(server, "the server"));
            assert_eq!(whys, (ErrorKind::Shutdown, ErrorKind::Shutdown));
            assert!(acknowledged);
        });
        talks.into_inner()
    });
}

#[test]
fn shutdown_frees_threads_in_either_direction() {
    with_a_thief(|| {
        rounds(|chance| {
            let (ours, _peer) = UnixStream::pair().unwrap();
            ours.set_nonblocking(chance.bool()).unwrap();
            let socket = FrameSocket::from(ours);
            thread::scope(|scope| {
                let receiver = scope.spawn(|| {
                    let (mut body, mut fds) = (FrameBuffer::new(), Vec::new());
                    socket.recv(&mut body, 1000, &mut fds, 0).unwrap()
                });
                let sender = scope.spawn(|| {
                    let mut bytes = vec![0; 64 << 10];
                    let mut count = 0;
                    loop {
                        // Nobody reads, so this blocks sooner or later.
                        match socket.send(1, SharedBytes::from(&mut bytes[..]), &[]) {
                            Ok(()) => count += 1,
                            Err(error) => return (count, error),
                        }
                    }
                });
                any_moment(chance);
                socket.shutdown();
                let (count, unsent) = ended(sender, "the sender");
                assert_eq!(ended(receiver, "the receiver"), Received::Closed);
                match unsent {
                    SendError::Broken(why) => assert_eq!(why.errno(), Some(Errno::EPIPE)),
                    unsent @ SendError::Unsent(_) => panic!("{unsent:?}"),
                }
                count > 0
            })
        });
    });
}

/// What is queued arrives, what is not fails, and all of it over the socket that it was meant for.
#[test]
fn descriptors_arrive_or_are_kept_when_their_channel_is_shut_down() {
    let sent = File::open("/proc/self/comm").unwrap();
    let identity = |file: &File| {
        let metadata = file.metadata().unwrap();
        (metadata.dev(), metadata.ino())
    };
    let wanted = identity(&sent);
    with_a_thief(|| {
        rounds(|chance| {
            let (sender, theirs) = fd_channel(8).unwrap();
            let receiver = FdReceiver::from(theirs);
            thread::scope(|scope| {
                let sending = scope.spawn(|| {
                    let mut count = 0;
                    loop {
                        match sender.send(sent.as_fd()) {
                            Ok(()) => count += 1,
                            Err(Errno::EAGAIN) => thread::yield_now(),
                            Err(errno) => return (count, errno),
                        }
                    }
                });
                let receiving = scope.spawn(|| {
                    let mut count = 0;
                    loop {
                        match receiver.recv() {
                            Ok(Some(fd)) => {
                                assert_eq!(identity(&File::from(fd)), wanted);
                                count += 1;
                            }
                            Ok(None) => return count,
                            Err(Errno::EAGAIN) => thread::yield_now(),
                            Err(errno) => panic!("{errno}"),
                        }
                    }
                });
                any_moment(chance);
                sender.shutdown();
                let (sent, errno) = ended(sending, "the sender");
                assert_eq!(ended(receiving, "the receiver"), sent);
                assert_eq!(errno, Errno::EPIPE);
                sent > 0
            })
        });
    });
}
