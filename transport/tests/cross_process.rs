//! Both ends of a channel in two processes: this binary starts itself again as the peer.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::env;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flipcall::{
    Active, ClientEndpoint, ErrorKind, FdReceiver, FrameBuffer, FrameSocket, PacketWindow,
    Received, ServerEndpoint, SharedBytes, Spinners, WaitPolicy, WaitStats, WindowDescriptor,
    fd_channel,
};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Tells a process that it is the peer, and which part to play under which policy.
const PART: &str = "FLIPCALL_TEST_PART";
const POLICY: &str = "FLIPCALL_TEST_POLICY";

const CAPACITY: usize = 40_000;
const DEADLINE: Duration = Duration::from_secs(20);
const MID_WINDOW: u16 = 2;

/// First byte of a request.
const INVERT: u8 = b'i';
const DONATE: u8 = b'd';
const HANG: u8 = b'h';
const SHUT_DOWN: u8 = b's';
const QUIT: u8 = b'q';

fn main() -> ExitCode {
    match env::var(PART) {
        Ok(part) => {
            let policy = env::var(POLICY).unwrap().parse().unwrap();
            let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
            let socket = FrameSocket::from_fd(socket).unwrap();
            match part.as_str() {
                "client" => client(&socket, policy),
                "server" => server(&socket, policy),
                _ => unreachable!("no part {part}"),
            }
            ExitCode::SUCCESS
        }
        Err(_) => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for part in ["client", "server"] {
        for theirs in ["park", "spin=20", "adaptive"] {
            for ours in ["park", "spin=20", "adaptive"] {
                let name = format!("the {part} process waits by {theirs} and we by {ours}");
                trials.push(Trial::test(name, move || exchange(part, theirs, ours)));
            }
        }
    }
    trials.push(Trial::test(
        "a shutdown reaches the other process",
        shutdown_is_seen,
    ));
    trials.push(Trial::test(
        "a killed server is noticed on the socket",
        killed_server,
    ));
    trials
}

/// A whole conversation, with the named part in the other process.
fn exchange(part: &'static str, theirs: &str, ours: &str) -> Result<(), Failed> {
    let (mut peer, socket) = Peer::start(part, theirs);
    match part {
        "server" => client(&socket, ours.parse()?),
        _ => server(&socket, ours.parse()?),
    }
    peer.expect_success();
    Ok(())
}

fn shutdown_is_seen() -> Result<(), Failed> {
    let (mut peer, socket) = Peer::start("server", "park");
    let (mut channel, _) = connect(&socket, WaitPolicy::Park);
    channel.payload().copy_from(0, &[SHUT_DOWN])?;
    assert_eq!(
        channel.send_recv(1).unwrap_err().kind(),
        ErrorKind::Shutdown
    );
    assert!(
        channel.payload().is_empty(),
        "a dead window can still be written"
    );
    peer.expect_success();
    Ok(())
}

/// A dead peer leaves the word as it was: the socket tells, and a `Closer` acts on it.
fn killed_server() -> Result<(), Failed> {
    let (mut peer, socket) = Peer::start("server", "park");
    let (mut channel, _) = connect(&socket, WaitPolicy::Park);
    let closer = channel.closer();
    let request = thread::spawn(move || {
        channel.payload().copy_from(0, &[HANG]).unwrap();
        channel.send_recv(1).map_err(|error| error.kind())
    });
    // It says so when it has taken the request.
    expect_frame(&socket, u16::from(HANG));
    peer.process.kill()?;
    peer.process.wait()?;
    let end = socket.recv(&mut FrameBuffer::new(), 16, &mut Vec::new(), 0)?;
    assert_eq!(end, Received::Closed);
    assert!(!request.is_finished());
    assert!(closer.shutdown(DEADLINE));
    assert_eq!(request.join().unwrap(), Err(ErrorKind::Shutdown));
    Ok(())
}

/// Makes a channel, sends it over `socket`, and answers until asked to stop.
fn server(socket: &FrameSocket, policy: WaitPolicy) {
    let window = PacketWindow::create(CAPACITY).unwrap();
    let (sender, receiver) = fd_channel(8).unwrap();
    let descriptor = window.descriptor();
    let mut body = [
        descriptor.offset.to_ne_bytes(),
        descriptor.length.to_ne_bytes(),
    ]
    .concat();
    let fds = [window.as_fd(), receiver.as_fd()];
    socket
        .send(MID_WINDOW, SharedBytes::from(&mut body[..]), &fds)
        .unwrap();
    drop(receiver);

    let endpoint = ServerEndpoint::new(window, policy, &Spinners::with_limit(1));
    let (mut channel, mut len) = endpoint.recv_first().unwrap();
    loop {
        let mut request = vec![0; len];
        channel.payload().copy_to(0, &mut request).unwrap();
        let (op, data) = request.split_first_mut().unwrap();
        match *op {
            INVERT => data.iter_mut().for_each(|byte| *byte = !*byte),
            DONATE => {
                for byte in data.iter() {
                    sender.send(file_with(&[*byte]).as_fd()).unwrap();
                }
            }
            HANG => {
                socket
                    .send(u16::from(HANG), SharedBytes::from(&mut [][..]), &[])
                    .unwrap();
                thread::sleep(DEADLINE);
                panic!("nobody killed the server");
            }
            SHUT_DOWN => {
                assert!(channel.closer().shutdown(DEADLINE));
                assert_eq!(
                    channel.send_recv(len).unwrap_err().kind(),
                    ErrorKind::Shutdown
                );
                return;
            }
            QUIT => {
                channel.send_last(len).unwrap();
                assert!(
                    channel.payload().is_empty(),
                    "a window given away can be written"
                );
                return;
            }
            _ => unreachable!("no request {op}"),
        }
        channel.payload().copy_from(0, &request).unwrap();
        len = channel.send_recv(len).unwrap();
    }
}

/// Receives a channel over `socket`, and uses it in every way.
fn client(socket: &FrameSocket, policy: WaitPolicy) {
    let (mut channel, fds) = connect(socket, policy);
    let lengths = [1, 2, 3, 8, 9, 64, 255, 4096, 4097, channel.capacity()];
    for (round, len) in lengths.into_iter().chain([17; 500]).enumerate() {
        let data: Vec<u8> = (0..len - 1).map(|i| (i * 7 + round) as u8).collect();
        let reply = ask(&mut channel, INVERT, &data);
        assert!(
            reply
                .iter()
                .zip(&data)
                .all(|(reply, data)| *reply == !*data),
            "round {round}"
        );
    }

    assert_eq!(ask(&mut channel, DONATE, b"xyz"), b"xyz");
    for expected in b"xyz" {
        let fd = fds
            .recv()
            .unwrap()
            .expect("a descriptor came with the reply");
        let flags = FdFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
        assert_eq!(contents(fd), [*expected]);
    }
    assert_eq!(fds.recv().unwrap_err(), Errno::EAGAIN);

    let given = |stats: WaitStats| stats.wakes + stats.elided_wakes;
    let before = given(channel.wait_stats());
    assert_eq!(ask(&mut channel, QUIT, b""), b"");
    assert_eq!(given(channel.wait_stats()), before + 1);
}

fn ask(channel: &mut Active, op: u8, data: &[u8]) -> Vec<u8> {
    channel.payload().copy_from(0, &[op]).unwrap();
    channel.payload().copy_from(1, data).unwrap();
    let len = channel.send_recv(1 + data.len()).unwrap();
    assert_eq!(len, 1 + data.len());
    let mut reply = vec![0; data.len()];
    channel.payload().copy_to(1, &mut reply).unwrap();
    reply
}

fn connect(socket: &FrameSocket, policy: WaitPolicy) -> (Active, FdReceiver) {
    let mut fds = Vec::new();
    let mut body = FrameBuffer::new();
    let received = socket.recv(&mut body, 64, &mut fds, 2).unwrap();
    assert_eq!(
        received,
        Received::Frame {
            mid: MID_WINDOW,
            len: 16
        }
    );
    let (offset, length) = body.as_slice().split_at(8);
    let descriptor = WindowDescriptor {
        offset: u64::from_ne_bytes(offset.try_into().unwrap()),
        length: u64::from_ne_bytes(length.try_into().unwrap()),
    };
    let [memfd, receiver] = <[OwnedFd; 2]>::try_from(fds).unwrap();
    let window = PacketWindow::from_peer(memfd, descriptor).unwrap();
    let endpoint = ClientEndpoint::new(window, policy, &Spinners::with_limit(1));
    (endpoint.connect().unwrap(), FdReceiver::from(receiver))
}

fn expect_frame(socket: &FrameSocket, mid: u16) {
    let received = socket
        .recv(&mut FrameBuffer::new(), 16, &mut Vec::new(), 0)
        .unwrap();
    assert_eq!(received, Received::Frame { mid, len: 0 });
}

fn file_with(bytes: &[u8]) -> OwnedFd {
    let mut file = File::from(memfd_create(c"donated", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    file.into()
}

fn contents(fd: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = File::from(fd);
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The other process; does not outlive the test, however that ends.
struct Peer {
    process: Child,
}

impl Peer {
    fn start(part: &str, policy: &str) -> (Peer, FrameSocket) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = Command::new(env::current_exe().unwrap())
            .env(PART, part)
            .env(POLICY, policy)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        (Peer { process }, FrameSocket::from(ours))
    }

    fn expect_success(&mut self) {
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            if let Some(status) = self.process.try_wait().unwrap() {
                assert!(status.success(), "the peer failed: {status}");
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("the peer did not end");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail if it has ended already, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
