//! The communicators, one request at a time.

use std::os::fd::AsFd;

use flipcall::{Spinners, WaitPolicy};
use lisafs::Errno;
use lisafs::client::{Channel, Communicator, Error, FailureKind, Reply, Socket};
use lisafs::wire::{
    ChannelReq, FdId, Mid, OpenAtReq, OpenAtResp, PReadResp, PWriteResp, StatReq, Statx,
};

use crate::fake::{self, LIMIT, datagram, encode, error, serve, watched};

fn stat_request() -> StatReq {
    StatReq { fd: FdId(7) }
}

fn kind(error: &Error) -> Option<FailureKind> {
    match error {
        Error::Failed(failure) => Some(failure.kind()),
        _ => None,
    }
}

/// What one FStat over a socket makes of `answer`, and of a proper one after it.
fn stat_over_socket(answer: impl FnOnce(&mut fake::Fake) + Send + 'static) -> Error {
    let (stream, server) = serve(move |mut server| {
        assert_eq!(server.expect(Mid::FSTAT), encode(&stat_request()));
        answer(&mut server);
        if let Some((mid, _)) = server.next() {
            server.reply(mid, &Statx::default());
        }
    });
    let mut socket = Socket::from(stream);
    let mut reply = Reply::new();
    let error = socket.call(&stat_request(), &mut reply).unwrap_err();
    assert!(reply.fds().is_empty());
    let usable = matches!(
        kind(&error),
        None | Some(FailureKind::Malformed | FailureKind::Unexpected(_))
    );
    let next = socket.call(&stat_request(), &mut reply);
    assert_eq!(next.is_ok(), usable, "{error:?}, then {next:?}");
    drop(socket);
    server.join().unwrap();
    error
}

/// The same over a channel.
fn stat_over_channel(answer: Vec<u8>) -> Error {
    let (channel, server) = channel(move |mut channel| {
        channel.first();
        assert_eq!(
            channel.answer(&answer),
            Some((Mid::FSTAT, encode(&stat_request())))
        );
        channel.reply(Mid::FSTAT, &Statx::default());
    });
    let mut channel = channel;
    let mut reply = Reply::new();
    let error = channel.call(&stat_request(), &mut reply).unwrap_err();
    assert!(reply.fds().is_empty());
    channel.call(&stat_request(), &mut reply).unwrap();
    drop(channel);
    server.join().unwrap();
    error
}

/// A channel whose other end runs `script`.
fn channel<T: Send + 'static>(
    script: impl FnOnce(fake::FakeChannel) -> T + Send + 'static,
) -> (Channel, std::thread::JoinHandle<T>) {
    let (stream, server) = serve(move |mut server| {
        server.mount();
        server.channel(script)
    });
    let mut socket = Socket::from(stream);
    socket.mount().unwrap();
    let channel = socket
        .open_channel(WaitPolicy::Park, &Spinners::new())
        .unwrap();
    (channel, server.join().unwrap())
}

#[test]
fn the_servers_errno_is_the_error() {
    let error = stat_over_socket(|server| server.error(Errno::ESTALE));
    assert!(matches!(error, Error::Remote(Errno::ESTALE)), "{error:?}");
    let body = encode(&fake::error(Errno::ESTALE));
    let error = stat_over_channel(datagram(Mid::ERROR, 0, &body));
    assert!(matches!(error, Error::Remote(Errno::ESTALE)), "{error:?}");
}

#[test]
fn a_server_without_a_limit_is_held_to_ours() {
    const OURS: u32 = 16 << 20;
    let (stream, server) = serve(|mut server| {
        server.expect(Mid::MOUNT);
        let mids = fake::all_mids();
        let mut mount = fake::mount(&mids);
        mount.max_message_size = u32::MAX;
        server.reply(Mid::MOUNT, &mount);
        for len in [OURS + 1, OURS] {
            server.expect(Mid::FSTAT);
            server.reply_with(Mid::FSTAT, &vec![0; len as usize], &[]);
        }
    });
    let mut socket = Socket::from(stream);
    assert_eq!(socket.mount().unwrap().max_message_size, OURS);
    assert_eq!(socket.max_message_size(), OURS);
    let mut reply = Reply::new();
    let error = socket.call(&stat_request(), &mut reply).unwrap_err();
    assert_eq!(kind(&error), Some(FailureKind::Malformed));
    socket.call(&stat_request(), &mut reply).unwrap();
    server.join().unwrap();
}

