//! What is read before the first request of a channel: where its window is, the JSON of both
//! handshakes, and the descriptor channel.
//!
//! Nothing panics; nobody waits once the channel is shut down; no length exceeds the window; and no
//! descriptor is left.
#![no_main]
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use flipcall::{
    ClientEndpoint, Closer, FdReceiver, FdSender, PacketWindow, ServerEndpoint, Spinners,
    WaitPolicy, WindowDescriptor, fd_channel,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use lisafs_fuzz::count_descriptors;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// In front of the datagram: whose turn it is, the length, and who sleeps.
const HEADER: u64 = 16;
const CLIENT_ACTIVE: u32 = 0;
const SERVER_ACTIVE: u32 = 1;

/// Longer than anything takes that is not stuck.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// A client is told where its window is.
    Window {
        size: u32,
        seals: u8,
        offset: u64,
        length: u64,
    },
    /// A client takes this many descriptors, of which some datagrams have none.
    Gifts { sent: Vec<bool>, taken: u8 },
    /// A server gets a handshake, and then a request.
    ToServer {
        state: u32,
        len: u32,
        json: &'a [u8],
        then: u32,
    },
    /// A client gets a handshake.
    ToClient {
        state: Option<u32>,
        len: Option<u32>,
        json: &'a [u8],
    },
}

fuzz_target!(|input: Input<'_>| {
    let before = count_descriptors();
    match input {
        Input::Window {
            size,
            seals,
            offset,
            length,
        } => window(size, seals, WindowDescriptor { offset, length }),
        Input::Gifts { sent, taken } => gifts(&sent, taken),
        Input::ToServer {
            state,
            len,
            json,
            then,
        } => to_server(state, len, json, then),
        Input::ToClient { state, len, json } => to_client(state, len, json),
    }
    .expect("the host does its part");
    assert_eq!(count_descriptors(), before, "descriptors have leaked");
});

fn window(size: u32, seals: u8, place: WindowDescriptor) -> io::Result<()> {
    let file = File::from(memfd_create(c"hostile", MFdFlags::MFD_ALLOW_SEALING)?);
    file.set_len(size.into())?;
    let seals = SealFlag::from_bits_truncate(seals.into());
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    if let Ok(window) = PacketWindow::from_peer(file.into(), place) {
        assert!(seals.contains(SealFlag::F_SEAL_SHRINK));
        assert!(place.offset.checked_add(place.length) <= Some(size.into()));
        assert_eq!(window.capacity() as u64, place.length - HEADER);
    }
    Ok(())
}

fn gifts(sent: &[bool], taken: u8) -> io::Result<()> {
    let (sender, theirs): (FdSender, _) = fd_channel(8).map_err(io::Error::other)?;
    let file = File::open("/dev/null")?;
    for descriptor in sent {
        // It holds a few, and says so when it is full.
        let _ = match descriptor {
            true => sender.send(file.as_fd()),
            false => Ok(()),
        };
    }
    let receiver = FdReceiver::from(theirs);
    for _ in 0..taken {
        let _ = receiver.recv();
    }
    Ok(())
}

/// A window, and the file that it is, through which the peer writes.
fn shared() -> io::Result<(PacketWindow, File)> {
    let window = PacketWindow::create(4096).map_err(io::Error::other)?;
    let file = window.try_clone_fd().map_err(io::Error::other)?;
    Ok((window, file.into()))
}

/// Hands the window over without a wake.
fn put(file: &File, state: u32, len: u32, json: &[u8]) -> io::Result<()> {
    file.write_all_at(json, HEADER)?;
    file.write_all_at(&len.to_ne_bytes(), 4)?;
    file.write_all_at(&state.to_ne_bytes(), 0)
}

/// Waits until the other side has handed over, or is gone.
fn wait_for(file: &File, state: u32, gone: impl Fn() -> bool) -> io::Result<bool> {
    let mut word = [0; 4];
    loop {
        file.read_exact_at(&mut word, 0)?;
        if u32::from_ne_bytes(word) == state {
            return Ok(true);
        }
        if gone() {
            return Ok(false);
        }
        thread::yield_now();
    }
}

fn end(closer: &Closer) {
    assert!(closer.shutdown(DEADLINE), "it sleeps on");
}

fn to_server(state: u32, len: u32, json: &[u8], then: u32) -> io::Result<()> {
    let json = json.get(..4096).unwrap_or(json);
    let (window, file) = shared()?;
    let capacity = window.capacity();
    put(&file, state, len, json)?;
    let endpoint = ServerEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
    let closer = endpoint.closer();
    thread::scope(|scope| {
        let server = scope.spawn(move || {
            if let Ok((_active, len)) = endpoint.recv_first() {
                assert!(len <= capacity, "{len} bytes in a window of {capacity}");
            }
        });
        // A state that is the client's keeps the server waiting.
        if state == SERVER_ACTIVE && wait_for(&file, CLIENT_ACTIVE, || server.is_finished())? {
            put(&file, SERVER_ACTIVE, then, b"")?;
        }
        end(&closer);
        Ok(())
    })
}

fn to_client(state: Option<u32>, len: Option<u32>, json: &[u8]) -> io::Result<()> {
    let json = json.get(..4096).unwrap_or(json);
    let (window, file) = shared()?;
    let theirs = window.try_clone_fd().map_err(io::Error::other)?;
    let window = PacketWindow::from_peer(theirs, window.descriptor()).map_err(io::Error::other)?;
    let endpoint = ClientEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
    let closer = endpoint.closer();
    thread::scope(|scope| {
        let client = scope.spawn(move || endpoint.connect().map(drop));
        if wait_for(&file, SERVER_ACTIVE, || client.is_finished())? {
            let len = len.unwrap_or(u32::try_from(json.len()).unwrap_or(u32::MAX));
            put(&file, state.unwrap_or(CLIENT_ACTIVE), len, json)?;
        }
        end(&closer);
        Ok(())
    })
}
