//! Shared memory that changes while it is read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

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
        |stage| under_scribbling(stage, &MESSAGES, 10_000, 500_000),
    ),
    Case::new(
        "scribbling_over_the_parking_flags",
        &["A2", "A3", "A3-4"],
        |stage| under_scribbling(stage, &FLAGS, 2000, 50_000),
    )
    .ours_only("it has none"),
    Case::new(
        "scribbling_over_the_whole_window",
        &["A2", "A3", "A3-4"],
        |stage| under_scribbling(stage, &ALL, 5000, 1_000_000),
    )
    .ours_only(GO_KEEPS),
];

/// What becomes of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// They live on.
    None,
    /// Each side may wait for the other for ever, until the client has had enough; none is ended.
    Stalls,
    /// One that sees what cannot be ends them.
    Ends,
}

/// A part of a window.
struct Part {
    from: u64,
    to: u64,
    /// One write in so many goes anywhere in the part, header included, in short and in long runs;
    /// all others keep to what is behind the header. Many words in the header end or stall the channel,
    /// and then nothing more is asked through it.
    one_in: (u64, u64),
    /// What all of that does, and has to do once at least: or nobody has looked at it.
    harm: Harm,
}

/// Where requests and replies are: the channel lives on.
const MESSAGES: Part = Part {
    from: HEADER,
    to: u64::MAX,
    one_in: (1, 1),
    harm: Harm::None,
};
/// Where each side says that it sleeps. One that is lied to leaves the other asleep.
const FLAGS: Part = Part {
    from: 8,
    to: HEADER,
    one_in: (1, 1),
    harm: Harm::Stalls,
};
/// The state and the length, too.
const ALL: Part = Part {
    from: 0,
    to: u64::MAX,
    one_in: (100, 4000),
    harm: Harm::Ends,
};

/// So many writes are one run.
const RUN: u64 = 100;

/// So many requests are answered for each run: what is lost must not depend on how much of its time
/// the machine gives to whom.
const ANSWERS: u64 = 2;

/// How long one look for an answer takes, and more on a machine that does other things: looks are
/// counted rather than time.
const LOOK: Duration = Duration::from_millis(1);

/// After so many looks a client takes for lost what it may have garbled itself.
const OWN_FAULT: u32 = 30;

/// How many looks an answer may take on a channel that lives.
const ANSWER: u32 = 10_000;

/// How often it only lets others go first: most answers come by then.
const YIELDS: u32 = 100;

/// One channel at least has to come to harm where channels do, within so many times the requests.
const MORE: u64 = 10;

/// How far the requests are that are sent meanwhile.
#[derive(Debug, Default)]
struct Progress {
    answered: AtomicU64,
    over: AtomicBool,
}

/// Writes to random places in a part of a window until told to stop. Some writes are a word, some
/// are long.
fn scribble(window: &Window, part: &Part, one_in: u64, chance: &mut Chance) {
    let from = if chance.below(one_in) == 0 {
        part.from
    } else {
        HEADER
    };
    let whole = part.to.min(window.len()) - from;
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

/// Scribbles until all requests are sent, as far as they are answered, or ends the channel when none has
/// been for long. Returns whether it had to.
fn scribble_beside(
    window: &Window,
    part: &Part,
    one_in: u64,
    mut chance: Chance,
    progress: &Progress,
    closer: &Closer,
) -> bool {
    let patience = match part.harm {
        Harm::None => ANSWER,
        Harm::Stalls | Harm::Ends => OWN_FAULT,
    };
    let (mut runs, mut last, mut idle) = (0, 0, 0);
    while !progress.over.load(Relaxed) {
        let answered = progress.answered.load(Relaxed);
        if answered != last {
            (last, idle) = (answered, 0);
        }
        if runs <= answered / ANSWERS {
            for _ in 0..RUN {
                scribble(window, part, one_in, &mut chance);
            }
            runs += 1;
            thread::yield_now();
        } else if idle < YIELDS {
            idle += 1;
            thread::yield_now();
        } else if idle < YIELDS + patience {
            idle += 1;
            thread::sleep(LOOK);
        } else {
            closer.shutdown(Duration::ZERO);
            return true;
        }
    }
    false
}

/// Sends requests while a part of the window is scribbled over. A try is one that was answered, and
/// there have to be enough of them.
fn under_scribbling(stage: &mut Stage, part: &Part, short: u64, long: u64) -> Verdict {
    let count = stage.count(short, long);
    let one_in = stage.count(part.one_in.0, part.one_in.1);
    let mut chance = stage.chance.clone();
    let (mut sent, mut answered, mut ended, mut stalled) = (0, 0, 0_u64, 0_u64);
    let is_harmed = |ended, stalled| match part.harm {
        Harm::None => true,
        Harm::Stalls => stalled > 0,
        Harm::Ends => ended > 0,
    };
    while sent < count || !is_harmed(ended, stalled) && sent < MORE * count {
        // Begun anew before ids and files are so many that they are what is tried.
        let last = sent + count.saturating_sub(sent).clamp(1000, 5000);
        let mut client = stage.client()?;
        let root = client.root.control_fd;
        let requests = Requests::prepare(&mut client, root)?;
        while sent < last {
            let window = Window::open_again(&mut client)?;
            let mut channel = window.connect(&client)?;
            let closer = channel.closer();
            let progress = Progress::default();
            let seed = Chance::new(chance.next(), "scribbler");
            let (lives, gave_up) = thread::scope(|scope| {
                let scribbling = scope
                    .spawn(|| scribble_beside(&window, part, one_in, seed, &progress, &closer));
                let lives = (sent..last).all(|_| {
                    sent += 1;
                    let (mid, body) = requests.any(&mut chance);
                    // Whatever comes back, if something comes back.
                    let came = exchange(&mut channel, &datagram(mid, 0, &body)).is_ok();
                    progress.answered.fetch_add(u64::from(came), Relaxed);
                    while window.take_gift().is_some() {}
                    came
                });
                progress.over.store(true, Relaxed);
                (lives, scribbling.join().unwrap())
            });
            answered += progress.answered.into_inner();
            stalled += u64::from(gave_up);
            ended += u64::from(!lives && !gave_up);
        }
    }
    stage.count_tries(answered);
    stage.tell(format_args!(
        "{answered} answers to {sent} requests; {ended} channels have ended, {stalled} stalled"
    ));
    ensure!(
        answered > sent / 10 * 9,
        "only {answered} answers to {sent} requests"
    );
    let is_expected = match part.harm {
        Harm::None => (ended, stalled) == (0, 0),
        Harm::Stalls => ended == 0,
        Harm::Ends => true,
    };
    ensure!(
        is_expected && is_harmed(ended, stalled),
        "{:?} was expected: {ended} channels have ended by what was written, {stalled} stalled",
        part.harm
    );
    Ok(())
}