#[test]
fn an_error_reply_without_an_errno_is_eio() {
    for body in [&b""[..], b"\x02", b"\x02\0\0"] {
        let error = stat_over_socket(move |server| server.reply_with(Mid::ERROR, body, &[]));
        assert_eq!(kind(&error), Some(FailureKind::Malformed));
        assert_eq!(error.errno(), Errno::EIO);
        let error = stat_over_channel(datagram(Mid::ERROR, 0, body));
        assert_eq!(kind(&error), Some(FailureKind::Malformed));
    }
}

#[test]
fn an_errno_that_is_none_is_eio() {
    for number in [0u32, 4096, u32::MAX] {
        let error = stat_over_socket(move |server| server.reply(Mid::ERROR, &number));
        assert!(matches!(error, Error::Remote(Errno::EIO)), "{error:?}");
    }
}

#[test]
fn a_reply_to_another_message_is_einval() {
    for mid in [Mid::WALK, Mid(999)] {
        let error = stat_over_socket(move |server| server.reply(mid, &Statx::default()));
        assert_eq!(kind(&error), Some(FailureKind::Unexpected(mid)));
        assert_eq!(error.errno(), Errno::EINVAL);
        let error = stat_over_channel(datagram(mid, 0, &encode(&Statx::default())));
        assert_eq!(kind(&error), Some(FailureKind::Unexpected(mid)));
    }
}

#[test]
fn a_short_reply_is_eio() {
    let error = stat_over_socket(|server| server.reply_with(Mid::FSTAT, &[0; 143], &[]));
    assert_eq!(error.errno(), Errno::EIO);
    let error = stat_over_channel(datagram(Mid::FSTAT, 0, &[0; 143]));
    assert_eq!(error.errno(), Errno::EIO);
}

#[test]
fn a_datagram_without_a_header_is_eio() {
    for len in 0..4 {
        let error = stat_over_channel(vec![0; len]);
        assert_eq!(kind(&error), Some(FailureKind::Malformed));
        assert_eq!(error.errno(), Errno::EIO);
    }
}

#[test]
fn a_reply_above_the_limit_is_eio() {
    let over = vec![0; LIMIT as usize + 1];
    let error = stat_over_channel(datagram(Mid::FSTAT, 0, &over));
    assert_eq!(kind(&error), Some(FailureKind::Malformed));

    // Before Mount the limit is 1 MiB; a frame up to twice as long is skipped.
    let error = stat_over_socket(|server| {
        server.reply_with(Mid::FSTAT, &vec![0; (1 << 20) + 1], &[]);
    });
    assert_eq!(kind(&error), Some(FailureKind::Malformed));
    let error = stat_over_socket(|server| {
        server.write(&[0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0]);
    });
    assert_eq!(kind(&error), Some(FailureKind::Transport));
    assert_eq!(error.errno(), Errno::EIO);
}

#[test]
fn a_server_that_leaves_inside_a_reply_is_eio() {
    for cut in [1, 8, 100] {
        let (stream, server) = serve(move |mut server| {
            server.expect(Mid::PREAD);
            let mut frame = vec![108, 0, 0, 0, 12, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0];
            frame.resize(116, b'x');
            frame.truncate(cut);
            server.write(&frame);
        });
        let mut socket = Socket::from(stream);
        let mut buf = [0; 100];
        let read = socket.pread(FdId(1), 0, &mut buf, &mut Reply::new());
        assert_eq!(read.unwrap_err().errno(), Errno::EIO, "cut after {cut}");
        server.join().unwrap();
    }
}

#[test]
fn data_goes_both_ways() {
    let written: Vec<u8> = (0..5000u32).map(|i| i.to_le_bytes()[0]).collect();
    let mut fixed = Vec::new();
    fixed.extend(9u64.to_le_bytes());
    fixed.extend(3u64.to_le_bytes());
    fixed.extend(5000u32.to_le_bytes());
    let request = [&fixed[..], &written].concat();
    let count = encode(&PWriteResp { count: 5000 });
    let mut data = 5000u64.to_le_bytes().to_vec();
    data.extend(&written);

    let (want, answers) = (request.clone(), [count.clone(), data.clone()]);
    let (stream, server) = serve(move |mut server| {
        assert_eq!(server.expect(Mid::PWRITE), want);
        server.reply_with(Mid::PWRITE, &answers[0], &[]);
        server.expect(Mid::PREAD);
        server.reply_with(Mid::PREAD, &answers[1], &[]);
    });
    round_trip(&mut Socket::from(stream), &written);
    server.join().unwrap();

    let (mut channel, server) = channel(move |mut channel| {
        assert_eq!(channel.first(), Some((Mid::PWRITE, request)));
        let (mid, _) = channel.answer(&datagram(Mid::PWRITE, 0, &count)).unwrap();
        assert_eq!(mid, Mid::PREAD);
        channel.answer(&datagram(Mid::PREAD, 0, &data));
    });
    round_trip(&mut channel, &written);
    drop(channel);
    server.join().unwrap();
}

