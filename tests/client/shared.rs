//! What the users of a connection share: channels, closes, and the end.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lisafs::Errno;
use lisafs::client::{Client, ClientOptions, Create, Error};
use lisafs::wire::{
    CloseReq, Decode, FdId, InodeResp, Mid, OpenAtResp, OpenCreateAtResp, Statx, WalkResp,
};
use lisafs_patience::within;

use crate::fake::{all_mids, datagram, encode, inode, mount, serve};

/// How long a call may take to notice that the server is gone, on a machine that does ten other things: it
/// must not wait for ever.
const SOON: Duration = Duration::from_secs(20);

fn socket_only() -> ClientOptions {
    ClientOptions::new().channels(0)
}

fn closed_ids(body: &[u8]) -> Vec<u64> {
    let close = CloseReq::from_bytes(body).unwrap();
    close.fds.iter().map(|id| id.0).collect()
}

#[test]
fn a_blocked_channel_call_fails_when_the_server_dies() {
    let (blocked, is_blocked) = mpsc::channel();
    let (stream, server) = serve(move |mut server| {
        server.mount();
        // Takes the request, keeps the window, and never answers.
        let channel = server.channel(move |mut channel| {
            let request = channel.first();
            blocked.send(()).unwrap();
            (request, channel)
        });
        let (request, channel) = channel.join().unwrap();
        assert_eq!(request.unwrap().0, Mid::FSTAT);
        // Leaked: a process that dies does not shut its channels down either.
        std::mem::forget(channel);
        server.next()
    });
    let died = stream.try_clone().unwrap();
    let client = ClientOptions::new()
        .channels(1)
        .from_stream(stream)
        .unwrap();
    let call = thread::spawn({
        let client = client.clone();
        move || client.root().stat().map(drop).map_err(|why| why.errno())
    });
    is_blocked.recv().unwrap();
    // What the kernel does to the socket of a dead process.
    died.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(within(SOON, || call.is_finished()));
    assert_eq!(call.join().unwrap(), Err(Errno::EIO));
    // And so does every later one.
    let root = client.root();
    assert_eq!(root.stat().unwrap_err().errno(), Errno::EIO);
    assert_eq!(root.walk_one("x").unwrap_err().errno(), Errno::EIO);
    assert_eq!(server.join().unwrap(), None);
}

#[test]
fn a_handshake_that_is_never_answered_ends_with_the_server() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        let channel = server.channel(std::mem::forget);
        channel.join().unwrap();
    });
    let options = ClientOptions::new().channels(1);
    let call = thread::spawn(move || {
        let client = options.from_stream(stream).unwrap();
        client.root().stat().map(drop)
    });
    assert!(within(SOON, || call.is_finished()));
    assert_eq!(call.join().unwrap().unwrap_err().errno(), Errno::EIO);
    server.join().unwrap();
}

#[test]
fn a_server_that_leaves_instead_of_answering_is_eio() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        server.expect(Mid::OPEN_AT);
        server.reply(Mid::OPEN_AT, &OpenAtResp { open_fd: FdId(2) });
        server.expect(Mid::PREAD);
    });
    let client = socket_only().from_stream(stream).unwrap();
    let file = client.root().open(libc::O_RDONLY).unwrap();
    let read = file.read_at(&mut [0; 10], 0);
    assert_eq!(read.unwrap_err().errno(), Errno::EIO);
    server.join().unwrap();
}

#[test]
fn dropping_the_last_client_ends_the_connection() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        server.next()
    });
    let client = socket_only().from_stream(stream).unwrap();
    let root = client.root();
    drop(client.clone());
    drop(client);
    assert!(!server.is_finished());
    drop(root);
    assert_eq!(server.join().unwrap(), None);
}

#[test]
fn control_handles_are_closed_by_the_hundred() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        for id in 2..102 {
            server.expect(Mid::MKDIR_AT);
            let child = inode(id, libc::S_IFDIR);
            server.reply(Mid::MKDIR_AT, &InodeResp { child });
        }
        let closed = server.expect(Mid::CLOSE);
        server.reply(Mid::CLOSE, &());
        (closed_ids(&closed), server.next())
    });
    let client = socket_only().from_stream(stream).unwrap();
    for _ in 0..100 {
        drop(client.root().mkdir("d", Create::mode(0o755)).unwrap());
    }
    drop(client);
    let (closed, next) = server.join().unwrap();
    assert_eq!(closed, (2..102).collect::<Vec<_>>());
    assert_eq!(next, None);
}

#[test]
fn an_open_file_closes_at_once_and_takes_the_queue_along() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        server.expect(Mid::OPEN_CREATE_AT);
        let made = OpenCreateAtResp {
            child: inode(2, libc::S_IFREG),
            new_fd: FdId(3),
        };
        server.reply(Mid::OPEN_CREATE_AT, &made);
        let closed = server.expect(Mid::CLOSE);
        server.error(Errno::EIO); // is ignored
        server.expect(Mid::MKDIR_AT);
        let child = inode(4, libc::S_IFDIR);
        server.reply(Mid::MKDIR_AT, &InodeResp { child });
        let flushed = server.expect(Mid::CLOSE);
        server.reply(Mid::CLOSE, &());
        let next = server.next();
        (closed_ids(&closed), closed_ids(&flushed), next)
    });
    let client = socket_only().from_stream(stream).unwrap();
    let how = Create::mode(0o644);
    let (control, open) = client.root().create("f", how, libc::O_RDWR).unwrap();
    drop(control);
    drop(open);
    client.flush_closes(); // has nothing left to do
    drop(client.root().mkdir("d", how).unwrap());
    client.flush_closes();
    drop(client);
    let (closed, flushed, next) = server.join().unwrap();
    assert_eq!(closed, [2, 3]);
    assert_eq!(flushed, [4]);
    assert_eq!(next, None);
}

