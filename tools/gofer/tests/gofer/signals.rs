//! How a gofer ends.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use lisafs::Errno;
use lisafs::client::{Client, ClientOptions, OpenOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{Gofer, command, eventually, wait, within};

#[test]
fn a_signal_ends_it_and_removes_the_socket() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut gofer = Gofer::listen(&[]);
        let client = gofer.connect(&ClientOptions::new());
        gofer.signal(signal);
        assert_eq!(gofer.wait().code(), Some(0), "{signal}");
        assert!(!gofer.socket.exists(), "{signal}");
        assert_eq!(client.metadata("/x").unwrap_err().errno(), Errno::EIO);
    }
}

#[test]
fn a_signal_ends_one_that_serves_an_inherited_socket() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut gofer = command()
        .args(["--fd", "0"])
        .arg(dir.path())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let client = Client::from_stream(ours).unwrap();
    let pid = Pid::from_raw(gofer.id().try_into().unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(wait(&mut gofer).code(), Some(0));
    assert_eq!(client.metadata("/x").unwrap_err().errno(), Errno::EIO);
}

/// The process that removes the socket ends then, and nobody has to wait for it.
#[test]
fn one_that_serves_no_new_clients_has_no_children() {
    let gofer = Gofer::listen(&["--sandbox", "best-effort"]);
    let pid = gofer.pid();
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let client = gofer.connect(&ClientOptions::new());
    assert_ne!(children(), "");
    gofer.signal(Signal::SIGUSR2);
    eventually("the children are gone", || children().is_empty());
    assert!(!gofer.socket.exists());
    client.root().stat().unwrap();
}

/// How much each of two clients has written when the signal comes: what the files hold, and what
/// was answered.
fn written_until_the_signal(channels: usize) -> Vec<(u64, u64)> {
    let mut gofer = Gofer::listen(&[]);
    let options = ClientOptions::new().channels(channels).donations(false);
    let answered = [AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        for (number, answered) in answered.iter().enumerate() {
            let client = gofer.connect(&options);
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&client, format!("{number}"))
                .unwrap();
            scope.spawn(move || {
                let failure = loop {
                    let offset = answered.load(Relaxed);
                    match file.write_at(b"x", offset) {
                        Ok(written) => answered.store(offset + written as u64, Relaxed),
                        Err(why) => break why,
                    }
                };
                // Between the signal and the end of a channel the server says so itself.
                assert!(matches!(failure.errno(), Errno::EIO | Errno::ECONNRESET));
            });
        }
        eventually("both clients are at it", || {
            answered.iter().all(|answered| answered.load(Relaxed) > 100)
        });
        gofer.signal(Signal::SIGTERM);
    });
    assert_eq!(gofer.wait().code(), Some(0));
    let answered = answered.iter().enumerate();
    answered
        .map(|(number, answered)| {
            let written = fs::metadata(gofer.root.join(format!("{number}"))).unwrap();
            (written.len(), answered.load(Relaxed))
        })
        .collect()
}

#[test]
fn requests_on_sockets_are_answered_when_the_signal_comes_while_they_run() {
    for (written, answered) in written_until_the_signal(0) {
        assert_eq!(written, answered);
    }
}

/// Also to a client that sees the end of the socket before it looks at the reply.
#[test]
fn requests_on_channels_are_answered_when_the_signal_comes_while_they_run() {
    for (written, answered) in written_until_the_signal(1) {
        assert_eq!(written, answered);
    }
}

#[test]
fn a_killed_server_is_an_error_within_a_second() {
    for channels in [0, 2] {
        let gofer = Gofer::listen(&[]);
        let client = gofer.connect(&ClientOptions::new().channels(channels));
        let done = AtomicU64::new(0);
        thread::scope(|scope| {
            let callers = [(); 2].map(|()| {
                scope.spawn(|| {
                    let root = client.root();
                    loop {
                        match root.stat() {
                            Ok(_) => done.fetch_add(1, Relaxed),
                            Err(why) => break why.errno(),
                        };
                    }
                })
            });
            eventually("the callers are at it", || done.load(Relaxed) > 100);
            gofer.kill();
            let has_noticed = || callers.iter().all(ScopedJoinHandle::is_finished);
            assert!(within(Duration::from_secs(1), has_noticed));
            for caller in callers {
                assert_eq!(caller.join().unwrap(), Errno::EIO);
            }
        });
    }
}
