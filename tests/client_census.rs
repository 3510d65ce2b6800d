//! A connection leaves nothing behind. Alone in its process, because it counts what that has.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

#[path = "client/fake.rs"]
#[allow(dead_code)] // another test's scripts need more
mod fake;

use std::fmt::Debug;

use lisafs::client::ClientOptions;
use lisafs::wire::{FdId, InodeResp, Mid, OpenAtResp, Statx};
use lisafs_patience::{PATIENCE, within};

/// How many descriptors and threads this process has.
fn census() -> (usize, usize) {
    let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// Connects, uses a channel and the socket, keeps handles to the last, and disconnects.
fn connection() {
    let (stream, server) = fake::serve(|mut server| {
        server.mount();
        let channel = server.channel(|mut channel| {
            let mut request = channel.first();
            while let Some((mid, _)) = request {
                request = match mid {
                    Mid::OPEN_AT => {
                        let (fd, _watch) = fake::watched();
                        channel.queue(std::os::fd::AsFd::as_fd(&fd));
                        let opened = fake::encode(&OpenAtResp { open_fd: FdId(3) });
                        channel.answer(&fake::datagram(mid, 1, &opened))
                    }
                    Mid::MKDIR_AT => {
                        let child = fake::inode(2, libc::S_IFDIR);
                        channel.reply(mid, &InodeResp { child })
                    }
                    Mid::CLOSE => channel.reply(mid, &()),
                    _ => channel.reply(mid, &Statx::default()),
                };
            }
        });
        server.refuse_channels();
        channel.join().unwrap();
    });
    let client = ClientOptions::new()
        .channels(2)
        .from_stream(stream)
        .unwrap();
    let dir = client
        .root()
        .mkdir("d", lisafs::client::Create::mode(0o755))
        .unwrap();
    let open = dir.open(libc::O_RDONLY).unwrap();
    assert!(open.donated_fd().is_some());
    drop(client);
    dir.stat().unwrap();
    drop((open, dir));
    server.join().unwrap();
}

/// Waits until `census` says what is expected: a joined thread can take a moment to leave the list.
fn settle<T: Debug + PartialEq>(expected: &T, census: impl Fn() -> T) {
    let is_settled = within(PATIENCE, || census() == *expected);
    assert!(is_settled, "before {expected:?}, after {:?}", census());
}

#[test]
fn a_thousand_connections_leave_nothing_behind() {
    let threads = || census().1;
    let at_first = threads();
    // Opens what is opened once and kept.
    connection();
    settle(&at_first, threads);
    let before = census();
    for _ in 0..1000 {
        connection();
    }
    settle(&before, census);
}
