//! What the two ends agree upon in the handshake, and what they do to the window's flags.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use flipcall::{
    Active, ClientEndpoint, ErrorKind, PacketWindow, ServerEndpoint, Spinners, WaitPolicy,
    WaitStats, WindowDescriptor,
};
use lisafs_patience::eventually;

const DEADLINE: Duration = Duration::from_secs(20);
const CLIENT_ACTIVE: u32 = 0;
const SERVER_ACTIVE: u32 = 1;

/// A window through its file, for a peer that does everything by hand: it polls, and wakes nobody.
struct ByHand {
    file: File,
}

impl ByHand {
    fn new(window: &PacketWindow) -> ByHand {
        ByHand {
            file: window.try_clone_fd().unwrap().into(),
        }
    }

    fn word(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        u32::from_ne_bytes(bytes)
    }

    fn set_word(&self, offset: u64, value: u32) {
        let bytes = value.to_ne_bytes();
        self.file.write_all_at(&bytes, offset).unwrap();
    }

    /// Whether each flag is set: the client's, the server's.
    fn flags(&self) -> [bool; 2] {
        [8, 12].map(|offset| self.word(offset) != 0)
    }

    fn datagram(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.word(4).try_into().unwrap()];
        self.file.read_exact_at(&mut bytes, 16).unwrap();
        bytes
    }

    fn give(&self, datagram: &[u8], to: u32) {
        self.file.write_all_at(datagram, 16).unwrap();
        self.set_word(4, datagram.len().try_into().unwrap());
        self.set_word(0, to);
    }

    fn await_turn(&self, mine: u32) {
        eventually("its turn comes", || self.word(0) == mine);
    }
}

/// An end that notices by itself what is done by hand.
fn polling() -> (WaitPolicy, Spinners) {
    (WaitPolicy::Spin(DEADLINE), Spinners::with_limit(1))
}

#[test]
fn a_server_answers_what_it_was_asked_and_no_more() {
    for (offer, answer) in [
        (&b"{}\n"[..], &b"{}\n"[..]),
        (b"null", b"{}\n"),
        (b"{\"parking\":0}", b"{}\n"),
        (b"{\"parking\":1}\n", b"{\"parking\":1}\n"),
        (b"{\"parking\":9,\"more\":[]}", b"{\"parking\":1}\n"),
        (b"{\"parking\":\"1\"}", b"{}\n"),
    ] {
        let window = PacketWindow::create(100).unwrap();
        let client = ByHand::new(&window);
        let (policy, spinners) = polling();
        let server = ServerEndpoint::new(window, policy, &spinners);
        let closer = server.closer();
        let server = thread::spawn(move || server.recv_first());
        client.give(offer, SERVER_ACTIVE);
        client.await_turn(CLIENT_ACTIVE);
        assert_eq!(client.datagram(), answer);
        closer.shutdown(DEADLINE);
        assert!(server.join().unwrap().is_err());
    }
}

#[test]
fn a_client_offers_and_believes_a_server_that_says_nothing() {
    for (answer, agreed) in [
        (&b"{}\n"[..], Ok(false)),
        (b"{\"parking\":0}", Ok(false)),
        (b"{\"parking\":1}", Ok(true)),
        (b"{\"parking\":2}", Err(ErrorKind::Handshake)),
    ] {
        let window = PacketWindow::create(100).unwrap();
        let server = ByHand::new(&window);
        let (policy, spinners) = polling();
        let client = ClientEndpoint::new(window, policy, &spinners);
        let client = thread::spawn(move || -> Result<WaitStats, ErrorKind> {
            let mut active = client.connect().map_err(|error| error.kind())?;
            active.send_recv(1).map_err(|error| error.kind())?;
            Ok(active.wait_stats())
        });
        server.await_turn(SERVER_ACTIVE);
        assert_eq!(server.datagram(), b"{\"parking\":1}\n");
        server.give(answer, CLIENT_ACTIVE);
        if agreed.is_ok() {
            server.await_turn(SERVER_ACTIVE);
            server.give(b"x", CLIENT_ACTIVE);
        }
        // The handshake wakes always; then the server's flag says that it is awake.
        let wakes = client.join().unwrap().map(|waits| {
            assert_eq!(waits.wakes + waits.elided_wakes, 2);
            waits.wakes == 1
        });
        assert_eq!(wakes, agreed);
        assert_eq!(server.flags(), [false, false], "nobody slept");
    }
}

