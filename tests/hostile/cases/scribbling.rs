//! Shared memory that changes while it is read.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use lisafs_conformance::{Caller, Verdict, ensure};

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
        scribble_payload,
    ),
    Case::new(
        "scribbling_over_the_whole_window",
        &["A2", "A3", "A3-4"],
        scribble_all,
    )
    .ours_only(GO_KEEPS),
];

/// A client takes no longer than this for lost what it may have garbled itself.
const OWN_FAULT: Duration = Duration::from_millis(100);

/// Writes to random places of a window until told to stop. Some writes are a word, some all there
/// is.
fn scribble(window: &Window, from: u64, mut chance: Chance, over: &AtomicBool) {
    while !over.load(Relaxed) {
        // Where something is read: the first bytes, most of the time.
        let (range, len) = match chance.below(4) {
            0 => (window.len() - from, chance.below(4096)),
            1 => (from.max(HEADER) + 256 - from, 8),
            _ => (64, 1 + chance.below(8)),
        };
        let at = from + chance.below(range);
        let len = len.min(window.len() - at);
        let bytes = match chance.below(3) {
            0 => vec![0; usize::try_from(len).unwrap()],
            1 => vec![0xff; usize::try_from(len).unwrap()],
            _ => chance.bytes(usize::try_from(len).unwrap()),
        };
        // A memfd that is full of its window takes any of it.
        window.write(at, &bytes).unwrap();
    }
}

/// Sends requests while a window is scribbled over from the offset `from` on.
fn under_scribbling(stage: &mut Stage, from: u64, count: u64) -> Verdict {
    let mut chance = stage.chance.clone();
    let mut done = 0;
    let mut broken = 0;
    while done < count {
        let mut caller = Caller::with_limit(stage.stream()?, OWN_FAULT)?;
        let root = caller.mount()?.root.control_fd;
        let requests = Requests::prepare(&mut caller, root)?;
        let window = Window::open_again(&mut caller)?;
        let mut channel = window.connect(&caller)?;
        let over = AtomicBool::new(false);
        let seed = Chance::new(chance.next(), "scribbler");
        thread::scope(|scope| {
            scope.spawn(|| scribble(&window, from, seed, &over));
            // A new one before there are so many ids and files that they are what is measured.
            for _ in 0..5000.min(count - done) {
                done += 1;
                let (mid, body) = requests.any(&mut chance);
                // Whatever comes back, if something comes back.
                if exchange(&mut channel, &datagram(mid, 0, &body)).is_err() {
                    broken += 1;
                    break;
                }
                while window.take_gift().is_some() {}
            }
            over.store(true, Relaxed);
        });
    }
    stage.count_rpcs(done);
    if from == 0 {
        ensure!(broken > 0, "the header was never hit");
    }
    Ok(())
}

fn scribble_payload(stage: &mut Stage) -> Verdict {
    let count = stage.count(10_000, 900_000);
    under_scribbling(stage, HEADER, count)
}

fn scribble_all(stage: &mut Stage) -> Verdict {
    let count = stage.count(2000, 100_000);
    under_scribbling(stage, 0, count)
}
