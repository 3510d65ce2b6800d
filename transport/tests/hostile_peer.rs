//! A server against clients that break every rule of the window, and clients against such servers.
//!
//! The hostile side writes the window through its file, behind the back of the endpoint under test.
//! Nothing here wakes anybody, so endpoints that have to notice something by themselves spin.

#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flipcall::{
    Active, ClientEndpoint, Closer, Error, ErrorKind, FdReceiver, PacketWindow, ServerEndpoint,
    Spinners, WaitPolicy, WindowDescriptor, fd_channel,
};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{ftruncate, pipe};

const CAPACITY: usize = 4096 - 16;
/// Far longer than anything here takes, even on a machine that does ten other things.
const DEADLINE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: WaitPolicy = WaitPolicy::Spin(DEADLINE);

const CLIENT_ACTIVE: u32 = 0;
const SERVER_ACTIVE: u32 = 1;
const SHUT_DOWN: u32 = 2;

type Server = JoinHandle<Result<(Active, usize), Error>>;

/// Write access to a window for somebody who does not play by the rules.
#[derive(Debug)]
struct Intruder {
    file: File,
}

impl Intruder {
    fn new(window: &PacketWindow) -> Intruder {
        Intruder {
            file: window.try_clone_fd().unwrap().into(),
        }
    }

    fn state(&self) -> u32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        u32::from_ne_bytes(bytes)
    }

    fn set_state(&self, state: u32) {
        self.file.write_all_at(&state.to_ne_bytes(), 0).unwrap();
    }

    /// Puts a datagram there that claims to be `data_len` long, and hands it to the server.
    fn send(&self, data: &[u8], data_len: u32) {
        self.file.write_all_at(data, 16).unwrap();
        self.file.write_all_at(&data_len.to_ne_bytes(), 4).unwrap();
        self.set_state(SERVER_ACTIVE);
    }

    fn await_state(&self, state: u32) {
        let started = Instant::now();
        while self.state() != state {
            assert!(started.elapsed() < DEADLINE, "state stays {}", self.state());
            thread::yield_now();
        }
    }

    /// Another mapping of the same window.
    fn window(&self) -> PacketWindow {
        let length = self.file.metadata().unwrap().len();
        let fd = OwnedFd::from(self.file.try_clone().unwrap());
        PacketWindow::from_peer(fd, WindowDescriptor { offset: 0, length }).unwrap()
    }
}

/// A server in a thread, waiting for its first request.
fn serve(policy: WaitPolicy) -> (Intruder, Closer, Server) {
    let window = PacketWindow::create(CAPACITY).unwrap();
    let intruder = Intruder::new(&window);
    let endpoint = ServerEndpoint::new(window, policy, &Spinners::with_limit(1));
    let closer = endpoint.closer();
    (
        intruder,
        closer,
        thread::spawn(move || endpoint.recv_first()),
    )
}

fn first_error(server: Server) -> ErrorKind {
    server.join().unwrap().unwrap_err().kind()
}

#[test]
fn an_unknown_state_ends_the_channel() {
    for state in [3, 7, 0x8000_0000, u32::MAX] {
        let (intruder, _, server) = serve(LOOK_AGAIN);
        intruder.set_state(state);
        assert_eq!(first_error(server), ErrorKind::Protocol);
        assert_eq!(intruder.state(), SHUT_DOWN);
    }
}

#[test]
fn a_state_changed_during_our_turn_ends_the_channel() {
    for (state, kind) in [
        (CLIENT_ACTIVE, ErrorKind::Protocol),
        (SHUT_DOWN, ErrorKind::Shutdown),
        (9, ErrorKind::Protocol),
    ] {
        let (intruder, _, server) = serve(LOOK_AGAIN);
        intruder.send(b"{}\n", 3);
        intruder.await_state(CLIENT_ACTIVE);
        intruder.send(b"", 4);
        let (mut channel, len) = server.join().unwrap().unwrap();
        assert_eq!(len, 4);
        intruder.set_state(state);
        assert_eq!(channel.send_recv(4).unwrap_err().kind(), kind);
        assert_eq!(intruder.state(), SHUT_DOWN);
        assert!(channel.payload().is_empty());
        assert_eq!(
            channel.send_recv(4).unwrap_err().kind(),
            ErrorKind::Shutdown
        );
    }
}

