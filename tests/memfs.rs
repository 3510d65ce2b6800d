//! The conformance suite against the file system in memory of `examples/memfs`, in this process, and what
//! the suite does not ask: limits, holes, and the end of a deep tree.
#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../examples/memfs/fs/mod.rs"]
mod fs;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use lisafs::Errno;
use lisafs::client::{Client, Create, Error, OpenOptions, SetAttributes};
use lisafs::server::{ConnectionOpts, Server};
use lisafs_conformance::harness::{self, Subject};
use lisafs_conformance::{Need, Target};

use fs::{Limits, MemFs};

struct InMemory {
    server: Server<MemFs>,
    files: MemFs,
}

impl Target for InMemory {
    fn name(&self) -> &str {
        "memfs"
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        let opts = ConnectionOpts {
            readonly,
            ..ConnectionOpts::default()
        };
        let (ours, theirs) = UnixStream::pair()?;
        self.server
            .start_connection(theirs, self.files.clone(), opts)?;
        Ok(ours)
    }

    fn host_dir(&self) -> Option<&Path> {
        None
    }

    fn offers(&self, need: Need) -> bool {
        matches!(
            need,
            Need::ReadOnly | Need::Privileged | Need::UserXattr | Need::SharedTree
        )
    }
}

const MIB: u64 = 1 << 20;

fn in_memory(bytes: u64, files: u64) -> InMemory {
    InMemory {
        // Without a limit: the connections of earlier cases may still be ending.
        server: Server::new(usize::MAX),
        files: MemFs::new(Limits { bytes, files }).unwrap(),
    }
}

fn client(target: &InMemory) -> Client {
    Client::from_stream(target.connect(false).unwrap()).unwrap()
}

fn refused<T: Debug>(result: Result<T, Error>, errno: Errno) {
    assert_eq!(result.unwrap_err().errno(), errno);
}

fn bytes_are_limited() {
    let target = in_memory(4 * MIB, 1000);
    let client = client(&target);
    let before = client.stat_fs("/").unwrap();
    let file = client.create("f").unwrap();
    // What finds room is written.
    let written = file.write_at(&vec![b'x'; 8 << 20], 0).unwrap() as u64;
    assert!(written > 3 * MIB && written < 4 * MIB, "{written} bytes");
    assert_eq!(file.metadata().unwrap().size, written);
    refused(file.write_at(b"x", written), Errno::ENOSPC);
    refused(file.as_inner().allocate(0, 0, 1 << 62), Errno::ENOSPC);
    // Less than a block is left, which holds two directories at the most.
    let full = |number: &i32| client.create_dir(format!("d{number}")).is_err();
    let made = (0..3).find(full).unwrap();
    refused(client.create_dir("d"), Errno::ENOSPC);
    refused(client.symlink("target", "l"), Errno::ENOSPC);
    // A rename needs no room, and what is there can be written over.
    client.rename("f", "longer than before").unwrap();
    file.write_at(b"y", 0).unwrap();
    // An open file keeps its bytes, and gives them back when it is closed.
    client.remove_file("longer than before").unwrap();
    assert!(client.stat_fs("/").unwrap().blocks_free < 256);
    drop(file);
    (0..made).for_each(|number| client.remove_dir(format!("d{number}")).unwrap());
    client.flush_closes();
    assert_eq!(client.stat_fs("/").unwrap(), before);
}

fn files_are_limited() {
    let target = in_memory(MIB, 4);
    let client = client(&target);
    // The root is one.
    client.create_dir("d").unwrap();
    client.write("d/f", b"").unwrap();
    client.symlink("f", "d/l").unwrap();
    refused(client.write("g", b""), Errno::ENOSPC);
    assert_eq!(client.stat_fs("/").unwrap().files_free, 0);
    // A link is a name and no file.
    client.hard_link("d/f", "d/g").unwrap();
    client.remove_file("d/l").unwrap();
    client.flush_closes();
    client.write("g", b"").unwrap();
}

