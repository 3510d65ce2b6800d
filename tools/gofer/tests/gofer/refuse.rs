//! Command lines and descriptors that cannot be served.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output, Stdio};

use crate::process::command;

/// The message of a gofer that refuses to start.
fn refusal(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{message}");
    message
}

#[test]
fn bad_command_lines_are_refused_with_the_reason() {
    for (arguments, reason) in [
        (&["/"][..], "--listen"),
        (&["--listen", "/x"], "<DIR>"),
        (&["--listen", "/x", "--fd", "0", "/"], "cannot be used with"),
        (&["--fd", "x", "/"], "invalid"),
        (&["--fd", "-1", "/"], "-1"),
        (
            &["--fd", "0", "--host-uds", "some", "/"],
            "none, open, create, all",
        ),
        (&["--fd", "0", "--host-fifo", "all", "/"], "none, open"),
        (
            &["--fd", "0", "--character-devices", "x", "/"],
            "none, open",
        ),
        (&["--fd", "0", "--max-channels", "0", "/"], "at least 1"),
        (&["--fd", "0", "--max-ids", "0", "/"], "at least 1"),
        (&["--fd", "0", "--max-fds", "0", "/"], "at least 1"),
        (&["--fd", "0", "--max-total-fds", "0", "/"], "at least 1"),
        (&["--fd", "0", "--max-total-ids", "0", "/"], "at least 1"),
        (&["--fd", "0", "--max-donations", "1", "/"], "2..=500"),
        (&["--fd", "0", "--max-donations", "501", "/"], "2..=500"),
        (
            &["--fd", "0", "--max-connections", "many", "/"],
            "invalid digit",
        ),
        (&["--fd", "0", "--wait", "sometimes", "/"], "adaptive"),
        (
            &["--fd", "0", "--sandbox", "loose", "/"],
            "strict, best-effort, off",
        ),
        (&["--fd", "0", "--log", "loud", "/"], "loud"),
    ] {
        let gofer = env!("CARGO_BIN_EXE_lisafs-gofer");
        let message = refusal(Command::new(gofer).arg("serve").args(arguments));
        assert!(message.contains(reason), "{arguments:?}: {message}");
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    let null = || Stdio::from(File::open("/dev/null").unwrap());
    let message = refusal(command().args(["--fd", "0", "/"]).stdin(null()));
    assert!(message.contains("not a Unix stream socket"), "{message}");

    let (datagram, _peer) = UnixDatagram::pair().unwrap();
    let datagram = Stdio::from(OwnedFd::from(datagram));
    let message = refusal(command().args(["--fd", "0", "/"]).stdin(datagram));
    assert!(message.contains("not a Unix stream socket"), "{message}");

    let message = refusal(command().args(["--fd", "99", "/"]));
    assert!(message.contains("no such descriptor"), "{message}");

    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let mut few = command();
    few.args(["--max-total-fds", "60", "--listen"]);
    let message = refusal(few.arg(&socket).arg(dir.path()));
    assert!(message.contains("one client takes 61"), "{message}");
    let mut few = command();
    few.args(["--max-total-ids", "1023", "--listen"]);
    let message = refusal(few.arg(&socket).arg(dir.path()));
    assert!(message.contains("one client takes 1024"), "{message}");
    let nowhere = dir.path().join("nowhere");
    let message = refusal(command().arg("--listen").arg(&socket).arg(&nowhere));
    assert!(message.contains("nowhere: No such file"), "{message}");
    assert!(!socket.exists(), "it listened all the same");

    let again = dir.path().join("./socket");
    let mut twice = command();
    twice.arg("--metrics").arg(&again).arg("--listen");
    let message = refusal(twice.arg(&socket).arg(dir.path()));
    assert!(message.contains("name the same socket"), "{message}");
    assert!(!socket.exists(), "it is left behind");
}

#[test]
fn that_there_is_no_sandbox_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let gofer = env!("CARGO_BIN_EXE_lisafs-gofer");
    let nowhere = dir.path().join("no/socket");
    let mut command = Command::new(gofer);
    command.args(["serve", "--sandbox", "off", "--listen"]);
    let message = refusal(command.arg(nowhere).arg(dir.path()));
    assert!(message.contains("there is no sandbox"), "{message}");
}

/// With nowhere to listen, so that it ends.
#[test]
fn limits_that_cannot_be_kept_are_told() {
    let dir = tempfile::tempdir().unwrap();
    for (options, said) in [
        (
            ["--max-fds", "900"],
            &["clients can hold more", "clients=16"][..],
        ),
        (["--max-fds", "1001"], &["--max-fds is more", "clients=16"]),
        (
            ["--max-total-fds", "1001"],
            &["--max-total-fds is more", "clients=16"],
        ),
        (
            ["--max-total-ids", "2047"],
            &["ids for fewer", "clients=1\n"],
        ),
        (["--max-connections", "12"], &[]),
        (
            ["--max-connections", "13"],
            &["descriptors for fewer", "clients=12"],
        ),
    ] {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n 1000 && exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_lisafs-gofer"))
            .args(["serve", "--log", "info"])
            .args(options)
            .arg("--listen")
            .arg(dir.path().join("no/socket"))
            .arg(dir.path());
        let message = refusal(&mut command);
        for words in said {
            assert!(message.contains(words), "{options:?}: {message}");
        }
        let told = ["clients can", "is more", "fewer"];
        let none = !told.iter().any(|words| message.contains(words));
        assert_eq!(none, said.is_empty(), "{options:?}: {message}");
    }
}
