//! `--trace`.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use lisafs::client::{Client, ClientOptions};
use tempfile::TempDir;

use crate::process::{command, wait};

/// A gofer that traces, for one client.
fn traced(stderr: Stdio) -> (TempDir, Child, Client) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "some data").unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let gofer = command()
        .args(["--trace", "--fd", "0"])
        .arg(dir.path())
        .stdin(OwnedFd::from(theirs))
        .stderr(stderr)
        .spawn()
        .unwrap();
    let options = ClientOptions::new().channels(1).donations(false);
    (dir, gofer, options.from_stream(ours).unwrap())
}

#[test]
fn each_request_is_a_line() {
    let (_dir, mut gofer, client) = traced(Stdio::piped());
    assert_eq!(client.read("file").unwrap(), b"some data");
    assert!(client.metadata("x").is_err());
    drop(client);
    let mut trace = String::new();
    let mut stderr = gofer.stderr.take().unwrap();
    stderr.read_to_string(&mut trace).unwrap();
    assert_eq!(wait(&mut gofer).code(), Some(0));
    for part in [
        " socket 1 Mount() = {root={control_fd=1, stat={",
        " socket 1 Channel() = {data_offset=0, data_length=",
        " channel 1.0 Walk(dir_fd=1, path=[\"file\"]) = {status=WALK_SUCCESS, inodes=[{",
        " flags=O_RDONLY) = {open_fd=",
        ") = {data=9 bytes} <0.0",
        "path=[\"x\"]) = {status=WALK_COMPONENT_DOES_NOT_EXIST, inodes=[]} <",
    ] {
        assert!(trace.contains(part), "{part}: {trace}");
    }
    let longest = trace.lines().map(str::len).max();
    assert!(longest < Some(512), "{trace}");
}

#[test]
fn a_trace_that_nobody_takes_is_no_obstacle() {
    // A pipe has room for some hundred lines.
    let (_reader, writer) = std::io::pipe().unwrap();
    let (_dir, mut gofer, client) = traced(writer.into());
    let root = client.root();
    for _ in 0..10_000 {
        root.stat().unwrap();
    }
    drop(root);
    drop(client);
    assert_eq!(wait(&mut gofer).code(), Some(0));
}