fn round_trip(on: &mut impl Communicator, data: &[u8]) {
    let mut reply = Reply::new();
    assert_eq!(on.pwrite(FdId(3), 9, data, &mut reply).unwrap(), 5000);
    let mut buf = vec![0; 6000];
    assert_eq!(on.pread(FdId(3), 9, &mut buf, &mut reply).unwrap(), 5000);
    assert_eq!(&buf[..5000], data);
}

#[test]
fn counts_that_cannot_be_are_eio() {
    let long = PReadResp {
        data: lisafs::wire::LongBytes(&[1; 11]),
    };
    let long = encode(&long);
    let mut lie = 8u64.to_le_bytes().to_vec();
    lie.extend(b"1234567");
    let huge = u64::MAX.to_le_bytes().to_vec();
    for body in [long, lie, huge, vec![0; 7]] {
        let answer = body.clone();
        let (stream, server) = serve(move |mut server| {
            server.expect(Mid::PREAD);
            server.reply_with(Mid::PREAD, &answer, &[]);
        });
        let read = Socket::from(stream).pread(FdId(1), 0, &mut [0; 10], &mut Reply::new());
        assert_eq!(read.unwrap_err().errno(), Errno::EIO, "{body:?}");
        server.join().unwrap();

        let (mut channel, server) = channel(move |mut channel| {
            channel.first();
            channel.answer(&datagram(Mid::PREAD, 0, &body));
        });
        let read = channel.pread(FdId(1), 0, &mut [0; 10], &mut Reply::new());
        assert_eq!(read.unwrap_err().errno(), Errno::EIO);
        drop(channel);
        server.join().unwrap();
    }

    let (mut channel, server) = channel(|mut channel| {
        channel.first();
        channel.reply(Mid::PWRITE, &PWriteResp { count: 4 });
    });
    let written = channel.pwrite(FdId(1), 0, b"123", &mut Reply::new());
    assert_eq!(written.unwrap_err().errno(), Errno::EIO);
    drop(channel);
    server.join().unwrap();
}

#[test]
fn a_request_above_the_limit_is_not_sent() {
    let (stream, server) = serve(|mut server| server.next());
    let data = vec![0; (1 << 20) - 19];
    let written = Socket::from(stream).pwrite(FdId(1), 0, &data, &mut Reply::new());
    assert!(matches!(written.unwrap_err(), Error::Local(Errno::EIO)));
    assert_eq!(server.join().unwrap(), None);

    let (mut channel, server) = channel(|mut channel| {
        let (mid, body) = channel.first().unwrap();
        channel.reply(Mid::PWRITE, &PWriteResp { count: 0 });
        (mid, body.len())
    });
    let mut reply = Reply::new();
    let data = vec![0; LIMIT as usize - 19];
    let written = channel.pwrite(FdId(1), 0, &data, &mut reply);
    assert!(matches!(written.unwrap_err(), Error::Local(Errno::EIO)));
    channel.pwrite(FdId(1), 0, &data[1..], &mut reply).unwrap();
    drop(channel);
    assert_eq!(server.join().unwrap(), (Mid::PWRITE, LIMIT as usize));
}

#[test]
fn descriptors_are_kept_up_to_the_messages_number() {
    let open = OpenAtReq {
        fd: FdId(1),
        flags: 0,
    };
    let opened = OpenAtResp { open_fd: FdId(5) };
    let (fds, watches): (Vec<_>, Vec<_>) = (0..4).map(|_| watched()).unzip();

    let (mut channel, server) = channel(move |mut channel| {
        channel.first();
        let mut fds = fds.into_iter();
        let [a, b, c, d] = std::array::from_fn(|_| fds.next().unwrap());
        for fd in [&a, &b] {
            channel.queue(fd.as_fd());
        }
        drop((a, b));
        channel.answer(&datagram(Mid::OPEN_AT, 2, &encode(&opened)));
        // Announces two and brings one, with an error.
        channel.queue(c.as_fd());
        drop(c);
        channel.answer(&datagram(Mid::ERROR, 2, &encode(&error(Errno::EPERM))));
        // Undecodable.
        channel.queue(d.as_fd());
        drop(d);
        channel.answer(&datagram(Mid::OPEN_AT, 1, &[0; 7]));
        channel.reply(Mid::OPEN_AT, &OpenAtResp { open_fd: FdId(6) });
    });
    let mut reply = Reply::new();
    channel.call(&open, &mut reply).unwrap();
    assert_eq!(reply.fds().len(), 1);
    assert!(!watches[0].is_closed());
    assert!(watches[1].is_closed());
    let donated = reply.take_fd().unwrap();
    for closed in [2, 3] {
        channel.call(&open, &mut reply).unwrap_err();
        assert!(watches[closed].is_closed());
    }
    assert!(!watches[0].is_closed());
    drop(donated);
    assert!(watches[0].is_closed());
    channel.call(&open, &mut reply).unwrap();
    assert!(reply.take_fd().is_none());
    drop(channel);
    server.join().unwrap();
}

