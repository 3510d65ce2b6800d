//! Frames from a peer that lies about lengths, stops half-way, or sends descriptors nobody asked
//! for.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread;

use flipcall::{
    Error, ErrorKind, FrameBuffer, FrameSocket, PacketWindow, Received, SendError, SharedBytes,
};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::pipe;

const MAX: u32 = 1000;

fn pair() -> (FrameSocket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (FrameSocket::from(ours), theirs)
}

fn header(len: u32, mid: u16) -> [u8; 8] {
    let mut header = [0xff; 8];
    header[..4].copy_from_slice(&len.to_ne_bytes());
    header[4..6].copy_from_slice(&mid.to_ne_bytes());
    header
}

fn recv(socket: &FrameSocket, body: &mut FrameBuffer) -> Result<Received, Error> {
    let mut fds = Vec::new();
    let received = socket.recv(body, MAX, &mut fds, 0);
    assert!(fds.is_empty());
    received
}

/// Sends `bytes`, then the end of the file, and returns what the receiver makes of it.
fn recv_all_of(bytes: &[u8]) -> Result<Received, Error> {
    let (socket, mut peer) = pair();
    peer.write_all(bytes).unwrap();
    drop(peer);
    recv(&socket, &mut FrameBuffer::new())
}

#[test]
fn a_frame_is_received_whatever_its_padding_and_pieces() {
    let (socket, mut peer) = pair();
    let sender = thread::spawn(move || {
        for byte in header(3, 7).iter().chain(b"abc") {
            peer.write_all(&[*byte]).unwrap();
            thread::yield_now();
        }
    });
    let mut body = FrameBuffer::new();
    assert_eq!(
        recv(&socket, &mut body).unwrap(),
        Received::Frame { mid: 7, len: 3 }
    );
    assert_eq!(body.as_slice(), b"abc");
    sender.join().unwrap();
    assert_eq!(recv(&socket, &mut body).unwrap(), Received::Closed);
    assert!(
        body.as_slice().is_empty(),
        "the last payload is still there"
    );
}

#[test]
fn the_bytes_on_the_wire_are_header_and_payload() {
    let (socket, mut peer) = pair();
    socket
        .send(0x0102, SharedBytes::from(&mut b"xyz".to_owned()[..]), &[])
        .unwrap();
    socket.send(1, SharedBytes::from(&mut [][..]), &[]).unwrap();
    drop(socket);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"\x03\0\0\0\x02\x01\0\0xyz\0\0\0\0\x01\0\0\0");
}

#[test]
fn an_end_inside_a_frame_is_an_error_and_between_frames_is_not() {
    assert_eq!(recv_all_of(b"").unwrap(), Received::Closed);
    let frame = [&header(4, 1)[..], b"abcd"].concat();
    for len in 1..frame.len() {
        let error = recv_all_of(&frame[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "after {len} bytes");
    }
    assert_eq!(
        recv_all_of(&frame).unwrap(),
        Received::Frame { mid: 1, len: 4 }
    );
    let too_long = [&header(MAX + 1, 1)[..], &[0; 1000]].concat();
    assert_eq!(
        recv_all_of(&too_long).unwrap_err().kind(),
        ErrorKind::Protocol
    );
}

#[test]
fn a_frame_up_to_twice_the_limit_is_skipped() {
    let (socket, mut peer) = pair();
    let mut body = FrameBuffer::new();
    for len in [MAX + 1, 2 * MAX] {
        peer.write_all(&header(len, 5)).unwrap();
        peer.write_all(&vec![0xee; len as usize]).unwrap();
        peer.write_all(&header(2, 6)).unwrap();
        peer.write_all(b"ok").unwrap();
        assert_eq!(
            recv(&socket, &mut body).unwrap(),
            Received::TooLong { mid: 5, len }
        );
        assert!(body.as_slice().is_empty());
        assert_eq!(
            recv(&socket, &mut body).unwrap(),
            Received::Frame { mid: 6, len: 2 }
        );
        assert_eq!(body.as_slice(), b"ok");
    }
}

/// Frames larger than a socket's buffer, so that both ends work in pieces.
#[test]
fn long_frames_survive_partial_writes() {
    const LEN: usize = 3 << 20;
    for non_blocking in [false, true] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(non_blocking).unwrap();
        theirs.set_nonblocking(non_blocking).unwrap();
        let (ours, theirs) = (FrameSocket::from(ours), FrameSocket::from(theirs));
        let window = PacketWindow::create(1).unwrap();
        let payload = |i: usize| (i ^ (i >> 8) ^ (i >> 16)) as u8;
        let sender = thread::spawn(move || {
            let mut bytes: Vec<u8> = (0..LEN).map(payload).collect();
            ours.send(9, SharedBytes::from(&mut bytes[..]), &[window.as_fd()])
                .unwrap();
            ours.send(10, SharedBytes::from(&mut bytes[..1]), &[])
                .unwrap();
        });
        let (mut body, mut fds) = (FrameBuffer::new(), Vec::new());
        let received = theirs.recv(&mut body, LEN as u32, &mut fds, 1).unwrap();
        assert_eq!(
            received,
            Received::Frame {
                mid: 9,
                len: LEN as u32
            }
        );
        assert!(
            body.as_slice()
                .iter()
                .enumerate()
                .all(|(i, byte)| *byte == payload(i))
        );
        assert_eq!(fds.len(), 1);
        let mut first = [0; 1];
        body.as_shared().copy_to(1, &mut first).unwrap();
        assert_eq!(first, [payload(1)]);
        let received = theirs.recv(&mut body, 1, &mut fds, 0).unwrap();
        assert_eq!(received, Received::Frame { mid: 10, len: 1 });
        sender.join().unwrap();
    }
}

