//! Shared memory that changes under the server, and words that make no sense.

use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::wire::{FdId, Mid, PReadReq, StatReq};
use lisafs_conformance::{Caller, RawChannel, Stop, Verdict, ensure, same};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::unistd::ftruncate;

use crate::case::{Case, Scale};
use crate::observed::cpu_time;
use crate::process::within;
use crate::stage::Stage;
use crate::window::{
    CHANNEL_HEADER, HEADER, SERVER_ACTIVE, SHUT_DOWN, Window, datagram, exchange, mid_of, request,
};

/// Why gVisor's server is not attacked with more channels than it gives.
pub(super) const GO_KEEPS: &str =
    "channels that have died are never given back, so there are only two";

/// Why the memory of gVisor's windows is not looked for.
const ONE_FILE: &str = "all windows of a client are in one file, which is kept until it has gone";

pub(super) const CASES: &[Case] = &[
    Case::new("state_words_that_make_no_sense", &["A3", "A5"], state_words).ours_only(GO_KEEPS),
    Case::new(
        "datagram_lengths_that_make_no_sense",
        &["A3", "A5"],
        datagram_lengths,
    )
    .ours_only(GO_KEEPS),
    Case::new("handshakes_that_are_none", &["A5", "A2-15"], handshakes).ours_only(GO_KEEPS),
    Case::new("a_crowd_on_the_futex_word", &["A3"], crowd),
    Case::new("holes_in_the_window", &["A4"], holes),
    Case::new("holes_in_the_header", &["A3", "A4"], header_holes).ours_only(GO_KEEPS),
    Case::new("channels_that_nobody_connects", &["A5"], unconnected),
    Case::new("windows_of_dead_channels_are_kept", &["A5"], kept).ours_only(ONE_FILE),
    Case::new(
        "buying_cpu_time_with_well_timed_requests",
        &["A18"],
        buying_spin_time,
    )
    .ours_only("it does not spin"),
];

/// How long the server gets to notice.
const NOTICE: Duration = Duration::from_secs(10);

/// A channel that is connected, and its window.
fn connected(caller: &mut Caller) -> Result<(Window, RawChannel), Stop> {
    let window = Window::open_again(caller)?;
    let channel = window.connect(caller)?;
    Ok((window, channel))
}

/// Whether the server has ended the channel.
fn ends(stage: &Stage, window: &Window) -> bool {
    within(NOTICE, || {
        stage.jolt();
        window.state().is_ok_and(|state| state == SHUT_DOWN)
    })
}

/// As [`Window::open_again`], where it is this client that has ended the earlier ones and nobody has told
/// the server: it may be asleep, and keeps their places until it looks.
fn window_after(stage: &Stage, caller: &mut Caller) -> Result<Window, Stop> {
    let mut last = Window::open(caller);
    within(NOTICE, || {
        if last.is_err() {
            stage.jolt();
            last = Window::open(caller);
        }
        last.is_ok()
    });
    last
}

/// The socket, and channels yet to come, are as they were.
fn others_live(caller: &mut Caller, root: FdId) -> Verdict {
    caller.stat(root)?;
    Ok(())
}

/// A word that no rule allows ends its channel, and nothing else. There are more rounds than
/// channels: each gives its place back.
fn state_words(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let words = [SHUT_DOWN, 3, 7, 0x100, 0x0100_0000, 0x8000_0000, u32::MAX];
    for round in 0..3 {
        for word in words {
            // Before the handshake, after it, and after a request.
            let window = Window::open_again(&mut client)?;
            let mut channel = match round {
                0 => None,
                _ => Some(window.connect(&client)?),
            };
            if let (2, Some(channel)) = (round, &mut channel) {
                let stat = StatReq { fd: root };
                exchange(channel, &request(&stat)?)?;
            }
            window.set_state(word)?;
            // The client's end is still there: it is not what ends it.
            ensure!(ends(stage, &window), "{word:#x} is still there");
            others_live(&mut client, root)?;
            stage.count_tries(1);
        }
    }
    // The word says that it is the server's turn before anything was said.
    for _ in 0..8 {
        let window = Window::open_again(&mut client)?;
        window.set_state(SERVER_ACTIVE)?;
        ensure!(ends(stage, &window), "a turn without a handshake");
        stage.count_tries(1);
    }
    Ok(())
}

