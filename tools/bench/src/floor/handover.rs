//! Handing control to another thread and back.
//!
//! Threads and not processes: that leaves out a change of address space where both are on one CPU,
//! so two processes can only be slower.

use std::fmt;
use std::hint;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};

use flipcall::{ClientEndpoint, PacketWindow, ServerEndpoint, Spinners, WaitPolicy};
use nix::time::{ClockId, clock_gettime};
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

/// How many turns of the side that answers are timed together. Reading the clock of a thread is a
/// system call, and must not be seen in the p99 of the hand-over.
const TURNS: u32 = 256;

/// How a side waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// On one CPU until the scheduler takes it away from whoever looks in vain.
    Spin,
    Futex,
}

/// A way to hand over, from the first CPU to another or to itself.
pub(super) struct HandOver {
    how: How,
    place: &'static str,
    here: usize,
    there: usize,
}

/// A bare word, or a channel.
#[derive(Clone, Copy)]
enum How {
    Word(Wait),
    Channel(WaitPolicy),
}

/// All that are measured.
pub(super) fn all(cpus: &Cpus, waits: &[WaitPolicy]) -> Vec<HandOver> {
    let here = cpus.first();
    let mut peers = vec![("same CPU", here)];
    peers.extend(cpus.second().map(|second| ("CPUs apart", second)));
    let words = [Wait::Spin, Wait::Futex].map(How::Word);
    let channels = policies(waits).into_iter().map(How::Channel);
    let mut all = Vec::new();
    for how in words.into_iter().chain(channels) {
        for (place, there) in &peers {
            // Two sides that see one CPU park, whatever they are told.
            if *there == here && matches!(how, How::Channel(policy) if policy != WaitPolicy::Park) {
                continue;
            }
            all.push(HandOver {
                how,
                place,
                here,
                there: *there,
            });
        }
    }
    all
}

impl HandOver {
    pub(super) fn measure(&self) -> Result<Vec<Row>, Stop> {
        let row = |name: String, sample: Sample| Row {
            name,
            op: None,
            sample,
        };
        let name = self.to_string();
        let wait = match self.how {
            How::Channel(policy) => {
                return Ok(vec![row(name, channel(policy, self.here, self.there)?)]);
            }
            How::Word(wait) => wait,
        };
        let seen = ping_pong(wait, self.here, self.there)?;
        let mut rows = vec![row(name, seen.took)];
        if wait == Wait::Futex {
            let place = self.place;
            let name = format!("CPU time of one that wakes and sleeps, futex, {place}");
            rows.push(row(name, seen.cpu));
        }
        Ok(rows)
    }
}

impl fmt::Display for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place;
        match self.how {
            How::Word(Wait::Spin) => write!(f, "hand-over and back, spinning, {place}"),
            How::Word(Wait::Futex) => write!(f, "hand-over and back, futex, {place}"),
            How::Channel(policy) => write!(f, "flipcall, empty datagrams, {policy}, {place}"),
        }
    }
}

/// Parking, and what was asked for beside it.
fn policies(waits: &[WaitPolicy]) -> Vec<WaitPolicy> {
    let others = waits.iter().filter(|wait| **wait != WaitPolicy::Park);
    [WaitPolicy::Park]
        .into_iter()
        .chain(others.copied())
        .collect()
}

/// What handing over and back costs.
struct PingPong {
    took: Sample,
    /// CPU time of the side that answers, for each turn: what no server that sleeps can do without,
    /// whatever it does for a request.
    cpu: Sample,
}

/// Two threads and a word.
fn ping_pong(wait: Wait, here: usize, there: usize) -> Result<PingPong, Stop> {
    let word = AtomicU32::new(OURS);
    thread::scope(|scope| {
        let echo = scope.spawn(|| -> Result<Sample, Errno> {
            // Where it runs is what is measured; nothing is, where it cannot be had.
            move_to(&only(there)).map_err(|_| Errno::INVAL)?;
            let mut cpu = Sample::new();
            let (mut turns, mut before) = (0, cpu_time()?);
            loop {
                let is_over = turn(&word, wait, OURS)? == OVER;
                // However slow it all was, the last turns are counted as well.
                if turns == TURNS || (is_over && turns > 0) {
                    let now = cpu_time()?;
                    cpu.record(now.saturating_sub(before) / turns);
                    (turns, before) = (0, now);
                }
                if is_over {
                    return Ok(cpu);
                }
                give(&word, wait, OURS)?;
                turns += 1;
            }
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
        let took = measured.join().map_err(panicked)?.map_err(failed)?;
        let cpu = echo.join().map_err(panicked)?.map_err(failed)?;
        Ok(PingPong { took, cpu })
    })
}

/// Of this thread.
fn cpu_time() -> Result<Duration, Errno> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map(Duration::from)
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))
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
