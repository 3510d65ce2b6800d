//! The gofer of a runsc, started as that starts it, but by a shell.

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lisafs::Errno;
use lisafs::client::ClientOptions;
use lisafs::wire::Mid;
use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::Need;
use crate::process::{Status, sees_inside, wait};
use crate::tracer::{HELD, before_first_read};

pub(crate) const TRIALS: &[(&str, Need, fn())] = &[
    (
        "a_sandbox_gets_a_root_that_is_mounted_read_only",
        Need::MountNamespaces,
        readonly_root,
    ),
    (
        "the_first_byte_of_a_sandbox_is_read_by_one_who_is_filtered",
        Need::Tracing,
        first_byte,
    ),
    (
        "all_threads_are_filtered_when_there_are_clients",
        Need::Nothing,
        filtered,
    ),
    (
        "what_is_not_mounted_read_only_is_not_donated",
        Need::Nothing,
        not_donated,
    ),
    (
        "requests_are_traced_into_the_debug_log",
        Need::Nothing,
        traced,
    ),
    (
        "failures_in_the_jail_are_told_with_the_time_of_the_host",
        Need::MountNamespaces,
        failure,
    ),
    (
        "a_way_to_wait_that_there_is_not_is_told_before_the_sandbox_starts",
        Need::Nothing,
        no_way_to_wait,
    ),
];

/// A bundle whose root has a file.
fn bundle() -> TempDir {
    let bundle = tempfile::tempdir().unwrap();
    fs::create_dir(bundle.path().join("root")).unwrap();
    fs::write(bundle.path().join("root/file"), "text").unwrap();
    let spec = r#"{"root":{"path":"root","readonly":true}}"#;
    fs::write(bundle.path().join("config.json"), spec).unwrap();
    bundle
}

/// What the descriptors are of: the shell makes them of files in the bundle.
const DONATED: &str =
    "exec 3<config.json 4>>log 6<&0 0</dev/null; exec \"$0\" runsc -- runsc-gofer \"$@\"";

/// Starts the gofer of a bundle: `around` is a program that changes what it starts in, and `mounts`
/// says how descriptor 5 is opened, over which it tells of mounts.
fn start(bundle: &Path, around: &[&str], mounts: &str, flags: &[&str]) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let words = [
        "/bin/sh",
        "-c",
        &format!("exec {mounts}; {DONATED}"),
        env!("CARGO_BIN_EXE_lisafs-gofer"),
    ];
    let mut words = around.iter().copied().chain(words);
    let child = Command::new(words.next().unwrap())
        .args(words)
        .args(flags)
        .args(["--log-fd=4", "--directfs=true", "gofer"])
        .args(["--gofer-mount-confs=lisafs:none", "--io-fds=6"])
        .args(["--spec-fd=3", "--mounts-fd=5", "--bundle"])
        .args([bundle, "id".as_ref()])
        .current_dir(bundle)
        .stdin(OwnedFd::from(theirs))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (child, ours)
}

/// Whether a process has a file open.
fn has_open(process: &Child, file: &Path) -> bool {
    let wanted = fs::metadata(file).unwrap();
    let open = fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
    let mut open = open.map(|entry| fs::metadata(entry.unwrap().path()));
    open.any(|open| open.is_ok_and(|open| (open.dev(), open.ino()) == (wanted.dev(), wanted.ino())))
}

/// What gives the gofer mounts of its own.
fn unshare() -> &'static [&'static str] {
    if geteuid().is_root() {
        &["unshare", "--mount", "--"]
    } else {
        &["unshare", "--user", "--map-root-user", "--mount", "--"]
    }
}