fn datagram_lengths(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let stat = request(&StatReq { fd: root })?;
    let capacity = u32::try_from(Window::open_again(&mut client)?.len() - HEADER).unwrap();
    let lengths = [0, 1, 2, 3, capacity + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    for len in lengths {
        let (window, _channel) = connected(&mut client)?;
        window.hand_over(&stat, len)?;
        ensure!(
            ends(stage, &window),
            "a datagram of {len} bytes was believed"
        );
        others_live(&mut client, root)?;
        stage.count_tries(1);
    }
    // What fits in the window, but not in a message, is refused, and the channel goes on.
    let (_, mut channel) = connected(&mut client)?;
    let long = vec![0; capacity as usize];
    let reply = exchange(
        &mut channel,
        &datagram(Mid::CLOSE, 0, &long[CHANNEL_HEADER..]),
    )?;
    ensure!(
        reply.len() >= CHANNEL_HEADER,
        "no reply to the longest datagram"
    );
    let reply = exchange(&mut channel, &stat)?;
    same!(mid_of(&reply), Some(Mid::FSTAT), "FStat afterwards");
    Ok(())
}

fn handshakes(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let deep = "[".repeat(2000);
    let deeper = format!("{{\"parking\":{}", "{\"a\":".repeat(600));
    let long = vec![b' '; 5000];
    let garbage: [&[u8]; 12] = [
        b"",
        b"{",
        b"[]",
        b"0",
        b"\"{}\"",
        b"\0\0\0\0",
        b"{\"parking\":}",
        b"{\"parking\":1,\"parking\":",
        b"\xff\xfe{}",
        deep.as_bytes(),
        deeper.as_bytes(),
        &long,
    ];
    for bytes in garbage {
        let window = Window::open_again(&mut client)?;
        window.hand_over(bytes, u32::try_from(bytes.len()).unwrap())?;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
        ensure!(ends(stage, &window), "{shown:?} is a handshake");
        others_live(&mut client, root)?;
        stage.count_tries(1);
    }
    // Lengths beyond what is there, and beyond what a handshake may have.
    for len in [4097, 1 << 20, u32::MAX] {
        let window = Window::open_again(&mut client)?;
        window.hand_over(b"{}\n", len)?;
        ensure!(ends(stage, &window), "a handshake of {len} bytes");
        stage.count_tries(1);
    }
    // Numbers that no version will have are no reason to end: the server says what it knows.
    for offer in [
        "-1",
        "1e999",
        "18446744073709551616",
        "\"1\"",
        "null",
        "[1]",
    ] {
        let window = window_after(stage, &mut client)?;
        let bytes = format!("{{\"parking\":{offer}}}");
        window.hand_over(bytes.as_bytes(), u32::try_from(bytes.len()).unwrap())?;
        let answered = within(NOTICE, || {
            stage.jolt();
            window.state().is_ok_and(|state| state != SERVER_ACTIVE)
        });
        ensure!(answered, "no answer to {bytes}");
        // It may or may not have been a handshake; the channel goes with it.
        window.set_state(SHUT_DOWN)?;
        ensure!(ends(stage, &window), "it does not end");
        stage.count_tries(1);
    }
    others_live(&mut client, root)
}

/// Threads that sleep on the word and come back as often as they are woken, while another one
/// rewrites it, cannot keep the end of a connection from coming.
fn crowd(stage: &mut Stage) -> Verdict {
    const CROWD: usize = 64;
    let rounds = stage.count(2, 100);
    for _ in 0..rounds {
        let mut client = stage.client()?;
        let (window, channel) = connected(&mut client)?;
        let over = AtomicBool::new(false);
        let arrived = AtomicU64::new(0);
        let (window, over, arrived) = (&window, &over, &arrived);
        let quiet = thread::scope(|scope| {
            let waiters: Vec<_> = (0..CROWD)
                .map(|_| {
                    scope.spawn(move || {
                        while !over.load(Relaxed) {
                            arrived.fetch_add(1, Relaxed);
                            // Woken by whoever ends the channel, or by the end of this.
                            let _ = window.impostor().unwrap().recv_first();
                        }
                    })
                })
                .collect();
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    window.set_state(0).unwrap();
                    thread::yield_now();
                }
            });
            while arrived.load(Relaxed) < CROWD as u64 {
                thread::yield_now();
            }
            // The client is gone for the server, but not its memory.
            drop(channel);
            drop(client);
            let quiet = stage.is_idle_within(NOTICE);
            over.store(true, Relaxed);
            // Those who sleep now sleep on a word that nobody will change.
            while waiters.iter().any(|waiter| !waiter.is_finished()) {
                drop(window.endpoint());
                thread::yield_now();
            }
            quiet
        });
        ensure!(quiet, "the connection did not end");
        stage.count_tries(1);
    }
    Ok(())
}

