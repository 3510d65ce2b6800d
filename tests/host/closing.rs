//! What the other side of a FIFO or a socket sees when a client closes its own: at once, and not with
//! the closes that are collected.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use lisafs::client::{Client, ControlFile, Create};
use lisafs::host::HostFs;
use lisafs::server::{ConnectionOpts, Server};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use crate::scene::OPTIONS;

/// In milliseconds. What is collected would wait for a hundred others, so any time shows it.
const PATIENCE: u16 = 20_000;

fn serve() -> (TempDir, Client) {
    let directory = tempfile::tempdir().unwrap();
    let host = HostFs::open(directory.path(), OPTIONS).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let opts = ConnectionOpts::default();
    Server::new(1).start_connection(theirs, host, opts).unwrap();
    (directory, Client::from_stream(ours).unwrap())
}

/// Whether nobody is at the other end any more, by the time that `patience`, in milliseconds, is over.
fn is_left(end: &impl AsFd, patience: u16) -> bool {
    let mut ends = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
    poll(&mut ends, PollTimeout::from(patience)).unwrap();
    let events = ends[0].revents().unwrap();
    events.contains(PollFlags::POLLHUP)
}

/// Sees the client's end go, which it is not before it is closed.
fn ends_with<T>(mut end: impl Read + AsFd, theirs: T) {
    let early = end.read(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    assert!(!is_left(&end, 0));
    drop(theirs);
    assert!(is_left(&end, PATIENCE), "the other side is still waiting");
    assert_eq!(end.read(&mut [0]).unwrap(), 0);
}

pub(crate) fn a_reader_sees_the_end_when_a_writer_is_closed() {
    let (directory, client) = serve();
    let path = directory.path().join("fifo");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let mut without_waiting = OpenOptions::new();
    without_waiting.custom_flags(libc::O_NONBLOCK).read(true);
    let mut reader: File = without_waiting.open(&path).unwrap();
    // The position in the tree is no writer, and stays.
    let fifo = client.lookup("fifo").unwrap();
    for donations in [true, false] {
        let mut writer = fifo.open(libc::O_WRONLY).unwrap();
        if !donations {
            writer = writer.without_donation();
        }
        ends_with(reader.try_clone().unwrap(), writer);
    }
    // Two of them: the first one to go is not the end.
    let writers = [(); 2].map(|()| fifo.open(libc::O_WRONLY).unwrap());
    let [first, second] = writers;
    drop(first);
    let early = reader.read(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    ends_with(reader, second);
    drop(fifo);
}

fn bind(client: &Client) -> (ControlFile, lisafs::client::BoundSocket) {
    let bound = client
        .root()
        .bind("socket", Create::mode(0o700), libc::SOCK_STREAM);
    let (file, socket) = bound.unwrap();
    socket.listen(5).unwrap();
    (file, socket)
}

fn non_blocking(stream: UnixStream) -> UnixStream {
    stream.set_nonblocking(true).unwrap();
    stream
}

pub(crate) fn a_peer_sees_the_end_when_a_connection_is_closed() {
    let (directory, client) = serve();
    let (_file, socket) = bind(&client);
    let host = UnixStream::connect(directory.path().join("socket")).unwrap();
    let accepted = socket.accept().unwrap();
    ends_with(non_blocking(host), accepted);

    // And the other way round.
    let listener = UnixListener::bind(directory.path().join("listener")).unwrap();
    let file = client.lookup("listener").unwrap();
    let connected = file.connect(libc::SOCK_STREAM).unwrap();
    let (mut host, _) = listener.accept().unwrap();
    host.write_all(b"unread").unwrap();
    let mut read = [0; 6];
    File::from(connected.try_clone().unwrap())
        .read_exact(&mut read)
        .unwrap();
    ends_with(non_blocking(host), connected);
}

pub(crate) fn a_bound_socket_that_is_closed_accepts_nobody() {
    let (directory, client) = serve();
    let path = directory.path().join("socket");
    let (file, socket) = bind(&client);
    let pending = UnixStream::connect(&path).unwrap();
    assert!(!is_left(&pending, 0));
    drop(socket);
    assert!(is_left(&pending, PATIENCE), "nobody will take it");
    // The file is there, and nobody behind it.
    assert!(file.stat().is_ok() && path.exists());
    let refused = UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
