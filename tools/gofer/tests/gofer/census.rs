//! What is left of a thousand clients: nothing.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use lisafs::client::ClientOptions;
use lisafs::host::{HostFs, HostOptions};
use lisafs::server::{Census, ConnectionOpts, Server};

use crate::mixed::{hundred_requests, leave_everything_open};
use crate::process::{Gofer, PATIENCE, eventually, visible, within};

const CONNECTIONS: usize = 1000;
const AT_ONCE: usize = 50;

/// The one that stays while the nodes are counted.
const KEEPER: usize = 1;

/// Has all the connections made and used, `AT_ONCE` at a time.
fn use_connections(connect: impl Fn() -> UnixStream + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= CONNECTIONS {
                        break;
                    }
                    // Every fourth is rude; of the others every third has no channel, every
                    // third one, every third two if need be.
                    let stream = connect();
                    if number % 4 == 3 {
                        leave_everything_open(stream).unwrap();
                        continue;
                    }
                    let options = ClientOptions::new().channels(number % 3);
                    let client = options.from_stream(stream).unwrap();
                    hundred_requests(&client, &format!("client {number}")).unwrap();
                }
            });
        }
    });
}

/// The open descriptors and the threads of a process.
fn of_process(pid: u32) -> (Vec<String>, usize) {
    let proc = Path::new("/proc").join(pid.to_string());
    let mut fds: Vec<_> = fs::read_dir(proc.join("fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .collect();
    fds.sort();
    let threads = fs::read_dir(proc.join("task")).unwrap().count();
    (fds, threads)
}

#[test]
fn a_thousand_clients_leave_no_descriptor_and_no_thread_behind() {
    let gofer = Gofer::listen(visible());
    // It listens before it has locked itself in, and answers afterwards.
    drop(gofer.connect(&ClientOptions::new()));
    // The helper has connected to see whether it can. That client is gone when only the socket that
    // is listened on is left; it may not even have had its thread yet.
    let mut before = of_process(gofer.pid());
    eventually("the gofer is idle", || {
        before = of_process(gofer.pid());
        let sockets = before.0.iter().filter(|fd| fd.starts_with("socket:"));
        before.1 == 1 && sockets.count() == 1
    });
    use_connections(|| UnixStream::connect(&gofer.socket).unwrap());
    let mut after = of_process(gofer.pid());
    within(PATIENCE, || {
        after = of_process(gofer.pid());
        after == before
    });
    assert_eq!(after, before);
    assert_eq!(fs::read_dir(&gofer.root).unwrap().count(), 0);
}

#[test]
fn a_thousand_clients_leave_no_node_and_no_id_behind() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(AT_ONCE + KEEPER);
    let connect = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // A connection ends a little after its client has gone.
        eventually("there is room for a client", || {
            let backend = HostFs::open(dir.path(), HostOptions::default()).unwrap();
            let theirs = theirs.try_clone().unwrap();
            server
                .start_connection(theirs, backend, ConnectionOpts::default())
                .is_ok()
        });
        drop(theirs);
        ours
    };
    let keeper = ClientOptions::new().from_stream(connect()).unwrap();
    let before = server.census();
    assert_eq!(
        before,
        Census {
            connections: 1,
            channels: 0,
            ids: 1,
            objects: 1,
            descriptors: 1
        }
    );
    assert_eq!(server.count_nodes(), 1);
    use_connections(connect);
    let mut after = server.census();
    eventually("all connections have ended", || {
        after = server.census();
        after.connections == before.connections
    });
    assert_eq!(after, before);
    assert_eq!(server.count_nodes(), 1);
    drop(keeper);
    server.wait();
}