pub(crate) fn can_unshare() -> bool {
    let words = [unshare(), &["true"]].concat();
    let output = Command::new(words[0]).args(&words[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

fn readonly_root() {
    let bundle = bundle();
    // What the caller of runsc had open, too.
    let mounts = "5>mounts 8</etc";
    let (mut gofer, socket) = start(bundle.path(), unshare(), mounts, &[]);
    let client = ClientOptions::new()
        .channels(0)
        .from_stream(socket)
        .unwrap();
    assert!(client.root_fd().is_some());
    assert_eq!(client.read("file").unwrap(), b"text");
    // Who is not root has made the user namespace that the gofer is in.
    if sees_inside() || !geteuid().is_root() {
        assert!(
            !has_open(&gofer, &bundle.path().join("config.json")),
            "it could be opened again for writing"
        );
        assert!(!has_open(&gofer, "/etc".as_ref()), "it is a way out");
        assert!(has_open(&gofer, &bundle.path().join("log")));
    } else {
        eprintln!("skipped: to see what a gofer has open takes CAP_SYS_PTRACE");
    }
    assert_eq!(fs::read(bundle.path().join("mounts")).unwrap(), b"[]");
    drop(client);
    assert_eq!(wait(&mut gofer).code(), Some(0));
}

fn assert_filtered(threads: &[Status]) {
    for thread in threads {
        assert_eq!(thread.get("Seccomp"), "2");
        assert_eq!(thread.get("NoNewPrivs"), "1");
    }
}

/// What a sandbox has sent before the gofer was there is read when all threads are filtered.
fn first_byte() {
    let bundle = bundle();
    let flags = ["--TESTONLY-unsafe-nonroot=true"];
    let around = [&HELD[..], &["env", "LISAFS_TRACE=1"]].concat();
    let (gofer, mut socket) = start(bundle.path(), &around, "5>mounts", &flags);
    let [low, high] = Mid::MOUNT.0.to_le_bytes();
    let release = || {
        let sent = [b'\n', 0, 0, 0, 0, low, high, 0, 0];
        socket.write_all(&sent).unwrap();
    };
    let threads = before_first_read(gofer, 8, release, Status::of_threads);
    // With that of the trace, which there was before the filter.
    assert!(threads.len() > 2, "{} threads", threads.len());
    assert_filtered(&threads);
}

fn filtered() {
    let bundle = bundle();
    let flags = ["--TESTONLY-unsafe-nonroot=true", "--debug-log-fd=7"];
    let around = ["env", "LISAFS_TRACE=1"];
    let (mut gofer, socket) = start(bundle.path(), &around, "5>mounts 7>>debug", &flags);
    let client = ClientOptions::new()
        .channels(2)
        .from_stream(socket)
        .unwrap();
    assert_eq!(client.read("file").unwrap(), b"text");
    let threads = Status::of_threads(gofer.id());
    // The first one, that of the trace, and those of the connection.
    assert!(threads.len() > 3, "{} threads", threads.len());
    assert_filtered(&threads);
    let limits = fs::read_to_string(format!("/proc/{}/limits", gofer.id())).unwrap();
    let cores = limits.lines().find(|line| line.contains("core")).unwrap();
    let cores: Vec<_> = cores.split_whitespace().skip(4).take(2).collect();
    assert_eq!(cores, ["0", "0"], "{limits}");
    drop(client);
    assert_eq!(wait(&mut gofer).code(), Some(0));
    let log = fs::read_to_string(bundle.path().join("debug")).unwrap();
    let layers: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once("sandbox: "))
        .filter_map(|(_, said)| said.split_whitespace().next())
        .collect();
    let all = [
        "namespaces",
        "pivot_root",
        "groups",
        "capabilities",
        "process",
        "no_new_privs",
        "landlock",
        "seccomp",
    ];
    assert_eq!(layers, all, "{log}");
}

fn not_donated() {
    let bundle = bundle();
    let nonroot = ["--TESTONLY-unsafe-nonroot=true"];
    let (mut gofer, socket) = start(bundle.path(), &["env"], "5>mounts", &nonroot);
    let client = ClientOptions::new()
        .channels(0)
        .from_stream(socket)
        .unwrap();
    assert!(client.root_fd().is_none());
    let why = client.create_dir("new").unwrap_err();
    assert_eq!(why.errno(), Errno::EROFS);
    drop(client);
    assert_eq!(wait(&mut gofer).code(), Some(0));
}

fn traced() {
    let bundle = bundle();
    let flags = ["--TESTONLY-unsafe-nonroot=true", "--debug-log-fd=7"];
    let around = ["env", "LISAFS_TRACE=1"];
    let donated = "5>mounts 7>>debug";
    let (mut gofer, socket) = start(bundle.path(), &around, donated, &flags);
    let client = ClientOptions::new()
        .channels(0)
        .donations(false)
        .from_stream(socket)
        .unwrap();
    assert_eq!(client.read("file").unwrap(), b"text");
    drop(client);
    assert_eq!(wait(&mut gofer).code(), Some(0));
    let log = fs::read_to_string(bundle.path().join("debug")).unwrap();
    let traced = |line: &&str| line.starts_with('I') && line.contains(" socket 1 PRead(offset=0, ");
    assert!(log.lines().any(|line| traced(&line)), "{log}");
}

/// A file of the time zone database: an offset that nobody has.
fn time_zone() -> Vec<u8> {
    let mut file = b"TZif".to_vec();
    file.resize(20, 0);
    for count in [0_u32, 0, 0, 0, 1, 4] {
        file.extend(count.to_be_bytes());
    }
    file.extend(45240_u32.to_be_bytes());
    file.extend(b"\0\0ODD\0");
    file
}

fn failure() {
    let bundle = bundle();
    fs::create_dir(bundle.path().join("root/etc")).unwrap();
    fs::write(bundle.path().join("root/etc/localtime"), time_zone()).unwrap();
    // What cannot be written to is found out about when there is no way back.
    let (mut gofer, _socket) = start(bundle.path(), unshare(), "5</dev/null", &[]);
    assert_eq!(wait(&mut gofer).code(), Some(128));
    let log = fs::read_to_string(bundle.path().join("log")).unwrap();
    let line: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!(line["level"], "error");
    assert!(
        line["msg"].as_str().unwrap().contains("of the mounts"),
        "{log}"
    );
    assert!(!line["time"].as_str().unwrap().ends_with("+12:34"), "{log}");
}

fn no_way_to_wait() {
    let bundle = bundle();
    let nonroot = ["--TESTONLY-unsafe-nonroot=true"];
    let around = ["env", "LISAFS_WAIT=never"];
    let (mut gofer, _socket) = start(bundle.path(), &around, "5>mounts", &nonroot);
    assert_eq!(wait(&mut gofer).code(), Some(128));
    let log = fs::read_to_string(bundle.path().join("log")).unwrap();
    assert!(
        log.contains("LISAFS_WAIT") && log.contains("adaptive"),
        "{log}"
    );
    let mounts = fs::read(bundle.path().join("mounts")).unwrap();
    assert_eq!(mounts, b"", "runsc waits for them");
}
