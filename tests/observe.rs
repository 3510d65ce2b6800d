//! What observers see of requests: the same on both sides, and all of them.
#![allow(clippy::unwrap_used)] // outside of test functions, too

use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use lisafs::Errno;
use lisafs::client::{Client, ClientOptions, Communicator, Reply, Socket};
use lisafs::host::{HostFs, HostOptions};
use lisafs::observe::{Exchange, Observer, Tracer, Via, Watch};
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::{FdId, Mid, PReadReq};

/// A trace in memory.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<u8>>>);

impl Recorder {
    fn tracer(&self) -> Arc<Tracer> {
        Arc::new(Tracer::new(self.0.clone()))
    }

    /// What was said of requests that went this way, without the times.
    fn lines(&self, via: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        let lines = str::from_utf8(&bytes).unwrap().lines();
        let lines = lines.filter_map(|line| line.trim_start().split_once(' '));
        let lines = lines.filter_map(|(_, line)| line.strip_prefix(via)?.strip_prefix(' '));
        lines
            .map(|line| line.rsplit_once(" <").unwrap().0.to_owned())
            .collect()
    }
}

/// Runs `work` as a client with so many channels, and returns the traces of client and server.
fn traced(channels: usize, work: impl FnOnce(&Client)) -> [Recorder; 2] {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "some data").unwrap();
    let (of_client, of_server) = (Recorder::default(), Recorder::default());
    let server = Server::observed(1, of_server.tracer());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let backend = HostFs::open(dir.path(), HostOptions::default()).unwrap();
    server
        .start_connection(theirs, backend, ConnectionOpts::default())
        .unwrap();
    let client = ClientOptions::new()
        .channels(channels)
        .donations(false)
        .observer(of_client.tracer())
        .from_stream(ours)
        .unwrap();
    work(&client);
    drop(client);
    server.wait();
    [of_client, of_server]
}

fn everyday_work(client: &Client) {
    assert_eq!(client.read("file").unwrap(), b"some data");
    client.write("new", b"abc").unwrap();
    client.rename("new", "d\x1b[2J").unwrap();
    assert_eq!(client.metadata("x").unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(
        client.create_dir("file").unwrap_err().errno(),
        Errno::EEXIST
    );
}

#[test]
fn both_sides_see_the_same_on_a_socket() {
    let [client, server] = traced(0, everyday_work);
    let lines = client.lines("socket 1");
    assert_eq!(lines, server.lines("socket 1"));
    let seen = |start: &str, end: &str| {
        let found = |line: &&String| line.starts_with(start) && line.ends_with(end);
        assert!(lines.iter().any(|line| found(&line)), "{start}: {lines:#?}");
    };
    seen("Mount() = {root={control_fd=1, ", "of them]}");
    seen(
        "OpenAt(fd=",
        ", flags=O_RDONLY) = {open_fd=3} + 1 descriptor",
    );
    seen("PRead(offset=0, fd=3, count=", ") = {data=9 bytes}");
    seen(
        "PWrite(offset=0, fd=",
        ", num_bytes=3, data=...) = {count=3}",
    );
    seen("RenameAt", "new_name=\"d\\x1b[2J\") = 0");
    seen("MkdirAt(dir_fd=1, ", "= EEXIST (File exists)");
}

#[test]
fn both_sides_see_the_same_on_a_channel() {
    let [client, server] = traced(1, everyday_work);
    for via in ["socket 1", "channel 1.0"] {
        let lines = client.lines(via);
        assert_eq!(lines, server.lines(via));
        assert!(!lines.is_empty());
    }
    let channel = client.lines("channel 1.0");
    assert!(channel.iter().any(|line| line.starts_with("PRead(")));
    let socket = client.lines("socket 1");
    let opened = "} + 2 descriptors";
    assert!(
        socket.iter().any(|line| line.ends_with(opened)),
        "{socket:#?}"
    );
}

#[test]
fn requests_that_are_none_are_seen_as_well() {
    let of_server = Recorder::default();
    let server = Server::observed(1, of_server.tracer());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let backend = HostFs::open(dir.path(), HostOptions::default()).unwrap();
    server
        .start_connection(theirs, backend, ConnectionOpts::default())
        .unwrap();
    let mut socket = Socket::from(ours);
    let limit = socket.mount().unwrap().max_message_size as usize;
    let mut reply = Reply::new();
    let mut send = |mid, body: &[u8]| socket.call_raw(mid, body, &mut reply).unwrap();
    assert_eq!(send(Mid(99), b"abc"), Mid::ERROR);
    assert_eq!(send(Mid::FSTAT, b"\x01\0"), Mid::ERROR);
    assert_eq!(send(Mid::WALK, &vec![0; limit + 1]), Mid::ERROR);
    drop(socket);
    server.wait();
    assert_eq!(
        of_server.lines("socket 1").get(1..).unwrap(),
        [
            "99(3 bytes) = EOPNOTSUPP (Operation not supported on transport endpoint)",
            "FStat(fd=<cut off>) = EIO (I/O error)",
            "Walk(dir_fd=...) = EIO (I/O error)",
        ]
    );
}

/// Counts what it sees.
#[derive(Clone, Debug, Default)]
struct Counter(Arc<Mutex<Vec<(Via, Mid, bool)>>>);

impl Observer for Counter {
    fn watch(&self, via: Via) -> Box<dyn Watch> {
        Box::new(Counting {
            counter: self.clone(),
            via,
        })
    }
}

#[derive(Debug)]
struct Counting {
    counter: Counter,
    via: Via,
}

impl Watch for Counting {
    fn begin(&mut self, mid: Mid) {
        let mut seen = self.counter.0.lock().unwrap();
        seen.push((self.via, mid, false));
    }

    fn end(&mut self, exchange: &Exchange<'_>) {
        let mut seen = self.counter.0.lock().unwrap();
        seen.push((self.via, exchange.mid, true));
    }
}

#[test]
fn several_observers_see_what_one_would() {
    let (first, second) = (Counter::default(), Counter::default());
    let both: Vec<Arc<dyn Observer>> = vec![Arc::new(first.clone()), Arc::new(second.clone())];
    let server = Server::observed(1, Arc::new(both));
    let dir = tempfile::tempdir().unwrap();
    let backend = HostFs::open(dir.path(), HostOptions::default()).unwrap();
    let direct = server
        .connect_directly(backend, ConnectionOpts::default())
        .unwrap();
    let mut worker = direct.worker().unwrap();
    let mut reply = [0; 512];
    assert_eq!(worker.serve(Mid::MOUNT, &mut [], &mut reply).0, Mid::MOUNT);
    let mut read = Vec::new();
    lisafs::wire::Encode::encode(
        &PReadReq {
            offset: 0,
            fd: FdId(5),
            count: 1,
        },
        &mut read,
    )
    .unwrap();
    assert_eq!(
        worker.serve(Mid::PREAD, &mut read, &mut reply).0,
        Mid::ERROR
    );
    let seen = first.0.lock().unwrap().clone();
    let via = Via::Socket(1);
    let expected = [Mid::MOUNT, Mid::PREAD].map(|mid| [(via, mid, false), (via, mid, true)]);
    assert_eq!(seen, expected.concat());
    assert_eq!(seen, *second.0.lock().unwrap());
}