#[test]
fn descriptors_on_the_socket_are_kept_likewise() {
    let (fds, watches): (Vec<_>, Vec<_>) = (0..3).map(|_| watched()).unzip();
    let (stream, server) = serve(move |mut server| {
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        server.expect(Mid::OPEN_AT);
        let opened = encode(&OpenAtResp { open_fd: FdId(5) });
        server.reply_with(Mid::OPEN_AT, &opened, &borrowed[..2]);
        server.expect(Mid::OPEN_AT);
        server.reply_with(Mid::ERROR, &encode(&error(Errno::EPERM)), &borrowed[2..]);
    });
    let mut socket = Socket::from(stream);
    let mut reply = Reply::new();
    let open = OpenAtReq {
        fd: FdId(1),
        flags: 0,
    };
    socket.call(&open, &mut reply).unwrap();
    let kept = reply.take_fds();
    assert_eq!(kept.len(), 1);
    socket.call(&open, &mut reply).unwrap_err();
    server.join().unwrap();
    let closed: Vec<_> = watches.iter().map(fake::Watch::is_closed).collect();
    assert_eq!(closed, [false, true, true]);
}

#[test]
fn a_raw_call_returns_whatever_came() {
    let (stream, server) = serve(|mut server| {
        assert_eq!(server.next(), Some((Mid(999), b"anything".to_vec())));
        server.reply_with(Mid(77), b"garbage", &[]);
        server.next();
        server.error(Errno::EPERM);
    });
    let mut socket = Socket::from(stream);
    let mut reply = Reply::new();
    let got = socket.call_raw(Mid(999), b"anything", &mut reply).unwrap();
    assert_eq!((got, reply.body()), (Mid(77), &b"garbage"[..]));
    let got = socket.call_raw(Mid::FSTAT, b"", &mut reply).unwrap();
    assert_eq!((got, reply.body()), (Mid::ERROR, &[1, 0, 0, 0][..]));
    server.join().unwrap();
}

#[test]
fn a_channel_needs_both_descriptors_and_a_sound_window() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        let (file, _watch) = watched();
        for (offset, fds) in [
            (0, &[][..]),
            (0, &[file.as_fd()][..]),
            (0, &[file.as_fd(), file.as_fd()][..]),
            (-4096, &[file.as_fd(), file.as_fd()][..]),
        ] {
            server.expect(Mid::CHANNEL);
            let place = lisafs::wire::ChannelResp {
                data_offset: offset,
                data_length: 1 << 20,
            };
            server.reply_with(Mid::CHANNEL, &encode(&place), fds);
        }
        server.refuse_channels();
    });
    let mut socket = Socket::from(stream);
    socket.mount().unwrap();
    for errno in [Errno::EBADF, Errno::EBADF, Errno::EIO, Errno::EIO] {
        let opened = socket.open_channel(WaitPolicy::Park, &Spinners::new());
        assert_eq!(opened.unwrap_err().errno(), errno);
    }
    let refused = socket.call(&ChannelReq {}, &mut Reply::new());
    assert!(matches!(refused, Err(Error::Remote(Errno::ENOMEM))));
    drop(socket);
    server.join().unwrap();
}

#[test]
fn a_limit_without_room_for_data_is_refused() {
    for limit in [0, 20] {
        let (stream, server) = serve(move |mut server| {
            server.expect(Mid::MOUNT);
            let mids = fake::all_mids();
            let mut mount = fake::mount(&mids);
            mount.max_message_size = limit;
            server.reply(Mid::MOUNT, &mount);
        });
        let mounted = Socket::from(stream).mount();
        assert_eq!(mounted.unwrap_err().errno(), Errno::EIO);
        server.join().unwrap();
    }
}