const PUNCH: FallocateFlags =
    FallocateFlags::FALLOC_FL_PUNCH_HOLE.union(FallocateFlags::FALLOC_FL_KEEP_SIZE);

/// The file of a window can neither shrink nor grow, and holes in it are zeros.
fn holes(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let (window, mut channel) = connected(&mut client)?;
    let memory = window.memory();
    let len = i64::try_from(window.len()).unwrap();
    let stat = request(&StatReq { fd: root })?;
    for _ in 0..100 {
        // All but the header.
        fallocate(memory, PUNCH, 4096, len - 4096)?;
        let reply = exchange(&mut channel, &stat)?;
        same!(
            mid_of(&reply),
            Some(Mid::FSTAT),
            "the reply from a window of holes"
        );
    }
    if stage.is_ours() {
        for size in [0, 1, 4096, len - 1, len + 1, 1 << 40] {
            same!(
                ftruncate(memory, size),
                Err(Errno::EPERM),
                "a window of {size} bytes"
            );
        }
        for seal in [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_FUTURE_WRITE] {
            let sealed = fcntl(memory, FcntlArg::F_ADD_SEALS(seal));
            same!(sealed, Err(Errno::EPERM), "{seal:?}");
        }
    } else {
        same!(
            ftruncate(memory, 0),
            Err(Errno::EPERM),
            "a window without bytes"
        );
    }
    let reply = exchange(&mut channel, &stat)?;
    same!(mid_of(&reply), Some(Mid::FSTAT), "the last reply");
    Ok(())
}

/// The page that both sides sleep on goes, with all the words on it, while the server sleeps or is at a
/// request. It answers, or ends the channel, and sleeps on the next page as on the first.
fn header_holes(stage: &mut Stage) -> Verdict {
    /// How long the server is given to get on with a request, in microseconds at the most.
    const LONGEST: u64 = 500;
    const LONG: usize = 1 << 20;
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let stat = request(&StatReq { fd: root })?;
    let len = u32::try_from(stat.len()).unwrap();
    // What takes long enough to be met in the middle.
    let file = client.file(root, b"file", &vec![7; LONG])?;
    let read = request(&PReadReq {
        offset: 0,
        fd: client.open(file, 0)?.id,
        count: u32::try_from(LONG).unwrap(),
    })?;
    // Which message it is, and how long: neither the request nor a reply to another one.
    let sort = |reply: &[u8]| (mid_of(reply), reply.len());
    let (_, mut honest) = connected(&mut client)?;
    let answer = sort(&exchange(&mut honest, &stat)?);
    drop(honest);
    let mut chance = stage.chance.clone();
    let (mut ends, mut late) = (0, 0);
    for round in 0..stage.count(200, 10_000) {
        let (window, _channel) = connected(&mut client)?;
        let is_at_request = round % 2 == 1;
        if is_at_request {
            window.hand_over(&read, u32::try_from(read.len()).unwrap())?;
            stage.jolt();
            thread::sleep(Duration::from_micros(chance.below(LONGEST)));
        }
        fallocate(window.memory(), PUNCH, 0, 4096)?;
        if is_at_request {
            // Whether it is done by the next turn is for chance to say.
            thread::sleep(Duration::from_micros(chance.below(LONGEST)));
        }
        // A server that is still at the read takes the next turn for its own, and that one only.
        let mut is_done = !is_at_request;
        let has_ended = loop {
            window.hand_over(&stat, len)?;
            let passed_on = within(NOTICE, || {
                stage.jolt();
                let is_over = window.is_over().unwrap_or(false);
                is_over || window.state().is_ok_and(|state| state != SERVER_ACTIVE)
            });
            ensure!(passed_on, "neither an answer nor an end");
            if window.is_over()? {
                break true;
            }
            let reply = sort(&window.contents()?);
            if reply == answer {
                break false;
            }
            ensure!(!is_done, "{reply:?} is the answer to an FStat");
            (is_done, late) = (true, late + 1);
        };
        ensure!(is_at_request || !has_ended, "zeros have ended a channel");
        ends += u64::from(has_ended);
        others_live(&mut client, root)?;
        stage.count_tries(1);
    }
    stage.tell(format_args!(
        "{ends} channels have ended, {late} took the next turn for the one that had gone"
    ));
    ensure!(
        stage.scale == Scale::Short || ends > 0,
        "nobody was met at a request"
    );
    Ok(())
}

