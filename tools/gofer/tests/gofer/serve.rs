//! Serving over both kinds of socket.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use lisafs::Errno;
use lisafs::client::{Client, ClientOptions, OpenOptions};
use nix::sys::signal::Signal;

use crate::process::{Gofer, command, eventually, wait};

#[test]
fn whoever_connects_is_served_over_channels() {
    let gofer = Gofer::listen(&[]);
    fs::write(gofer.root.join("greeting"), "hello").unwrap();
    let clients = [(); 3].map(|()| gofer.connect(&ClientOptions::new().channels(2)));
    for client in &clients {
        assert_eq!(client.read("greeting").unwrap(), b"hello");
        assert!(!client.wait_stats().is_empty(), "no channel was used");
    }
    let [first, ..] = &clients;
    first.write("new", b"data").unwrap();
    let new = fs::metadata(gofer.root.join("new")).unwrap();
    assert_eq!((new.len(), new.mode() & 0o7777), (4, 0o644));
}

#[test]
fn the_socket_is_for_its_owner_only() {
    let gofer = Gofer::listen(&[]);
    let mode = fs::metadata(&gofer.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn an_inherited_socket_is_served_until_the_client_is_done() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("greeting"), "hello").unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut gofer = command()
        .args(["--fd", "0"])
        .arg(dir.path())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let client = Client::from_stream(ours).unwrap();
    assert_eq!(client.read("greeting").unwrap(), b"hello");
    assert_eq!(gofer.try_wait().unwrap(), None);
    drop(client);
    assert_eq!(wait(&mut gofer).code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut gofer = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"))
        .args(["serve", "--log", "trace", "--fd", "0"])
        .arg(dir.path())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(writer)
        .spawn()
        .unwrap();
    let client = Client::from_stream(ours).unwrap();
    client.create_dir("new").unwrap();
    drop(client);
    assert_eq!(wait(&mut gofer).code(), Some(0));
}

#[test]
fn a_stale_socket_is_replaced() {
    // With one, somebody else removes the socket.
    let dir = Gofer::listen(&["--sandbox", "off"]).kill();
    assert!(dir.path().join("socket").exists(), "nothing to replace");
    let gofer = Gofer::listen_again(dir, &[]);
    assert!(
        gofer
            .connect(&ClientOptions::new())
            .read_dir("/")
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn a_live_socket_is_left_to_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let live = UnixListener::bind(&socket).unwrap();
    let output = command()
        .arg("--listen")
        .arg(&socket)
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("another server listens"), "{message}");
    UnixStream::connect(&socket).unwrap();
    drop(live);
}

/// Whoever may read the directory can have the lock, shared or alone.
#[test]
fn a_directory_that_others_keep_locked_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let lock = fs::File::open(dir.path()).unwrap();
    lock.lock_shared().unwrap();
    let (mut log, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
    command.arg("serve").stderr(writer);
    let mut gofer = Gofer::spawn(command, dir, root);
    gofer.connect(&ClientOptions::new()).root().stat().unwrap();
    gofer.signal(Signal::SIGTERM);
    assert_eq!(gofer.wait().code(), Some(0));
    assert!(!gofer.socket.exists());
    let mut told = String::new();
    log.read_to_string(&mut told).unwrap();
    // By the gofer, and by whoever removes the socket.
    assert_eq!(told.matches("lslocks(8) says who").count(), 2, "{told}");
}

#[test]
fn a_read_only_server_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let readonly = Gofer::serve(dir.path(), &["--readonly"]);
    let readonly = readonly.connect(&ClientOptions::new());
    assert_eq!(
        readonly.create_dir("new").unwrap_err().errno(),
        Errno::EROFS
    );
    let writable = Gofer::serve(dir.path(), &[]);
    let writable = writable.connect(&ClientOptions::new());
    writable.create_dir("new").unwrap();
    assert!(readonly.exists("new").unwrap());
}

#[test]
fn no_more_clients_than_there_may_be() {
    let gofer = Gofer::listen(&["--max-connections", "1"]);
    // The helper has connected once; that has to end first.
    let mut first = None;
    eventually("the first client is served", || {
        first = ClientOptions::new().connect(&gofer.socket).ok();
        first.is_some()
    });
    let refused = ClientOptions::new().connect(&gofer.socket).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    first.unwrap().read_dir("/").unwrap();
}

#[test]
fn the_limits_of_a_client_hold() {
    let gofer = Gofer::listen(&["--max-ids", "3", "--max-channels", "1"]);
    fs::write(gofer.root.join("file"), "").unwrap();
    let client = gofer.connect(&ClientOptions::new().channels(4));
    // One id is the root's.
    let held: Vec<_> = (0..2).map(|_| client.lookup("file").unwrap()).collect();
    assert_eq!(client.lookup("file").unwrap_err().errno(), Errno::EMFILE);
    assert_eq!(client.wait_stats().len(), 1);
    drop(held);
    client.flush_closes();
    client.lookup("file").unwrap();
}

#[test]
fn few_ids_for_each_client_are_no_reason_to_have_few_clients() {
    let gofer = Gofer::listen(&["--max-ids", "100"]);
    let clients = [(); 8].map(|()| gofer.connect(&ClientOptions::new().channels(0)));
    for client in clients {
        client.ping().unwrap();
    }
}

