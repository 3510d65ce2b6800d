//! What is left when something ends too early.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Fixture, eventually, lisafs};

/// A put that has written a part of its file, and waits for the rest.
fn half_done(put: &mut Command, at: &Fixture) -> Child {
    let mut child = put.stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(&[b'x'; 100_000]).unwrap();
    eventually("a part is written", || {
        let mut entries = fs::read_dir(at.root()).unwrap();
        entries.any(|entry| entry.unwrap().metadata().is_ok_and(|found| found.len() > 0))
    });
    child
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// The tool with the signals as a shell in the foreground leaves them, or ignored: env(1) sets either.
fn with_signals(signals: &str, command: &Command) -> Command {
    let mut env = Command::new("env");
    env.arg(format!("--{signals}-signal=HUP,INT,TERM"));
    env.arg(command.get_program()).args(command.get_args());
    env
}

fn put(at: &Fixture, signals: &str) -> Command {
    with_signals(signals, &at.command(&["put", "-", "target"]))
}

#[test]
fn an_interrupted_put_leaves_nothing() {
    for sent in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let at = Fixture::new();
        let mut put = half_done(&mut put(&at, "default"), &at);
        assert!(!at.served("target").exists());
        signal(&put, sent);
        // Waiting closes it otherwise, which would complete the file.
        let _stdin = put.stdin.take();
        // It dies of the signal, as shells expect.
        assert_eq!(put.wait().unwrap().signal(), Some(sent as i32));
        assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0, "{sent}");
    }
}

/// As nohup(1) has it, and a shell that does not control jobs for those in the background.
#[test]
fn signals_that_are_ignored_interrupt_nothing() {
    let at = Fixture::new();
    let mut put = half_done(&mut put(&at, "ignore"), &at);
    for sent in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signal(&put, sent);
    }
    drop(put.stdin.take());
    assert!(put.wait().unwrap().success());
    assert_eq!(fs::metadata(at.served("target")).unwrap().len(), 100_000);
}

/// The case that is running is asked to its end, and removes what it has made.
#[test]
fn an_interrupted_conform_leaves_nothing_and_says_what_it_knows() {
    for sent in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let at = Fixture::new();
        let mut conform = with_signals("default", &at.command(&["--json", "conform"]));
        let conform = conform.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut conform = conform.spawn().unwrap();
        let mut lines = BufReader::new(conform.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.contains("\"case\""), "{first}");
        signal(&conform, sent);
        let last = lines.last().unwrap().unwrap();
        assert!(last.contains("\"areas\""), "{last}");
        let done = conform.wait_with_output().unwrap();
        assert_eq!(done.status.signal(), Some(sent as i32));
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains("interrupted: "), "{said}");
        assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0, "{sent}");
    }
}

#[test]
fn an_interrupted_put_leaves_what_was_there() {
    let at = Fixture::new();
    fs::write(at.served("target"), "").unwrap();
    let mut put = half_done(&mut put(&at, "default"), &at);
    signal(&put, Signal::SIGTERM);
    let _stdin = put.stdin.take();
    put.wait().unwrap();
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 1);
    assert_eq!(fs::metadata(at.served("target")).unwrap().len(), 0);
}

#[test]
fn a_put_that_fails_leaves_nothing() {
    let at = Fixture::new();
    // A directory opens, and does not read.
    let mut put = at.command(&["put", "-", "target"]);
    let failed = crate::fixture::done(put.stdin(File::open(at.root()).unwrap()));
    failed.says_no("lisafs: -: Is a directory\n");
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0);
}

#[test]
fn a_server_that_dies_is_noticed() {
    let at = Fixture::new();
    let socket = at.path("socket");
    let mut gofer = lisafs()
        .args(["internal-gofer", "serve", "--log", "error", "--listen"])
        .args([&socket, &at.root()])
        .spawn()
        .unwrap();
    eventually("the gofer listens", || UnixStream::connect(&socket).is_ok());
    let mut put = lisafs();
    put.arg("--connect")
        .arg(&socket)
        .args(["put", "-", "target"]);
    let mut put = half_done(put.stderr(Stdio::piped()), &at);
    gofer.kill().unwrap();
    gofer.wait().unwrap();
    // Not only at the end, before which there may be much to write for nobody.
    let mut stdin = put.stdin.take().unwrap();
    let why = (0..64).find_map(|_| stdin.write_all(&[0; 1 << 20]).err());
    assert_eq!(why.unwrap().kind(), ErrorKind::BrokenPipe);
    let output = put.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.starts_with("lisafs: target: "), "{message}");
    assert!(!at.served("target").exists());
}

/// Somebody has stopped the server, and so it does not see that the connection has ended.
#[test]
fn a_private_server_that_is_stopped_is_waited_for_and_killed() {
    let at = Fixture::new();
    let mut shell = at.command(&["shell"]);
    let mut shell = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    stdin.write_all(b"mkdir a\nls\n").unwrap();
    let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "a");
    let children = format!("/proc/{0}/task/{0}/children", shell.id());
    let server = fs::read_to_string(children).unwrap();
    let server = Pid::from_raw(server.trim().parse().unwrap());
    kill(server, Signal::SIGSTOP).unwrap();
    drop(stdin);
    assert!(shell.wait().unwrap().success());
    assert_eq!(kill(server, None), Err(Errno::ESRCH));
}
