//! What cannot be measured, and the exit status.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Fixture, array, bench, gofer, results, stderr};

#[test]
fn what_a_server_refuses_is_said_and_the_rest_is_measured() {
    let at = Fixture::new();
    let closed = gofer("closed", "--host-uds none");
    let arguments = ["--ops", "bind,fstat", "--count", "6", "--versus", &closed];
    let done = at.command(&arguments).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(
        stderr(&done).starts_with("lisafs-bench: closed: bind: "),
        "{done:?}"
    );
    let report = at.written();
    assert_eq!(array(&report["refused"]).len(), 1);
    assert_eq!(results(&report).len(), 1);
    assert_eq!(array(&report["measured"][1]["results"]).len(), 2);
    assert!(at.left().is_empty());
}

#[test]
fn a_server_that_is_not_there_is_trouble() {
    let at = Fixture::new();
    let nowhere = at.path("nowhere");
    let absent = bench().arg("--connect").arg(&nowhere).output().unwrap();
    assert_eq!(absent.status.code(), Some(2));
    assert!(stderr(&absent).contains("nowhere"), "{absent:?}");
    let failing = ["--versus", "broken: exit 7 # {socket}"];
    let failed = at.command(&failing).output().unwrap();
    assert_eq!(failed.status.code(), Some(2));
    let wanted = "lisafs-bench: broken: the server ended: exit status: 7\n";
    assert_eq!(stderr(&failed), wanted);
    assert!(at.left().is_empty());
}

#[test]
fn a_wrong_command_line_is_trouble() {
    for arguments in [
        &["--ops", "nonsense"][..],
        &["--mix", "nonsense"],
        &["--wait", "nonsense"],
        &["--count", "0"],
        &["--versus", "no socket"],
        &["--connect", "a", "--serve", "b"],
        &["--connect", "a", "--server-waits"],
    ] {
        let done = bench().args(arguments).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
        assert!(!done.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_is_no_trouble() {
    let done = bench().arg("--help").output().unwrap();
    assert_eq!(done.status.code(), Some(0));
    assert!(String::from_utf8(done.stdout).unwrap().contains("--versus"));
}

#[test]
fn a_closed_pipe_is_success() {
    let at = Fixture::new();
    let mut child = at
        .command(&["--ops", "fstat", "--count", "10"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let at = Fixture::new();
    let mut child = at
        .command(&["--ops", "fstat", "--seconds", "3600"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Until it is at work.
    while at.left().is_empty() {
        assert_eq!(child.try_wait().unwrap(), None);
        thread::sleep(Duration::from_millis(1));
    }
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert_eq!(stderr(&done), "lisafs-bench: interrupted\n");
    assert!(at.left().is_empty());
    assert!(fs::metadata(at.path("report.json")).is_err());
}
