//! Shared memory that changes while it is read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use flipcall::Closer;
use lisafs_conformance::{Verdict, ensure};

use super::sweep::Requests;
use super::windows::GO_KEEPS;
use crate::case::Case;
use crate::chance::Chance;
use crate::stage::Stage;
use crate::window::{HEADER, Window, datagram, exchange};

pub(super) const CASES: &[Case] = &[
    Case::new(
        "scribbling_over_requests_and_replies",
        &["A2", "A3-4", "A2-10"],
        |stage| under_scribbling(stage, MESSAGES, 10_000, 850_000),
    ),
    Case::new(
        "scribbling_over_the_parking_flags",
        &["A2", "A3", "A3-4"],
        |stage| under_scribbling(stage, FLAGS, 300, 50_000),
    )
    .ours_only("it has none"),
    Case::new(
        "scribbling_over_the_whole_window",
        &["A2", "A3", "A3-4"],
        |stage| under_scribbling(stage, ALL, 1000, 100_000),
    )
    .ours_only(GO_KEEPS),
];

/// A part of a window, from one offset to another.
type Part = (u64, u64);

/// Where requests and replies are: the channel lives on.
const MESSAGES: Part = (HEADER, u64::MAX);
/// Where each side says that it sleeps. One that is lied to leaves the other asleep.
const FLAGS: Part = (8, HEADER);
/// The state and the length, too.
const ALL: Part = (0, u64::MAX);

/// A client takes no longer than this for lost what it may have garbled itself.
const OWN_FAULT: Duration = Duration::from_millis(100);

/// How far the requests are that are sent meanwhile.
#[derive(Debug, Default)]
struct Progress {
    answered: AtomicU64,
    over: AtomicBool,
}

/// Writes to random places in a part of a window until told to stop. Some writes are a word, some
/// are long.
fn scribble(window: &Window, (from, to): Part, chance: &mut Chance) {
    let whole = to.min(window.len()) - from;
    // Where something is read, most of the time: that is near the start.
    let (near, longest) = match chance.below(4) {
        0 => (whole, 4096),
        1 => (256, 8),
        _ => (64, 8),
    };
    let mut at = chance.below(near.min(whole));
    let mut len = chance.below(longest).min(whole - at);
    if chance.below(2) == 0 && at + 4 <= whole {
        // A number as a whole.
        (at, len) = (at & !3, 4);
    }
    let len = usize::try_from(len).unwrap();
    let bytes = match chance.below(3) {
        0 => vec![0; len],
        1 => vec![0xff; len],
        _ => chance.bytes(len),
    };
    // There is memory for all of a window.
    window.write(from + at, &bytes).unwrap();
}

/// Scribbles until all requests are sent, or ends the channel when none has been answered for long.
fn scribble_beside(
    window: &Window,
    part: Part,
    mut chance: Chance,
    progress: &Progress,
    closer: &Closer,
) {
    let mut last = (0, Instant::now());
    while !progress.over.load(Relaxed) {
        for _ in 0..100 {
            scribble(window, part, &mut chance);
        }
        let answered = progress.answered.load(Relaxed);
        if answered != last.0 {
            last = (answered, Instant::now());
        }
        if last.1.elapsed() > OWN_FAULT {
            closer.shutdown(Duration::ZERO);
            return;
        }
    }
}

/// Sends requests while a part of the window is scribbled over.
fn under_scribbling(stage: &mut Stage, part: Part, short: u64, long: u64) -> Verdict {
    let count = stage.count(short, long);
    let mut chance = stage.chance.clone();
    let (mut done, mut answered) = (0, 0);
    while done < count {
        let mut client = stage.client()?;
        let root = client.root.control_fd;
        let requests = Requests::prepare(&mut client, root)?;
        let window = Window::open(&mut client)?;
        let mut channel = window.connect(&client)?;
        let closer = channel.closer();
        let progress = Progress::default();
        let seed = Chance::new(chance.next(), "scribbler");
        thread::scope(|scope| {
            scope.spawn(|| scribble_beside(&window, part, seed, &progress, &closer));
            // Begun anew before ids and files are so many that they are what is tried.
            for _ in 0..5000.min(count - done) {
                done += 1;
                let (mid, body) = requests.any(&mut chance);
                // Whatever comes back, if something comes back.
                if exchange(&mut channel, &datagram(mid, 0, &body)).is_err() {
                    break;
                }
                progress.answered.fetch_add(1, Relaxed);
                while window.take_gift().is_some() {}
            }
            progress.over.store(true, Relaxed);
        });
        answered += progress.answered.into_inner();
    }
    stage.count_rpcs(done);
    // A lie about sleeping may or may not come in time to be believed.
    match part {
        MESSAGES => ensure!(
            answered > count / 2,
            "only {answered} answers to {count} requests"
        ),
        ALL => ensure!(answered < count, "what was written did nothing"),
        _ => {}
    }
    Ok(())
}
