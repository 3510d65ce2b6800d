//! Descriptors that the server donates, to clients that do not take them.

use std::iter;
use std::time::Duration;

use flipcall::{FrameBuffer, FrameSocket, Received, SharedBytes};
use lisafs::Errno;
use lisafs::wire::{CreateCommon, FdId, Gid, Mid, MkdirAtReq, OpenAtReq, Uid};
use lisafs_conformance::{Caller, RawChannel, Stop, Verdict, encoded, ensure, same};
use nix::sys::stat::Mode;

use super::limits::NO_FLAG;
use crate::case::Case;
use crate::process::within;
use crate::stage::{Client, Stage};
use crate::window::{CHANNEL_HEADER, Window, exchange, mid_of, request};

pub(super) const CASES: &[Case] = &[
    Case::new("donations_that_nobody_takes", &["A6", "A2-15"], not_taken)
        .options(&["--host-fifo", "open"]),
    Case::new(
        "donations_at_the_limit_of_a_channel",
        &["A6"],
        over_a_channel,
    )
    .options(&["--host-fifo", "open", "--max-donations", "3"])
    .ours_only(NO_FLAG),
    Case::new(
        "donations_at_the_limit_of_the_socket",
        &["A6"],
        over_the_socket,
    )
    .options(&["--host-fifo", "open", "--max-donations", "3"])
    .ours_only(NO_FLAG),
    Case::new(
        "donations_of_dead_channels",
        &["A5", "A6"],
        of_dead_channels,
    )
    .options(&["--host-fifo", "open"])
    .ours_only("it has no limit for what is in flight"),
];

/// How long answers are waited for that have to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many can be in flight unless somebody says otherwise.
const USUAL: usize = 8;

/// How many channels a client can have unless somebody says otherwise.
const CHANNELS: usize = 4;

/// How many can be in flight in the cases that say so.
const LIMIT: usize = 3;

/// Makes a FIFO, and the request to open it: it is nothing without its descriptor.
fn make_fifo(stage: &Stage, caller: &mut Caller, root: FdId) -> Result<OpenAtReq, Stop> {
    nix::unistd::mkfifo(&stage.root.join("fifo"), Mode::S_IRWXU)?;
    Ok(OpenAtReq {
        fd: caller.find(root, b"fifo")?.control_fd,
        flags: libc::O_RDWR.cast_unsigned(),
    })
}

/// A channel whose descriptors are taken when a case says so, and what can be opened over it.
struct Here {
    client: Client,
    window: Window,
    channel: RawChannel,
    /// A file, and the request to open it, which is answered without a descriptor if need be.
    file: FdId,
    of_file: Vec<u8>,
    of_fifo: Vec<u8>,
}

impl Here {
    fn new(stage: &Stage) -> Result<Here, Stop> {
        let mut client = stage.client()?;
        let root = client.root.control_fd;
        let file = client.file(root, b"file", b"content")?;
        let fifo = make_fifo(stage, &mut client, root)?;
        let window = Window::open(&mut client)?;
        Ok(Here {
            channel: window.connect(&client)?,
            window,
            client,
            file,
            of_file: request(&OpenAtReq { fd: file, flags: 0 })?,
            of_fifo: request(&fifo)?,
        })
    }

    /// Which message the answer is, and how many descriptors it announces.
    fn open_file(&mut self) -> Result<(Mid, u8), Stop> {
        announced(&exchange(&mut self.channel, &self.of_file)?)
    }

    /// As [`open_file`](Self::open_file); an error has to be EAGAIN.
    fn open_fifo(&mut self) -> Result<(Mid, u8), Stop> {
        let reply = exchange(&mut self.channel, &self.of_fifo)?;
        let answered = announced(&reply)?;
        if answered.0 == Mid::ERROR {
            let again = u32::from(Errno::EAGAIN.raw()).to_le_bytes();
            same!(reply[CHANNEL_HEADER..], again, "the errno");
        }
        Ok(answered)
    }

    /// How many descriptors are waiting, which are taken.
    fn take_all(&self) -> usize {
        iter::from_fn(|| self.window.take_gift()).count()
    }
}

fn announced(reply: &[u8]) -> Result<(Mid, u8), Stop> {
    let mid = mid_of(reply).ok_or_else(|| Stop::failed("no message"))?;
    Ok((mid, reply[2]))
}

/// A client that takes no descriptor keeps nobody waiting, and gets its answers: without those that
/// can be done without, and an errno for the others.
fn not_taken(stage: &mut Stage) -> Verdict {
    let mut here = Here::new(stage)?;
    let mut refused = 0;
    for _ in 0..500 {
        let (mid, _) = here.open_file()?;
        same!(mid, Mid::OPEN_AT, "a file without its descriptor");
        refused += u32::from(here.open_fifo()?.0 == Mid::ERROR);
        stage.count_rpcs(2);
    }
    ensure!(
        refused > 400,
        "FIFOs without the descriptor that is all they are: {refused} refused"
    );
    // Over the socket all is as before.
    let donated = here.client.open(here.file, 0)?.donated;
    same!(donated.len(), 1, "descriptors of a file");
    if stage.is_ours() {
        same!(here.take_all(), USUAL, "descriptors in flight");
        for _ in 0..USUAL {
            same!(here.open_fifo()?, (Mid::OPEN_AT, 1), "with room for it");
        }
    }
    // With the channel full, the connection ends.
    Ok(())
}