#[test]
fn a_datagram_beyond_the_window_ends_the_channel() {
    for data_len in [CAPACITY as u32 + 1, 0x8000_0000, u32::MAX] {
        let (intruder, _, server) = serve(LOOK_AGAIN);
        intruder.send(b"{}\n", data_len);
        assert_eq!(first_error(server), ErrorKind::Protocol);
        assert_eq!(intruder.state(), SHUT_DOWN);

        let (intruder, _, server) = serve(LOOK_AGAIN);
        intruder.send(b"{}\n", 3);
        intruder.await_state(CLIENT_ACTIVE);
        intruder.send(b"", data_len);
        assert_eq!(first_error(server), ErrorKind::Protocol);
        assert_eq!(intruder.state(), SHUT_DOWN);
    }
}

/// What a datagram must hold is for the layer above to say; short ones are passed on as they are.
#[test]
fn every_length_up_to_the_capacity_is_passed_on() {
    for data_len in [0, 1, 2, 3, 4, CAPACITY] {
        let (intruder, _, server) = serve(LOOK_AGAIN);
        intruder.send(b"{}\n", 3);
        intruder.await_state(CLIENT_ACTIVE);
        intruder.send(b"", data_len as u32);
        let (channel, len) = server.join().unwrap().unwrap();
        assert_eq!((len, channel.capacity()), (data_len, CAPACITY));
    }
}

#[test]
fn a_bad_handshake_ends_the_channel() {
    let garbage: [&[u8]; 6] = [b"", b"[]", b"{", b"1", b"\"{}\"", &[0; 64]];
    for data in garbage {
        let (intruder, _, server) = serve(LOOK_AGAIN);
        intruder.send(data, data.len() as u32);
        assert_eq!(first_error(server), ErrorKind::Handshake);
        assert_eq!(intruder.state(), SHUT_DOWN);
    }
}

#[test]
fn a_client_of_a_server_with_a_bad_handshake_is_told() {
    let window = PacketWindow::create(CAPACITY).unwrap();
    let intruder = Intruder::new(&window);
    let endpoint = ClientEndpoint::new(window, LOOK_AGAIN, &Spinners::with_limit(1));
    let client = thread::spawn(move || endpoint.connect());
    intruder.await_state(SERVER_ACTIVE);
    intruder.send(b"[]\n", 3);
    intruder.set_state(CLIENT_ACTIVE);
    assert_eq!(
        client.join().unwrap().unwrap_err().kind(),
        ErrorKind::Handshake
    );
    assert_eq!(intruder.state(), SHUT_DOWN);
}

#[test]
fn a_failed_server_wakes_its_client() {
    let window = PacketWindow::create(CAPACITY).unwrap();
    let intruder = Intruder::new(&window);
    let spinners = Spinners::with_limit(1);
    let client = ClientEndpoint::new(intruder.window(), WaitPolicy::Park, &spinners);
    let client = thread::spawn(move || client.connect());
    intruder.await_state(SERVER_ACTIVE);
    // The request is there already; now it becomes garbage.
    intruder.send(b"??\n", 3);
    let server = ServerEndpoint::new(window, WaitPolicy::Park, &spinners);
    assert_eq!(
        server.recv_first().unwrap_err().kind(),
        ErrorKind::Handshake
    );
    assert_eq!(
        client.join().unwrap().unwrap_err().kind(),
        ErrorKind::Shutdown
    );
}

#[test]
fn a_dropped_endpoint_wakes_its_peer() {
    let window = PacketWindow::create(CAPACITY).unwrap();
    let spinners = Spinners::with_limit(0);
    let client = Intruder::new(&window).window();
    let client = ClientEndpoint::new(client, WaitPolicy::Park, &spinners);
    let client = thread::spawn(move || client.connect().and_then(|mut active| active.send_recv(4)));
    let (active, _) = ServerEndpoint::new(window, WaitPolicy::Park, &spinners)
        .recv_first()
        .unwrap();
    drop(active);
    assert_eq!(
        client.join().unwrap().unwrap_err().kind(),
        ErrorKind::Shutdown
    );
}