fn pair(policy: WaitPolicy) -> (ByHand, ClientEndpoint, ServerEndpoint) {
    let window = PacketWindow::create(100).unwrap();
    let hand = ByHand::new(&window);
    let length = hand.file.metadata().unwrap().len();
    let fd = OwnedFd::from(hand.file.try_clone().unwrap());
    let theirs = PacketWindow::from_peer(fd, WindowDescriptor { offset: 0, length }).unwrap();
    let spinners = Spinners::with_limit(0);
    let client = ClientEndpoint::new(theirs, policy, &spinners);
    (hand, client, ServerEndpoint::new(window, policy, &spinners))
}

/// Answers every request with itself until the client has gone.
fn echo(server: ServerEndpoint) -> WaitStats {
    let closer = server.closer();
    let (mut active, mut len) = server.recv_first().unwrap();
    while let Ok(next) = active.send_recv(len) {
        len = next;
    }
    closer.wait_stats()
}

#[test]
fn sides_that_sleep_say_so_and_are_woken() {
    let (hand, client, server) = pair(WaitPolicy::Park);
    let server = thread::spawn(move || echo(server));
    let mut active: Active = client.connect().unwrap();
    for _ in 0..100 {
        eventually("the server sleeps", || hand.flags() == [false, true]);
        assert_eq!(active.send_recv(7).unwrap(), 7);
        assert_eq!(hand.word(8), 0, "the client is awake");
    }
    let waits = active.wait_stats();
    // Each found the server asleep.
    assert_eq!((waits.wakes, waits.elided_wakes), (101, 0));
    drop(active);
    let waits = server.join().unwrap();
    assert_eq!(waits.wakes + waits.elided_wakes, 101);
    assert_eq!(hand.flags(), [false, false], "nobody sleeps any more");
}

#[test]
fn every_policy_gets_every_answer() {
    for policy in ["park", "adaptive", "spin=1", "spin=100"] {
        let (_, client, server) = pair(policy.parse().unwrap());
        let server = thread::spawn(move || echo(server));
        let mut active = client.connect().unwrap();
        for round in 0..5_000_u32 {
            active.payload().copy_from(0, &round.to_ne_bytes()).unwrap();
            assert_eq!(active.send_recv(4).unwrap(), 4);
        }
        let waits = active.wait_stats();
        assert_eq!(waits.wakes + waits.elided_wakes, 5_001);
        assert_eq!(waits.parks + waits.spin_hits, 5_001);
        drop(active);
        server.join().unwrap();
    }
}

#[test]
fn a_stale_flag_costs_one_wake() {
    let window = PacketWindow::create(100).unwrap();
    let server = ByHand::new(&window);
    let (policy, spinners) = polling();
    let client = ClientEndpoint::new(window, policy, &spinners);
    let client = thread::spawn(move || {
        let mut active = client.connect().unwrap();
        active.send_recv(1).unwrap();
        active.send_recv(1).unwrap();
        active.wait_stats()
    });
    server.await_turn(SERVER_ACTIVE);
    server.set_word(12, 77);
    server.give(b"{\"parking\":1}", CLIENT_ACTIVE);
    server.await_turn(SERVER_ACTIVE);
    server.set_word(12, 0);
    server.give(b"x", CLIENT_ACTIVE);
    server.await_turn(SERVER_ACTIVE);
    server.give(b"x", CLIENT_ACTIVE);
    let waits = client.join().unwrap();
    assert_eq!((waits.wakes, waits.elided_wakes), (2, 1));
}