/// One below what a client more is sure of, as much, and one more.
#[test]
fn clients_beyond_the_ids_are_turned_away() {
    for (total, served) in [("2047", 1), ("2048", 2), ("2049", 2)] {
        let gofer = Gofer::listen(&["--max-total-ids", total]);
        let options = ClientOptions::new().channels(0);
        let connect = || options.connect(&gofer.socket).ok();
        let mut clients = Vec::new();
        eventually("the one that looked whether it listens has gone", || {
            clients.extend(connect());
            clients.len() == served
        });
        assert!(connect().is_none(), "{total}");
        clients.pop();
        eventually("there is room again", || connect().is_some());
    }
}

/// Who may connect does so in a loop: few lines, and each says what to do.
#[test]
fn clients_that_are_turned_away_do_not_fill_the_log() {
    for (options, advice) in [
        (
            ["--max-connections", "1"],
            "permit more with --max-connections",
        ),
        (
            ["--max-total-fds", "61"],
            "permit more with --max-total-fds",
        ),
        (
            ["--max-total-ids", "1024"],
            "permit more with --max-total-ids",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let log = dir.path().join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
        command
            .args(["serve", "--sandbox", "off", "--log", "info"])
            .args(options)
            .stderr(fs::File::create(&log).unwrap());
        let gofer = Gofer::spawn(command, dir, root);
        let mut only = None;
        eventually("the one that looked whether it listens has gone", || {
            only = ClientOptions::new().connect(&gofer.socket).ok();
            only.is_some()
        });
        for _ in 0..200 {
            let mut refused = UnixStream::connect(&gofer.socket).unwrap();
            assert_eq!(refused.read(&mut [0]).unwrap(), 0, "it is served");
        }
        only.unwrap().ping().unwrap();
        let log = fs::read_to_string(log).unwrap();
        let lines = log.lines().filter(|line| line.contains("turned away"));
        let lines: Vec<_> = lines.collect();
        // 8 numbers up to 200 are powers of two, and some had come before.
        assert!((8..11).contains(&lines.len()), "{log}");
        for line in lines {
            assert!(line.contains(advice) && line.contains("count="), "{line}");
        }
        let is_told = log.contains("for fewer clients than --max-connections permits");
        assert_eq!(is_told, options[0] != "--max-connections", "{log}");
    }
}

#[test]
fn objects_are_limited_apart_from_ids() {
    let gofer = Gofer::listen(&["--max-fds", "3"]);
    fs::write(gofer.root.join("file"), "").unwrap();
    let client = gofer.connect(&ClientOptions::new());
    let file = client.lookup("file").unwrap();
    // The root has one, and the file if it was so young that it had to be opened to be known again.
    let mut open = Vec::new();
    let refused = loop {
        match file.open(libc::O_RDONLY) {
            Ok(file) => open.push(file),
            Err(why) => break why,
        }
        assert!(open.len() < 3, "more than there may be");
    };
    assert_eq!(refused.errno(), Errno::EMFILE);
    assert!(open.pop().is_some());
    file.open(libc::O_RDONLY).unwrap();
}

/// When there is not enough to be set aside for one more client, it hears so at once.
#[test]
fn clients_beyond_the_descriptors_are_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 100 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_lisafs-gofer"))
        .args(["serve", "--log", "error"]);
    let gofer = Gofer::spawn(command, dir, root);
    let options = ClientOptions::new();
    let connect = || options.connect(&gofer.socket);
    let mut only = None;
    eventually("the one that looked whether it listens has gone", || {
        only = connect().ok();
        only.is_some()
    });
    for _ in 0..3 {
        assert!(connect().is_err());
    }
    only.as_ref().unwrap().ping().unwrap();
    drop(only);
    eventually("there is room again", || connect().is_ok());
}

/// Whatever limits the machine has: who asks for too much is told so or waits, and when there is room
/// again, is served.
#[test]
fn a_process_that_may_have_no_more_descriptors_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "content").unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 40 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_lisafs-gofer"))
        // More than there can be.
        .args(["serve", "--log", "error", "--max-fds", "1000"])
        .args(["--max-total-fds", "1000000"]);
    let gofer = Gofer::spawn(command, dir, root);
    let options = ClientOptions::new().channels(0).donations(false);
    let client = gofer.connect(&options);
    let mut open = Vec::new();
    let refused = loop {
        match OpenOptions::new().read(true).open(&client, "file") {
            Ok(file) => open.push(file),
            Err(why) => break why,
        }
        assert!(open.len() < 40, "{} files are open", open.len());
    };
    assert_eq!(refused.errno(), Errno::EMFILE);
    // In the queue of the socket.
    let waiting = [(); 50].map(|()| UnixStream::connect(&gofer.socket).unwrap());
    client.root().stat().unwrap();
    drop((open, waiting));
    eventually("there is room again", || {
        client.read("file").is_ok_and(|read| read == b"content")
    });
    let other = gofer.connect(&options);
    assert_eq!(other.read("file").unwrap(), b"content");
}