#[test]
fn too_long_a_datagram_of_our_own_is_refused_and_harmless() {
    let (intruder, _, server) = serve(WaitPolicy::Park);
    let client = ClientEndpoint::new(
        intruder.window(),
        WaitPolicy::Park,
        &Spinners::with_limit(0),
    );
    let mut client = client.connect().unwrap();
    let error = client.send_recv(CAPACITY + 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        client.send_recv(usize::MAX).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    client.send_last(CAPACITY).unwrap();
    assert_eq!(server.join().unwrap().unwrap().1, CAPACITY);
}

#[test]
fn a_client_can_neither_shrink_nor_grow_a_window() {
    let (intruder, closer, server) = serve(WaitPolicy::Park);
    for len in [0, 1, 4095, 4097, 1 << 40] {
        assert_eq!(ftruncate(&intruder.file, len), Err(Errno::EPERM));
    }
    let unseal = FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE);
    assert_eq!(fcntl(&intruder.file, unseal), Err(Errno::EPERM));
    assert!(closer.shutdown(DEADLINE));
    assert_eq!(first_error(server), ErrorKind::Shutdown);
}

#[test]
fn a_client_that_never_comes_cannot_delay_a_shutdown() {
    for policy in [WaitPolicy::Park, LOOK_AGAIN] {
        let (_, closer, server) = serve(policy);
        assert!(closer.shutdown(DEADLINE));
        assert_eq!(first_error(server), ErrorKind::Shutdown);
        assert!(closer.shutdown(Duration::ZERO), "not idempotent");
    }
}

#[test]
fn a_shutdown_before_the_wait_is_not_lost() {
    let window = PacketWindow::create(CAPACITY).unwrap();
    let intruder = Intruder::new(&window);
    let endpoint = ServerEndpoint::new(window, WaitPolicy::Park, &Spinners::with_limit(0));
    assert!(endpoint.closer().shutdown(Duration::ZERO));
    // Even a word that says otherwise does not bring the channel back.
    intruder.send(b"{}\n", 3);
    assert_eq!(
        endpoint.recv_first().unwrap_err().kind(),
        ErrorKind::Shutdown
    );
}

/// The peer keeps the word at "not your turn" and crowds the futex with threads of its own, which
/// come back as often as they are woken.
#[test]
fn a_crowd_on_the_word_and_a_rewriter_cannot_delay_a_shutdown() {
    const CROWD: usize = 64;
    let (intruder, closer, server) = serve(WaitPolicy::Park);
    let intruder = Arc::new(intruder);
    let over = Arc::new(AtomicBool::new(false));
    let arrived = Arc::new(AtomicUsize::new(0));
    let repeat = |work: fn(&Intruder)| {
        let (intruder, over) = (Arc::clone(&intruder), Arc::clone(&over));
        let arrived = Arc::clone(&arrived);
        thread::spawn(move || {
            arrived.fetch_add(1, Relaxed);
            while !over.load(Relaxed) {
                work(&intruder);
            }
        })
    };
    let mut crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            repeat(|intruder| {
                let spinners = Spinners::with_limit(0);
                let waiter = ServerEndpoint::new(intruder.window(), WaitPolicy::Park, &spinners);
                let _ = waiter.recv_first();
            })
        })
        .collect();
    crowd.push(repeat(|intruder| {
        intruder.set_state(CLIENT_ACTIVE);
        thread::yield_now();
    }));

    while arrived.load(Relaxed) <= CROWD {
        thread::yield_now();
    }
    let acknowledged = closer.shutdown(DEADLINE);
    let kind = first_error(server);
    over.store(true, Relaxed);
    // The rewriter may have left the word at CLIENT_ACTIVE with some of the crowd asleep.
    while crowd.iter().any(|waiter| !waiter.is_finished()) {
        let spinners = Spinners::with_limit(0);
        ClientEndpoint::new(intruder.window(), WaitPolicy::Park, &spinners)
            .closer()
            .shutdown(Duration::ZERO);
        thread::yield_now();
    }
    assert!(acknowledged);
    assert_eq!(kind, ErrorKind::Shutdown);
}