/// One below, at the limit, and one above, where there is nothing but an answer; and again when the
/// client has taken what was sent.
fn over_a_channel(stage: &mut Stage) -> Verdict {
    let mut here = Here::new(stage)?;
    let mut in_flight = 0;
    for taken in [0, 1, 2, 3, 3] {
        for _ in 0..taken {
            let gift = here.window.take_gift();
            ensure!(gift.is_some(), "one that was announced is missing");
            in_flight -= 1;
        }
        while in_flight < LIMIT {
            let answer = here.open_fifo()?;
            same!(answer, (Mid::OPEN_AT, 1), "with {in_flight} in flight");
            in_flight += 1;
            stage.count_tries(1);
        }
        let held = stage.open_descriptors();
        for _ in 0..3 {
            same!(here.open_fifo()?, (Mid::ERROR, 0), "with all in flight");
        }
        same!(stage.open_descriptors(), held, "descriptors after refusals");
        let answer = here.open_file()?;
        same!(answer, (Mid::OPEN_AT, 0), "a file without its descriptor");
        stage.count_tries(4);
    }
    same!(here.take_all(), LIMIT, "descriptors in flight");
    Ok(())
}

fn send(frames: &FrameSocket, mid: Mid, body: &[u8]) -> Result<(), Stop> {
    let mut body = body.to_vec();
    let body = SharedBytes::from(body.as_mut_slice());
    Ok(frames
        .send(mid.0, body, &[])
        .map_err(flipcall::Error::from)?)
}

/// The next answer: which message it is, and how many descriptors came along.
fn answer(frames: &FrameSocket) -> Result<(Mid, usize), Stop> {
    let mut fds = Vec::new();
    match frames.recv(&mut FrameBuffer::new(), 1 << 20, &mut fds, 2)? {
        Received::Frame { mid, .. } => Ok((Mid(mid), fds.len())),
        other => Err(Stop::failed(format_args!("{other:?} for an answer"))),
    }
}

fn mkdir(dir_fd: FdId, name: &[u8]) -> Result<Vec<u8>, Stop> {
    let create = CreateCommon {
        dir_fd,
        uid: Uid::NONE,
        gid: Gid::NONE,
        mode: 0o755,
    };
    Ok(encoded(&MkdirAtReq { create, name })?)
}

/// The same for a client that sends requests without a look at the answers.
fn over_the_socket(stage: &mut Stage) -> Verdict {
    let stream = stage.stream()?;
    let mut caller = Caller::new(stream.try_clone()?)?;
    let root = caller.mount()?.root.control_fd;
    let fifo = encoded(&make_fifo(stage, &mut caller, root)?)?;
    let frames = FrameSocket::from(stream);
    for (round, ahead) in [LIMIT - 1, LIMIT, LIMIT + 1, 100, 1]
        .into_iter()
        .enumerate()
    {
        let mark = format!("mark {round}");
        for _ in 0..ahead {
            send(&frames, Mid::OPEN_AT, &fifo)?;
        }
        send(&frames, Mid::MKDIR_AT, &mkdir(root, mark.as_bytes())?)?;
        let answered = || stage.root.join(&mark).exists();
        ensure!(within(PATIENCE, answered), "it waits for its client");
        for nth in 0..ahead {
            let expected = if nth < LIMIT {
                (Mid::OPEN_AT, 1)
            } else {
                (Mid::ERROR, 0)
            };
            same!(answer(&frames)?, expected, "the answer {nth} of {ahead}");
            stage.count_tries(1);
        }
        same!(answer(&frames)?, (Mid::MKDIR_AT, 0), "the mark");
    }
    Ok(())
}

/// A client that takes nothing, ends its channel and has another one made leaves no more in flight than
/// one whose channels go on.
fn of_dead_channels(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let of_fifo = request(&make_fifo(stage, &mut client, root)?)?;
    let mut dead = Vec::new();
    for _ in 0..10 * CHANNELS {
        stage.count_tries(1);
        // The end of the one before may take a moment.
        let window = if dead.len() < CHANNELS {
            Window::open_again(&mut client)?
        } else if let Ok(window) = Window::open(&mut client) {
            window
        } else {
            continue;
        };
        let mut channel = window.connect(&client)?;
        for _ in 0..USUAL {
            let reply = exchange(&mut channel, &of_fifo)?;
            same!(announced(&reply)?, (Mid::OPEN_AT, 1), "with room for it");
        }
        // A length that makes no sense.
        window.hand_over(&[], u32::MAX)?;
        let ends = || {
            stage.jolt();
            window.is_over().unwrap_or(true)
        };
        ensure!(within(PATIENCE, ends), "the channel goes on");
        dead.push(window);
    }
    same!(dead.len(), CHANNELS, "channels with descriptors in flight");
    for (nth, window) in dead.iter().enumerate() {
        let left = iter::from_fn(|| window.take_gift()).count();
        same!(left, USUAL, "descriptors left in the channel {nth}");
        // Which makes room for another.
        let mut another = client.channel()?;
        same!(another.stat(root)?.ino, client.root.stat.ino, "the root");
    }
    Ok(())
}