fn holes_cost_nothing() {
    const FAR: u64 = 1 << 40;
    let target = in_memory(MIB, 10);
    let client = client(&target);
    let both = OpenOptions::new().read(true).write(true).create(true);
    let file = both.open(&client, "f").unwrap();
    file.write_all_at(b"near", 0).unwrap();
    file.write_all_at(b"far", FAR).unwrap();
    let stat = file.metadata().unwrap();
    assert_eq!((stat.size, stat.blocks), (FAR + 3, 16));
    let read = |offset, len| {
        let mut buffer = vec![b'?'; len];
        let read = file.read_at(&mut buffer, offset).unwrap();
        buffer.truncate(read);
        buffer
    };
    assert_eq!(read(1, 6), b"ear\0\0\0");
    assert_eq!(read(FAR - 3, 100), b"\0\0\0far");

    // A hole in the middle of two blocks, which leaves both.
    file.write_all_at(&[b'x'; 3 * 4096], 0).unwrap();
    let punch = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE).cast_unsigned();
    file.as_inner().allocate(punch, 4000, 4096 + 200).unwrap();
    assert_eq!(file.metadata().unwrap().blocks, 24);
    let wanted = [vec![b'x'; 4000], vec![0; 4296], vec![b'x'; 3992]].concat();
    assert!(read(0, 3 * 4096) == wanted);

    // What was cut off does not come back.
    let resize = |size| client.set_attributes("f", &SetAttributes::new().size(size));
    resize(2).unwrap();
    resize(3 * 4096).unwrap();
    assert!(read(0, 5) == b"xx\0\0\0");
    assert_eq!(file.metadata().unwrap().blocks, 8);

    // Room behind the end is there and not to be seen.
    let keep = libc::FALLOC_FL_KEEP_SIZE.cast_unsigned();
    file.as_inner().allocate(keep, 4 * 4096, 4096).unwrap();
    let stat = file.metadata().unwrap();
    assert_eq!((stat.size, stat.blocks), (3 * 4096, 16));
}

/// Dropping it must not take a frame of the stack for each level.
fn a_deep_tree_goes() {
    const DEPTH: usize = 100_000;
    let target = in_memory(1 << 30, 1 << 20);
    let client = client(&target);
    let mut directory = client.root();
    for _ in 0..DEPTH {
        directory = directory.mkdir("d", Create::mode(0o755)).unwrap();
    }
    assert_eq!(
        client.stat_fs("/").unwrap().files_free,
        (1 << 20) - 1 - DEPTH as u64
    );
    drop((directory, client));
    assert!(target.server.shutdown(Duration::from_secs(60)));
    drop(target);
}

/// Names that come and go while a directory is listed: what stays is seen once.
fn a_listing_goes_on_where_it_was() {
    let target = in_memory(64 * MIB, 1 << 16);
    let client = client(&target);
    for number in 0..4000 {
        client.write(format!("stays-{number}"), b"").unwrap();
        client.write(format!("goes-{number}"), b"").unwrap();
    }
    let mut seen = BTreeSet::new();
    for (round, entry) in client.read_dir("/").unwrap().enumerate() {
        let name = entry.unwrap().name.into_string().unwrap();
        assert!(seen.insert(name), "an entry came twice");
        if round < 4000 {
            client.remove_file(format!("goes-{round}")).unwrap();
            client.write(format!("new-{round}"), b"").unwrap();
        }
    }
    let stayed = seen.iter().filter(|name| name.starts_with("stays-"));
    assert_eq!(stayed.count(), 4000);
}

fn main() -> ExitCode {
    let own: [(&str, fn()); 5] = [
        ("bytes_are_limited", bytes_are_limited),
        ("files_are_limited", files_are_limited),
        ("holes_cost_nothing", holes_cost_nothing),
        ("a_deep_tree_goes", a_deep_tree_goes),
        (
            "a_listing_goes_on_where_it_was",
            a_listing_goes_on_where_it_was,
        ),
    ];
    // Cases run side by side, and some write a few MiB.
    let target = in_memory(256 * MIB, 1 << 16);
    let mut trials = harness::trials(Subject::new(Arc::new(target)));
    trials.extend(own.map(|(name, test)| {
        Trial::test(format!("memfs::{name}"), move || {
            test();
            Ok(())
        })
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
