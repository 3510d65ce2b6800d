//! What comes over the socket of a connection, byte for byte, with descriptors on any of the bytes.
//!
//! It is read by a frame reader alone, as either side has one, or by a server on its own threads.
//! Nothing panics; the reader finds the frames and the descriptors that are there, and no others; the
//! server answers each frame, in this order, as long as they are frames, and then hangs up; nobody waits
//! any more once the stream has ended; and no descriptor is left.
#![no_main]
#![forbid(unsafe_code)]

#[path = "../../../benches/null/mod.rs"]
#[allow(dead_code)] // what only the benchmarks use
mod null;

use std::fs::File;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use flipcall::{FrameBuffer, FrameSocket, Received};
use libfuzzer_sys::fuzz_target;
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::Mid;
use lisafs_fuzz::{Writes, Written, count_descriptors, judge};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use null::NullFs;

/// The limit of a payload: inputs have some that are longer.
const LIMIT: u32 = 512;

/// How many descriptors a frame can bring at the most.
const MOST_FDS: usize = 16;

/// Longer than anything takes that is not stuck.
const DEADLINE: Duration = Duration::from_secs(5);

/// What all descriptors are that are sent.
static GIFT: OnceLock<File> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let Some((&options, input)) = input.split_first() else {
        return;
    };
    let gift = GIFT.get_or_init(|| File::open("/dev/null").expect("there is one"));
    let before = count_descriptors();
    let (ours, theirs) = UnixStream::pair().expect("there are descriptors to be had");
    let patience = ours.set_write_timeout(Some(DEADLINE));
    patience.expect("it is a socket");
    let writes = Writes::new(input);
    if options & 1 == 0 {
        serve(&writes, ours, theirs, gift, options & 2 != 0);
    } else {
        let written = writes.make(&ours, gift).expect("there is room");
        drop(ours);
        let want_fds = usize::from(options >> 1) % (MOST_FDS + 1);
        read(&written, &FrameSocket::from(theirs), want_fds);
    }
    let closed = settles(|| count_descriptors() == before);
    assert!(closed, "descriptors have leaked");
});

/// What is next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next<'a> {
    Frame(u16, &'a [u8]),
    TooLong(u16, u32),
    /// Nothing, between two frames.
    Closed,
    /// It ends within a frame, or has one that is far too long.
    Broken,
}

/// The frame at `at`, and how many bytes it takes.
fn next(stream: &[u8], at: usize) -> (Next<'_>, usize) {
    let rest = stream.get(at..).unwrap_or_default();
    let [a, b, c, d, e, f, _, _, rest @ ..] = rest else {
        let next = if rest.is_empty() {
            Next::Closed
        } else {
            Next::Broken
        };
        return (next, 0);
    };
    let (len, mid) = (
        u32::from_ne_bytes([*a, *b, *c, *d]),
        u16::from_ne_bytes([*e, *f]),
    );
    let next = match rest.get(..len as usize) {
        Some(payload) if len <= LIMIT => Next::Frame(mid, payload),
        Some(_) if len <= 2 * LIMIT => Next::TooLong(mid, len),
        _ => Next::Broken,
    };
    (next, 8 + len as usize)
}

/// Reads all frames, and looks whether they are those that were written.
fn read(written: &Written, socket: &FrameSocket, want_fds: usize) {
    let (mut body, mut fds) = (FrameBuffer::new(), Vec::new());
    let mut at = 0;
    loop {
        let (next, len) = next(&written.bytes, at);
        let got = socket.recv(&mut body, LIMIT, &mut fds, want_fds);
        let came = written.fds_at(at).min(want_fds);
        assert_eq!(fds.len(), came, "descriptors of {next:?}");
        fds.clear();
        match (next, got) {
            (Next::Frame(mid, payload), Ok(got)) => {
                let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                assert_eq!(got, Received::Frame { mid, len });
                assert_eq!(body.as_slice(), payload);
            }
            (Next::TooLong(mid, len), Ok(got)) => assert_eq!(got, Received::TooLong { mid, len }),
            (Next::Closed, Ok(Received::Closed)) | (Next::Broken, Err(_)) => break,
            (next, got) => panic!("{got:?} instead of {next:?}"),
        }
        at += len;
    }
}

/// Has the writes served, and reads the answers, unless the client `hangs_up` before.
fn serve(writes: &Writes<'_>, ours: UnixStream, theirs: UnixStream, gift: &File, hangs_up: bool) {
    let server = Server::new(1);
    let opts = ConnectionOpts {
        max_message_size: LIMIT,
        // Few enough for an input to run into them.
        max_channels: 1,
        max_ids: 16,
        max_fds: 16,
        ..ConnectionOpts::default()
    };
    let started = server.start_connection(theirs, NullFs, opts);
    started.expect("one connection is permitted");
    let written = writes.make(&ours, gift).expect("the server reads");
    // Where the server is gone already there is nothing to shut down.
    let _ = ours.shutdown(Shutdown::Write);
    let socket = FrameSocket::from(ours);
    if !hangs_up {
        hear(&written, &socket);
    }
    drop(socket);
    let ended = settles(|| server.census().connections == 0);
    assert!(ended, "the connection has not ended");
    assert_eq!(
        server.count_nodes(),
        1,
        "nodes have outlived the connection"
    );
}

/// Reads an answer to each frame, and then the end.
fn hear(written: &Written, socket: &FrameSocket) {
    let (mut body, mut fds) = (FrameBuffer::new(), Vec::new());
    let mut at = 0;
    loop {
        let (next, len) = next(&written.bytes, at);
        at += len;
        wait(socket);
        let got = socket.recv(&mut body, LIMIT, &mut fds, MOST_FDS);
        let (asked, got) = match (next, got) {
            (Next::Frame(asked, _) | Next::TooLong(asked, _), Ok(Received::Frame { mid, .. })) => {
                (Mid(asked), Mid(mid))
            }
            // What it has not read makes its hanging up a reset.
            (Next::Closed | Next::Broken, Ok(Received::Closed)) | (Next::Broken, Err(_)) => break,
            (next, got) => panic!("{got:?} is no answer to {next:?}"),
        };
        let said = judge(asked, got, body.as_slice());
        let message = asked.message().filter(|_| said.is_some());
        let most = message.map_or(0, |message| message.max_fds);
        assert!(fds.len() <= most, "{asked}: {} descriptors", fds.len());
        if matches!(next, Next::TooLong(..)) {
            assert_eq!(got, Mid::ERROR, "{asked}: it was too long");
        }
        fds.clear();
    }
}

/// Waits until there is something to read, which is soon.
fn wait(socket: &FrameSocket) {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(DEADLINE).unwrap_or(PollTimeout::MAX);
    let ready = loop {
        match poll(&mut fds, timeout) {
            // libFuzzer has a timer.
            Err(Errno::EINTR) => {}
            ready => break ready.expect("it is a socket"),
        }
    };
    assert!(ready > 0, "the server neither answers nor hangs up");
}

/// Whether that becomes true before long.
fn settles(is_so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        if Instant::now() > end {
            return false;
        }
        thread::yield_now();
    }
    true
}
