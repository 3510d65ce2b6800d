//! Handing control to another thread and back.
//!
//! Threads and not processes: that leaves out a change of address space where both are on one CPU,
//! so two processes can only be slower.

use std::hint;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;
use std::time::Instant;

use flipcall::{ClientEndpoint, PacketWindow, ServerEndpoint, Spinners, WaitPolicy};
use rustix::io::Errno;
use rustix::thread::futex;

use super::{Row, TIME};
use crate::failure::Stop;
use crate::place::{Cpus, move_to, only};
use crate::sample::Sample;

/// Whose turn it is.
const OURS: u32 = 0;
const THEIRS: u32 = 1;
const OVER: u32 = 2;

/// How a side waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Spin,
    Futex,
}

pub(super) fn measure(cpus: &Cpus, waits: &[WaitPolicy]) -> Result<Vec<Row>, Stop> {
    let first = cpus.first();
    let mut rows = Vec::new();
    let mut add = |name: String, sample: Result<Sample, Stop>| -> Result<(), Stop> {
        rows.push(Row {
            name,
            op: None,
            sample: sample?,
        });
        Ok(())
    };
    // On one CPU a spinner is in the way of whom it waits for.
    if let Some(second) = cpus.second() {
        let spun = ping_pong(Wait::Spin, first, second);
        add("hand-over and back, spinning, CPUs apart".to_owned(), spun)?;
    }
    let mut peers = vec![("same CPU", first)];
    peers.extend(cpus.second().map(|second| ("CPUs apart", second)));
    for (place, peer) in &peers {
        let name = format!("hand-over and back, futex, {place}");
        add(name, ping_pong(Wait::Futex, first, *peer))?;
    }
    for (place, peer) in &peers {
        for policy in policies(waits) {
            if policy != WaitPolicy::Park && *peer == first {
                continue;
            }
            let name = format!("flipcall, empty datagrams, {policy}, {place}");
            add(name, channel(policy, first, *peer))?;
        }
    }
    Ok(rows)
}

/// Parking, and what was asked for beside it.
fn policies(waits: &[WaitPolicy]) -> Vec<WaitPolicy> {
    let others = waits.iter().filter(|wait| **wait != WaitPolicy::Park);
    [WaitPolicy::Park]
        .into_iter()
        .chain(others.copied())
        .collect()
}

/// Two threads and a word.
fn ping_pong(wait: Wait, here: usize, there: usize) -> Result<Sample, Stop> {
    let word = AtomicU32::new(OURS);
    thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<(), Errno> {
            // Where it runs is what is measured; nothing is, where it cannot be had.
            move_to(&only(there)).map_err(|_| Errno::INVAL)?;
            while turn(&word, wait, OURS)? != OVER {
                give(&word, wait, OURS)?;
            }
            Ok(())
        });
        let measured = scope.spawn(|| -> Result<Sample, Errno> {
            move_to(&only(here)).map_err(|_| Errno::INVAL)?;
            let mut sample = Sample::new();
            let start = Instant::now();
            loop {
                let sent = Instant::now();
                give(&word, wait, THEIRS)?;
                turn(&word, wait, THEIRS)?;
                let answered = Instant::now();
                sample.record(answered - sent);
                if answered - start >= TIME {
                    give(&word, wait, OVER)?;
                    return Ok(sample);
                }
            }
        });
        let panicked = |_| Stop::at("floor", "a thread has panicked");
        let failed = |why: Errno| Stop::at("floor", why);
        let sample = measured.join().map_err(panicked)?.map_err(failed);
        echo.join().map_err(panicked)?.map_err(failed)?;
        sample
    })
}

/// Waits until the word is no longer `waiting`; what it is then.
fn turn(word: &AtomicU32, wait: Wait, waiting: u32) -> Result<u32, Errno> {
    loop {
        let now = word.load(Acquire);
        if now != waiting {
            return Ok(now);
        }
        match wait {
            Wait::Spin => hint::spin_loop(),
            Wait::Futex => match futex::wait(word, futex::Flags::empty(), waiting, None) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(why) => return Err(why),
            },
        }
    }
}

fn give(word: &AtomicU32, wait: Wait, to: u32) -> Result<(), Errno> {
    debug_assert_ne!(word.load(Relaxed), to);
    word.store(to, Release);
    if wait == Wait::Futex {
        futex::wake(word, futex::Flags::empty(), 1)?;
    }
    Ok(())
}

/// Two threads and a channel.
fn channel(policy: WaitPolicy, here: usize, there: usize) -> Result<Sample, Stop> {
    let failed = |why: flipcall::Error| Stop::at("floor", why);
    // Made where all CPUs can be seen, and for a pair that has one each.
    let spinners = Spinners::with_limit(2);
    let window = PacketWindow::create(4096).map_err(failed)?;
    let (fd, descriptor) = (window.try_clone_fd().map_err(failed)?, window.descriptor());
    let server = ServerEndpoint::new(window, policy, &spinners);
    let window = PacketWindow::from_peer(fd, descriptor).map_err(failed)?;
    let client = ClientEndpoint::new(window, policy, &spinners);
    thread::scope(|scope| {
        scope.spawn(move || {
            if move_to(&only(there)).is_ok()
                && let Ok((mut active, mut len)) = server.recv_first()
            {
                // Until the client shuts the channel down.
                while let Ok(next) = active.send_recv(len) {
                    len = next;
                }
            }
        });
        let measured = scope.spawn(move || -> Result<Sample, Stop> {
            move_to(&only(here)).map_err(|why| Stop::at("floor", why))?;
            let mut active = client.connect().map_err(failed)?;
            let mut sample = Sample::new();
            let start = Instant::now();
            loop {
                let sent = Instant::now();
                active.send_recv(0).map_err(failed)?;
                let answered = Instant::now();
                sample.record(answered - sent);
                if answered - start >= TIME {
                    return Ok(sample);
                }
            }
        });
        let panicked = |_| Stop::at("floor", "a thread has panicked");
        measured.join().map_err(panicked)?
    })
}