#[test]
fn a_window_that_could_fault_is_not_mapped() {
    let page = 4096;
    let sealed = |size: i64, seals| {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create(c"window", flags).unwrap();
        ftruncate(&fd, size).unwrap();
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        fd
    };
    let attempt = |fd, offset, length| {
        let error = PacketWindow::from_peer(fd, WindowDescriptor { offset, length }).unwrap_err();
        (error.kind(), error.errno())
    };
    let refused = (ErrorKind::Window, None);
    let shrink = SealFlag::F_SEAL_SHRINK;

    assert_eq!(
        attempt(sealed(1 << 20, SealFlag::F_SEAL_GROW), 0, page),
        refused
    );
    assert_eq!(
        attempt(sealed(1 << 20, SealFlag::empty()), 0, page),
        refused
    );
    assert_eq!(attempt(sealed(1 << 20, shrink), 1, page), refused);
    assert_eq!(attempt(sealed(1 << 20, shrink), 0, page - 1), refused);
    assert_eq!(attempt(sealed(1 << 20, shrink), 0, 0), refused);
    assert_eq!(attempt(sealed(1 << 20, shrink), 0, (1 << 20) + 1), refused);
    assert_eq!(attempt(sealed(1 << 20, shrink), 1 << 20, page), refused);
    assert_eq!(
        attempt(sealed(1 << 20, shrink), u64::MAX - 0xfff, page),
        refused
    );
    assert_eq!(attempt(sealed(1 << 33, shrink), 0, 1 << 32), refused);
    assert_eq!(attempt(sealed(0, shrink), 0, page), refused);
    // Nor is anything that is not a memfd.
    let (reader, _writer) = pipe().unwrap();
    assert_eq!(
        attempt(reader, 0, page),
        (ErrorKind::Io, Some(Errno::EINVAL))
    );
    let read_only = shrink | SealFlag::F_SEAL_WRITE;
    assert_eq!(
        attempt(sealed(1 << 20, read_only), 0, page),
        (ErrorKind::Io, Some(Errno::EPERM))
    );
}

/// The Go server cuts several windows from one file that may still grow.
#[test]
fn windows_carved_from_one_file_are_separate() {
    let page = 4096_usize;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(c"windows", flags).unwrap();
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    ftruncate(&fd, 4 * 4096).unwrap();
    let file = File::from(fd);
    let spinners = Spinners::with_limit(0);
    let closers: Vec<Closer> = [0, 4096]
        .into_iter()
        .map(|offset| {
            let descriptor = WindowDescriptor {
                offset,
                length: 4096,
            };
            let window =
                PacketWindow::from_peer(file.try_clone().unwrap().into(), descriptor).unwrap();
            assert_eq!(window.capacity(), page - 16);
            ClientEndpoint::new(window, WaitPolicy::Park, &spinners).closer()
        })
        .collect();
    drop(closers);
    let mut states = [0; 3];
    for (state, offset) in states.iter_mut().zip([0, 4096, 8192]) {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, offset).unwrap();
        *state = u32::from_ne_bytes(bytes);
    }
    assert_eq!(states, [SHUT_DOWN, SHUT_DOWN, 0]);
}

#[test]
fn a_client_that_never_takes_its_descriptors_cannot_block_the_server() {
    let (sender, undrained) = fd_channel(8).unwrap();
    let (gift, _writer) = pipe().unwrap();
    let queued = (0..100_000)
        .map_while(|_| {
            sender.send(gift.as_fd()).err().map_or(Some(()), |e| {
                assert_eq!(e, Errno::EAGAIN);
                None
            })
        })
        .count();
    assert_eq!(queued, 8);
    // What was queued is still in order and complete.
    let receiver = FdReceiver::from(undrained);
    for _ in 0..queued {
        assert!(receiver.recv().unwrap().is_some());
    }
    assert_eq!(receiver.recv().unwrap_err(), Errno::EAGAIN);
    sender.shutdown();
    assert!(receiver.recv().unwrap().is_none());
    drop(receiver);
    let error = sender.send(gift.as_fd()).unwrap_err();
    assert_eq!(error, Errno::EPIPE);
}

#[test]
fn a_client_that_takes_its_descriptors_never_misses_one() {
    let (sender, theirs) = fd_channel(8).unwrap();
    let receiver = FdReceiver::from(theirs);
    let (gift, _writer) = pipe().unwrap();
    for _ in 0..1000 {
        for _ in 0..2 {
            sender.send(gift.as_fd()).unwrap();
        }
        for _ in 0..2 {
            assert!(receiver.recv().unwrap().is_some());
        }
    }
}

#[test]
fn a_client_cannot_send_over_the_descriptor_channel() {
    let (_sender, theirs) = fd_channel(8).unwrap();
    let mut theirs = std::os::unix::net::UnixStream::from(theirs);
    let error = theirs.write(b"x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
}
