//! The client against a server that answers with whatever it likes, over the socket and over a
//! channel.
//!
//! Nothing panics; every call comes back when the server has hung up, if not before; and with the
//! client go all descriptors that it was given.
#![no_main]
#![forbid(unsafe_code)]

use std::os::unix::net::UnixStream;
use std::thread;

use flipcall::WaitPolicy;
use libfuzzer_sys::fuzz_target;
use lisafs::client::{Client, Create, Error, SetAttributes};
use lisafs::wire::{Gid, Uid};
use lisafs_fuzz::{HostileServer, count_descriptors};

/// How many calls are made at the most.
const CALLS: usize = 16;

fuzz_target!(|input: &[u8]| {
    let [options, calls, rest @ ..] = input else {
        return;
    };
    let count = usize::from(*calls) % CALLS + 1;
    let (calls, answers) = rest.split_at(count.min(rest.len()));
    let before = count_descriptors();
    let (ours, theirs) = UnixStream::pair().expect("there are descriptors to be had");
    let mut server = HostileServer::new(theirs, answers).expect("there are descriptors to be had");
    server.mounts = options & 1 == 0;
    server.channels = options & 2 == 0;
    thread::scope(|scope| {
        scope.spawn(|| server.serve());
        let client = Client::options()
            .channels(usize::from(options >> 2 & 1))
            .wait(WaitPolicy::Park)
            .donations(options & 8 == 0)
            .from_stream(ours);
        if let Ok(client) = client {
            for call in calls {
                // Whatever it says: it has come back.
                let _ = make(*call, &client);
            }
        }
    });
    drop(server);
    assert_eq!(count_descriptors(), before, "descriptors have leaked");
});

/// Makes one of the calls that there are.
fn make(call: u8, client: &Client) -> Result<(), Error> {
    let root = client.root();
    match call % 32 {
        0 => client.metadata("a/b").map(drop),
        1 => client.symlink_metadata("a/b/c").map(drop),
        2 => client.read("a").map(drop),
        3 => client.write("a", b"content"),
        4 => client.read_dir("d").map(|entries| {
            // A server can go on for ever, and this one does until its answers are used up.
            entries.for_each(drop);
        }),
        5 => client.create_dir_all("a/b/c"),
        6 => client.remove_dir_all("d"),
        7 => client.rename("a", "d/b"),
        8 => client.read_link("l").map(drop),
        9 => client.symlink("target", "l"),
        10 => client.hard_link("a", "b"),
        11 => client.set_permissions("a", 0o600),
        12 => client.canonicalize("a/l/b").map(drop),
        13 => client.stat_fs("/").map(drop),
        14 => client.remove_file("a"),
        15 => client.ping(),
        16 => client.lookup("a")?.get_xattr("user.a").map(drop),
        17 => client.lookup("a")?.list_xattr().map(drop),
        18 => client.lookup("a")?.set_xattr("user.a", b"v", 0),
        19 => client.lookup("a")?.remove_xattr("user.a"),
        20 => root.walk(&["a", "b", "c"]).map(drop),
        21 => root.walk_stat(&["a", "b", "c"]).map(drop),
        22 => root
            .create("f", Create::mode(0o644), libc::O_RDWR)
            .map(drop),
        23 => root
            .mknod("w", Create::mode(libc::S_IFREG), (0, 0))
            .map(drop),
        24 => {
            let (_file, socket) = root.bind("s", Create::mode(0o600), libc::SOCK_STREAM)?;
            socket.listen(1)?;
            socket.accept().map(drop)
        }
        25 => client.lookup("s")?.connect(libc::SOCK_STREAM).map(drop),
        26 => {
            let file = client.lookup("s")?;
            file.connect_as(0, Uid(1), Gid(1)).map(drop)
        }
        27 => {
            let file = client.open("a")?.into_inner();
            file.read_with(1 << 20, 0, |data| data.len()).map(drop)
        }
        28 => {
            let file = client.lookup("a")?.open(libc::O_RDWR)?;
            file.write_with(64, 0, |data| data.len()).map(drop)
        }
        29 => {
            let file = client.open("a")?;
            file.sync_all()?;
            file.metadata()?;
            let file = file.into_inner();
            file.allocate(0, 0, 10)?;
            file.flush()
        }
        30 => client.set_attributes("a", &SetAttributes::new().mode(0o600).size(3)),
        _ => {
            client.flush_closes();
            Ok(())
        }
    }
}