fn unconnected(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let mut held = Vec::new();
    let errno = loop {
        let answer = client.raw(Mid::CHANNEL, &[])?;
        match answer.errno() {
            Some(errno) => break errno,
            None => held.push(answer.fds),
        }
        ensure!(held.len() <= 64, "no end of channels");
    };
    same!(errno, lisafs::Errno::ENOMEM, "the errno");
    client.stat(root)?;
    stage.count_tries(held.len() as u64);
    Ok(())
}

/// How a client has its channel end.
#[derive(Clone, Copy, Debug)]
enum End {
    ShutDown,
    NoState,
    NoLength,
    HangUp,
}

/// Who keeps the file of a dead channel's window keeps little of its memory, which is the server's by
/// who has touched it first.
fn kept(stage: &mut Stage) -> Verdict {
    /// All of it but the words that say that the channel has ended.
    const LITTLE: u64 = 64 << 10;
    let content = vec![7; 1 << 20];
    for round in 0..stage.count(2, 50) {
        for end in [End::ShutDown, End::NoState, End::NoLength, End::HangUp] {
            let stream = stage.stream()?;
            let mut client = Caller::new(stream.try_clone()?)?;
            let root = client.mount()?.root.control_fd;
            let name = format!("{end:?} {round}");
            let file = client.file(root, name.as_bytes(), &content)?;
            let fd = client.open(file, 0)?.id;
            let (window, mut channel) = connected(&mut client)?;
            let count = u64::try_from(content.len()).unwrap();
            let read = request(&PReadReq {
                offset: 0,
                fd,
                count: count.try_into().unwrap(),
            })?;
            exchange(&mut channel, &read)?;
            let memory = || window.memory().metadata().map(|it| it.blocks() * 512);
            let filled = memory()?;
            ensure!(filled >= count, "{filled} bytes after a reply of {count}");
            match end {
                End::ShutDown => window.set_state(SHUT_DOWN)?,
                End::NoState => window.set_state(7)?,
                End::NoLength => window.hand_over(&read, u32::MAX)?,
                // The client's end is still there, and says nothing of it.
                End::HangUp => stream.shutdown(Shutdown::Both)?,
            }
            let gone = within(NOTICE, || {
                stage.jolt();
                memory().is_ok_and(|bytes| bytes <= LITTLE)
            });
            ensure!(gone, "{end:?}: {} bytes are kept", memory()?);
            same!(window.state()?, SHUT_DOWN, "the state after that");
            ensure!(channel.send_recv(0).is_err(), "a reply from a dead channel");
            stage.count_tries(1);
        }
    }
    Ok(())
}

/// How much CPU time a server uses for each of `count` requests that come `gap` apart.
fn cost(
    stage: &Stage,
    channel: &mut RawChannel,
    stat: &[u8],
    gap: Duration,
    count: u32,
) -> Result<Duration, Stop> {
    let before = cpu_time(stage.pid());
    let mut next = Instant::now();
    for _ in 0..count {
        exchange(channel, stat)?;
        next = next.max(Instant::now()) + gap;
        while Instant::now() < next {
            std::hint::spin_loop();
        }
    }
    Ok(cpu_time(stage.pid()).saturating_sub(before) / count)
}

/// Requests that come before a spinning server gives up make it spin as long as possible. How long
/// that is on average shows where nobody else takes its CPU from it, in a time that is made up:
/// `transport/src/wait/tests/bought.rs`. Here it shows that it gives up: requests that come far apart
/// cost little more than after a sleep, not the time in between.
fn buying_spin_time(stage: &mut Stage) -> Verdict {
    const BOUND: Duration = Duration::from_micros(200);
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let stat = request(&StatReq { fd: root })?;
    let (_, mut channel) = connected(&mut client)?;
    let apart = Duration::from_millis(5);
    let slept = cost(stage, &mut channel, &stat, apart, 100)?;
    ensure!(
        slept < apart / 4,
        "{slept:?} a request that comes after {apart:?}"
    );
    for gap in [2, 5, 10, 20, 30, 45, 50, 80, 120, 200, 500, 2000] {
        let count = u32::try_from(stage.count(500, 10_000)).unwrap();
        let spent = cost(
            stage,
            &mut channel,
            &stat,
            Duration::from_micros(gap),
            count,
        )?;
        ensure!(
            spent < slept * 3 + BOUND,
            "{spent:?} a request that comes after {gap} us, {slept:?} after a sleep"
        );
        stage.count_tries(1);
    }
    // And nothing for none.
    let before = cpu_time(stage.pid());
    thread::sleep(Duration::from_millis(300));
    let idle = cpu_time(stage.pid()).saturating_sub(before);
    ensure!(
        idle < Duration::from_millis(30),
        "{idle:?} in 300 ms without a request"
    );
    Ok(())
}