/// Sends a frame with `count` descriptors and receives it wanting `want`. Returns how many arrived,
/// after making sure that no other is left open in this process.
fn pass_fds(count: usize, want: usize) -> usize {
    let (socket, peer) = pair();
    let peer = FrameSocket::from(peer);
    let (mut reader, writer) = pipe().map(|(r, w)| (File::from(r), w)).unwrap();
    let gifts: Vec<BorrowedFd<'_>> = vec![writer.as_fd(); count];
    peer.send(3, SharedBytes::from(&mut b"hi".to_owned()[..]), &gifts)
        .unwrap();
    drop(writer);

    let (mut body, mut fds) = (FrameBuffer::new(), Vec::new());
    let received = socket.recv(&mut body, MAX, &mut fds, want).unwrap();
    assert_eq!(received, Received::Frame { mid: 3, len: 2 });
    assert_eq!(body.as_slice(), b"hi");
    for fd in &fds {
        let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }
    let arrived = fds.len();
    drop(fds);
    // The end of the pipe's file comes only if nobody has a writer: a leak would block here for
    // ever, so do not wait for it.
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    fcntl(&reader, FcntlArg::F_SETFL(flags)).unwrap();
    assert_eq!(reader.read(&mut [0; 1]).expect("a descriptor leaked"), 0);
    arrived
}

#[test]
fn descriptors_that_nobody_wants_do_not_stay() {
    assert_eq!(pass_fds(0, 0), 0);
    assert_eq!(pass_fds(1, 0), 0);
    assert_eq!(pass_fds(16, 0), 0);
    assert_eq!(pass_fds(2, 2), 2);
    assert_eq!(pass_fds(2, 1), 1);
    assert_eq!(pass_fds(16, 3), 3);
    assert_eq!(pass_fds(1, 2), 1);
    assert_eq!(pass_fds(0, 2), 0);
    assert_eq!(pass_fds(16, 16), 16);
}

#[test]
fn what_was_not_sent_can_be_sent_otherwise() {
    let (socket, _peer) = pair();
    let fd = io::stdin();
    let error = socket
        .send(1, SharedBytes::from(&mut [][..]), &[fd.as_fd(); 17])
        .unwrap_err();
    assert!(
        matches!(error, SendError::Unsent(Errno::EINVAL)),
        "{error:?}"
    );
    socket.send(1, SharedBytes::from(&mut [][..]), &[]).unwrap();
    let error = socket
        .recv(&mut FrameBuffer::new(), MAX, &mut Vec::new(), 17)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn refused_descriptors_do_not_break_the_socket() {
    let (socket, peer) = pair();
    let peer = FrameSocket::from(peer);
    socket.refuse_descriptors().unwrap();
    let window = PacketWindow::create(1).unwrap();
    match peer.send(1, SharedBytes::from(&mut [][..]), &[window.as_fd()]) {
        Err(SendError::Unsent(errno)) => {
            assert_eq!(errno, Errno::EPERM);
            peer.send(1, SharedBytes::from(&mut [][..]), &[]).unwrap();
        }
        // Before Linux 6.16 they travel, and are dropped on receipt.
        Ok(()) => {}
        Err(error) => panic!("{error:?}"),
    }
    let received = recv(&socket, &mut FrameBuffer::new()).unwrap();
    assert_eq!(received, Received::Frame { mid: 1, len: 0 });
}

/// What was not received is gone although the socket is not closed, however it was sent and whether
/// the peer is still there or not.
#[test]
fn nothing_is_left_in_a_socket_that_was_discarded() {
    let oob = MsgFlags::MSG_OOB;
    let none = MsgFlags::empty();
    for sent in [
        &[none][..],
        &[oob],
        &[none, oob],
        &[oob, none],
        &[oob, oob, none],
        &[none, oob, none],
    ] {
        for peer_is_there in [true, false] {
            let (socket, peer) = pair();
            let mut writers = Vec::new();
            for flags in sent {
                let (reader, writer) = pipe().unwrap();
                let fds = [reader.as_raw_fd()];
                let gift = [ControlMessage::ScmRights(&fds)];
                let byte = [IoSlice::new(b"x")];
                sendmsg::<()>(peer.as_raw_fd(), &byte, &gift, *flags, None).unwrap();
                writers.push(writer);
            }
            let peer = Some(peer).filter(|_| peer_is_there);
            socket.discard();
            for writer in writers {
                assert_eq!(
                    nix::unistd::write(&writer, b"x"),
                    Err(Errno::EPIPE),
                    "{sent:?}"
                );
            }
            if let Some(mut peer) = peer {
                let error = peer.write_all(b"x").unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            }
        }
    }
}

#[test]
fn a_vanished_peer_is_an_error_and_not_a_signal() {
    let (socket, peer) = pair();
    drop(peer);
    let error = socket
        .send(1, SharedBytes::from(&mut [][..]), &[])
        .unwrap_err();
    let SendError::Broken(error) = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.errno(), Some(Errno::EPIPE));
}

#[test]
fn only_stream_sockets_are_taken_over() {
    let (datagrams, _other) = UnixDatagram::pair().unwrap();
    let error = FrameSocket::from_fd(OwnedFd::from(datagrams)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let (reader, _writer) = pipe().unwrap();
    let error = FrameSocket::from_fd(reader).unwrap_err();
    assert_eq!(
        (error.kind(), error.errno()),
        (ErrorKind::Io, Some(Errno::ENOTSOCK))
    );
    let (stream, _other) = UnixStream::pair().unwrap();
    fcntl(&stream, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let socket = FrameSocket::from_fd(OwnedFd::from(stream)).unwrap();
    let flags = FdFlag::from_bits_retain(fcntl(socket.as_fd(), FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
}