#[test]
fn messages_that_the_server_does_not_offer_are_not_sent() {
    let (stream, server) = serve(|mut server| {
        server.expect(Mid::MOUNT);
        let mids: Vec<_> = all_mids()
            .into_iter()
            .filter(|mid| ![Mid::FSTAT_FS, Mid::RENAME_AT2, Mid::CHANNEL].contains(mid))
            .collect();
        server.reply(Mid::MOUNT, &mount(&mids));
        server.next()
    });
    let client = ClientOptions::new().from_stream(stream).unwrap();
    let root = client.root();
    assert_eq!(root.stat_fs().unwrap_err().errno(), Errno::EOPNOTSUPP);
    let rename = root.rename("a", &root, "b", libc::RENAME_NOREPLACE);
    assert_eq!(rename.unwrap_err().errno(), Errno::EINVAL);
    drop((client, root));
    assert_eq!(server.join().unwrap(), None);
}

#[test]
fn without_channels_the_socket_has_to_do() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        server.expect(Mid::CHANNEL);
        server.error(Errno::ENOMEM);
        for _ in 0..2 {
            server.expect(Mid::FSTAT);
            server.reply(Mid::FSTAT, &Statx::default());
        }
    });
    let client = Client::from_stream(stream).unwrap();
    client.root().stat().unwrap();
    client.root().stat().unwrap();
    assert!(client.wait_stats().is_empty());
    server.join().unwrap();
}

#[test]
fn a_failed_channel_is_abandoned() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        let channel = server.channel(|mut channel| {
            channel.first();
            // Dropping it now shuts it down, and nothing else.
        });
        channel.join().unwrap();
        server.expect(Mid::FSTAT);
        server.reply(Mid::FSTAT, &Statx::default());
        server.next()
    });
    let client = ClientOptions::new()
        .channels(1)
        .from_stream(stream)
        .unwrap();
    let stat = client.root().stat();
    assert_eq!(stat.unwrap_err().errno(), Errno::EIO);
    assert!(client.wait_stats().is_empty());
    client.root().stat().unwrap();
    drop(client);
    assert_eq!(server.join().unwrap(), None);
}

#[test]
fn the_channel_freed_last_is_used_again() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        let channel = server.channel(|mut channel| {
            let mut requests = 0;
            let mut request = channel.first();
            while let Some((mid, _)) = request {
                requests += 1;
                request = channel.reply(mid, &Statx::default());
            }
            requests
        });
        let others = server.refuse_channels();
        (channel.join().unwrap(), others)
    });
    let client = ClientOptions::new()
        .channels(4)
        .from_stream(stream)
        .unwrap();
    for _ in 0..50 {
        client.root().stat().unwrap();
    }
    assert_eq!(client.wait_stats().len(), 1);
    drop(client);
    assert_eq!(server.join().unwrap(), (50, Vec::new()));
}

#[test]
fn a_root_without_a_type_is_refused() {
    let (stream, server) = serve(|mut server| {
        server.expect(Mid::MOUNT);
        let mids = all_mids();
        let mut mount = mount(&mids);
        mount.root.stat.mask = 0;
        server.reply(Mid::MOUNT, &mount);
        server.next()
    });
    let refused = socket_only().from_stream(stream).unwrap_err();
    assert_eq!(refused.errno(), Errno::EIO);
    assert_eq!(server.join().unwrap(), None);
}

#[test]
fn a_mount_that_fails_says_why() {
    let (stream, server) = serve(|mut server| {
        server.expect(Mid::MOUNT);
        server.error(Errno::EPERM);
        server.next()
    });
    let refused = Client::from_stream(stream).unwrap_err();
    assert!(matches!(refused, Error::Remote(Errno::EPERM)));
    assert_eq!(server.join().unwrap(), None);
}

#[test]
fn many_threads_share_one_channel_and_the_socket() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        let channel = server.channel(|mut channel| {
            let mut request = channel.first();
            while let Some((mid, body)) = request {
                request = channel.answer(&answer(mid, &body));
            }
        });
        while let Some((mid, body)) = server.next() {
            match mid {
                Mid::CHANNEL => server.error(Errno::ENOMEM),
                _ => server.reply_with(mid, &answer(mid, &body)[4..], &[]),
            }
        }
        channel.join().unwrap();
    });
    let client = ClientOptions::new()
        .channels(3)
        .from_stream(stream)
        .unwrap();
    thread::scope(|scope| {
        for thread in 0..8u64 {
            let client = &client;
            scope.spawn(move || {
                for i in 0..50 {
                    // Each answer has to come back to the one who asked.
                    let id = 1000 * (thread + 1) + i;
                    let name = id.to_string();
                    let walked = client.root().walk(&[&name]).unwrap();
                    assert_eq!(walked.files[0].attributes().ino, 1000 + id);
                }
            });
        }
    });
    drop(client);
    server.join().unwrap();
}

/// The answer to a Close, or to a Walk of one name that is a number.
fn answer(mid: Mid, body: &[u8]) -> Vec<u8> {
    if mid == Mid::CLOSE {
        return datagram(mid, 0, &[]);
    }
    assert_eq!(mid, Mid::WALK);
    let walk = lisafs::wire::WalkReq::from_bytes(body).unwrap();
    let name = walk.path.iter().next().unwrap();
    let id = std::str::from_utf8(name).unwrap().parse().unwrap();
    let inodes = [inode(id, libc::S_IFDIR)];
    let reply = WalkResp {
        status: WalkResp::SUCCESS,
        inodes: lisafs::wire::Array::new(&inodes),
    };
    datagram(mid, 0, &encode(&reply))
}
