//! What a gofer in its sandbox looks like from outside, and what it takes no notice of.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use lisafs::Errno;
use lisafs::client::{ClientOptions, Create, SetAttributes};
use lisafs::wire::Mid;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::SockType;
use nix::unistd::geteuid;
use serde_json::Value;
use tempfile::tempdir;

use crate::process::{Gofer, PATIENCE, Status, eventually, wait};

/// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER and FSETID.
const FOR_FILES: u64 = 0x1f;

fn status(pid: u32, name: &str) -> String {
    Status::of(pid).get(name).to_owned()
}

/// Soft, hard, and the unit.
fn limits(pid: u32, name: &str) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    let words = line.unwrap().split_whitespace();
    words.map(str::to_owned).collect()
}

/// The attributes of all mounts that a process sees.
fn mounts(pid: u32) -> Vec<Vec<String>> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let options = |line: &str| line.split(' ').nth(5).unwrap().to_owned();
    let split = |options: String| options.split(',').map(str::to_owned).collect();
    mounts.lines().map(options).map(split).collect()
}

/// Serves one request, so that it is inside.
fn enclosed(options: &[&str]) -> Gofer {
    let gofer = Gofer::listen(options);
    gofer.connect(&ClientOptions::new()).root().stat().unwrap();
    gofer
}

#[test]
fn a_gofer_is_locked_in_unless_told_otherwise() {
    let gofer = enclosed(&["--readonly"]);
    let pid = gofer.pid();
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "Seccomp"), "2");
    assert_eq!(status(pid, "Umask"), "0000");
    assert_eq!(limits(pid, "Max core file size"), ["0", "0", "bytes"]);
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
    let capabilities = |set| u64::from_str_radix(&status(pid, set), 16).unwrap();
    if !geteuid().is_root() {
        assert_eq!(capabilities("CapPrm"), 0);
    } else {
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(capabilities(set) & !FOR_FILES, 0, "{set}");
        }
        assert_eq!(status(pid, "Groups"), "");
        let mounts = mounts(pid);
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        for attribute in ["ro", "nosuid", "nodev"] {
            assert!(mounts[0].iter().any(|it| it == attribute), "{mounts:?}");
        }
    }
}

/// What a client has sent before the process was there is read when all of its threads are locked in.
#[test]
fn the_first_byte_of_a_client_is_read_from_inside() {
    let dir = tempdir().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    // Mount, which has no payload.
    let [low, high] = Mid::MOUNT.0.to_le_bytes();
    ours.write_all(&[0, 0, 0, 0, low, high, 0, 0]).unwrap();
    let mut gofer = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"))
        .args(["serve", "--fd", "0"])
        .arg(dir.path())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let mut reply = [0; 8];
    ours.read_exact(&mut reply).unwrap();
    assert_eq!(reply[4..6], [low, high]);
    let threads = Status::of_threads(gofer.id());
    assert!(threads.len() > 1, "who has answered?");
    for thread in threads {
        assert_eq!(thread.get("NoNewPrivs"), "1");
        assert_eq!(thread.get("Seccomp"), "2");
        let capabilities = u64::from_str_radix(thread.get("CapPrm"), 16).unwrap();
        assert_eq!(capabilities & !FOR_FILES, 0);
    }
    // It is not dumpable: what is told of it belongs to root.
    if !geteuid().is_root() {
        let refused = fs::read_dir(format!("/proc/{}/fd", gofer.id())).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    }
    drop(ours);
    assert!(wait(&mut gofer).success());
}

/// A user namespace would show all owners but one as nobody.
#[test]
fn owners_are_what_they_are_outside() {
    let gofer = Gofer::serve(Path::new("/usr"), &[]);
    let client = gofer.connect(&ClientOptions::new());
    let seen = client.symlink_metadata("share").unwrap();
    let outside = fs::symlink_metadata("/usr/share").unwrap();
    assert_eq!((seen.uid, seen.gid), (outside.uid(), outside.gid()));
    let root = client.root().stat().unwrap();
    assert_eq!(root.ino, fs::metadata("/usr").unwrap().ino());
}

#[test]
fn without_a_sandbox_nothing_is_filtered() {
    let gofer = enclosed(&["--sandbox", "off"]);
    assert_eq!(status(gofer.pid(), "Seccomp"), "0");
}

/// A gofer in whose environment and descriptors is what has been used against others.
#[test]
fn what_it_inherits_has_no_effect() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    let inherited: Vec<OwnedFd> = (0..20)
        .map(|_| {
            let file = OwnedFd::from(File::open("/etc").unwrap());
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            file
        })
        .collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
    command.args(["serve", "--log", "error"]).envs([
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
        ("MALLOC_ARENA_MAX", "1"),
        ("LISTEN_FDS", "3"),
        ("LISTEN_PID", "1"),
        ("LISAFS_WAIT", "nonsense"),
        ("LISAFS_TRACE", "1"),
        ("TZ", "/etc/passwd"),
    ]);
    let root = dir.path().join("root");
    let log = dir.path().join("log");
    command.stderr(File::create(&log).unwrap());
    let gofer = Gofer::spawn(command, dir, root);
    let client = gofer.connect(&ClientOptions::new());
    client.write("new", b"data").unwrap();
    client.read("none").unwrap_err();
    // Nor does it say more than it was told to.
    assert_eq!(fs::read_to_string(log).unwrap(), "");
    assert!(inherited.iter().all(|file| file.as_raw_fd() > 2));
    if geteuid().is_root() {
        let fds = fs::read_dir(format!("/proc/{}/fd", gofer.pid())).unwrap();
        let open: Vec<_> = fds
            .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
            .collect();
        assert!(
            !open.iter().any(|open| open == Path::new("/etc")),
            "{open:?}"
        );
    }
}

/// What is not for it to end by, whoever sends it.
#[test]
fn a_file_that_may_not_grow_and_a_peer_that_is_gone_are_errors() {
    let dir = tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -f 8 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_lisafs-gofer"))
        .args(["serve", "--sandbox", "strict"]);
    let gofer = Gofer::spawn(command, dir, root);
    // What is written through a donated descriptor is the client's to be limited.
    let options = ClientOptions::new().donations(false);
    let client = gofer.connect(&options);
    let long = client.write("long", vec![0; 1 << 20]).unwrap_err();
    assert_eq!(long.errno(), Errno::EFBIG);
    for signal in [Signal::SIGXFSZ, Signal::SIGPIPE] {
        gofer.signal(signal);
        client.read("long").unwrap();
        let ignored = u64::from_str_radix(&status(gofer.pid(), "SigIgn"), 16).unwrap();
        assert_ne!(ignored & (1 << (signal as i32 - 1)), 0, "{signal}");
    }
    drop(client);
    gofer.connect(&options).root().stat().unwrap();
}

/// Whether a server that goes without no layer answers a client.
fn starts(dir: &Path) -> bool {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut gofer = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"))
        .args(["serve", "--sandbox", "strict", "--fd", "0"])
        .arg(dir)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let answered = ClientOptions::new().from_stream(ours).is_ok();
    assert_eq!(wait(&mut gofer).success(), answered);
    answered
}

#[test]
fn check_says_that_it_would_start_where_it_starts() {
    let gofer = env!("CARGO_BIN_EXE_lisafs-gofer");
    let check = |dir: &Path| {
        let mut check = Command::new(gofer);
        check.args(["check", "--json"]).arg(dir).output().unwrap()
    };
    let empty = tempdir().unwrap();
    let file = empty.path().join("file");
    fs::write(&file, "").unwrap();
    let agreed = |place: &Path| {
        let output = check(place);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["strict"], output.status.success());
        assert_eq!(found["layers"].as_array().unwrap().len(), 8);
        let starts = starts(place);
        assert_eq!(found["strict"], starts, "{}", place.display());
        starts
    };
    agreed(Path::new("/"));
    // All that is served can be locked in, or nothing.
    assert_eq!(agreed(empty.path()), agreed(&file));
    let missing = empty.path().join("missing");
    assert_eq!(check(&missing).status.code(), Some(2));
    assert!(!starts(&missing));
}

/// What clients may do with special files takes more, of which `check` tells as well.
#[test]
fn check_tries_what_serve_would_be_given() {
    let dir = tempdir().unwrap();
    let layer = |name: &str, options: &[&str]| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
        check
            .args(["check", "--json"])
            .args(options)
            .arg(dir.path());
        let output = check.output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let layers = found["layers"].as_array().unwrap().iter();
        let mut layer = layers.filter(|layer| layer["layer"] == name && layer["in_force"] == true);
        layer
            .next()
            .map(|layer| layer["what"].as_str().unwrap().to_owned())
    };
    // Where the mounts cannot be made there is nothing to tell of them.
    if let Some(mounts) = layer("pivot_root", &[]) {
        assert!(mounts.contains("nodev"), "{mounts}");
        let mounts = layer("pivot_root", &["--character-devices", "open"]).unwrap();
        assert!(!mounts.contains("nodev"), "{mounts}");
        assert!(mounts.contains("nosuid"), "{mounts}");
    }
    let capabilities = |uds| layer("capabilities", &["--host-uds", uds]).unwrap();
    assert_eq!(capabilities("create"), layer("capabilities", &[]).unwrap());
    assert_eq!(
        capabilities("open").contains("connecting"),
        geteuid().is_root()
    );
    let mut refused = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
    refused.args(["check", "--host-uds", "perhaps"]);
    assert_eq!(refused.output().unwrap().status.code(), Some(2));
}

/// Somebody outside does it, whatever has become of the gofer.
#[test]
fn the_name_of_the_socket_goes_with_a_gofer_that_is_killed() {
    let gofer = enclosed(&[]);
    let dir = gofer.kill();
    eventually("the socket is gone", || !dir.path().join("socket").exists());
}

/// What the back end does in roundabout ways, since no path and no capability is left to it.
#[test]
fn what_takes_the_directory_of_descriptors_works_inside() {
    let gofer = enclosed(&["--host-uds", "all"]);
    let client = gofer.connect(&ClientOptions::new());
    client.write("file", b"data").unwrap();
    client.hard_link("file", "link").unwrap();
    assert_eq!(client.read("link").unwrap(), b"data");
    client.set_permissions("file", 0o640).unwrap();
    assert_eq!(
        client.symlink_metadata("file").unwrap().mode & 0o7777,
        0o640
    );
    client.symlink("file", "symlink").unwrap();
    let symlink = client.symlink_lookup("symlink").unwrap();
    // A symlink has no mode to change: an error, and not the end of the server.
    symlink
        .set_stat(&SetAttributes::new().mode(0o600))
        .unwrap_err();
    assert_eq!(
        client.symlink_metadata("file").unwrap().mode & 0o7777,
        0o640
    );
    // Longer than the address of a socket may be.
    let deep = ["d".repeat(150), "e".repeat(150)].join("/");
    client.create_dir(&deep[..150]).unwrap();
    client.create_dir(&deep).unwrap();
    let directory = client.symlink_lookup(&deep).unwrap();
    let (file, bound) = directory
        .bind("socket", Create::mode(0o600), SockType::Stream as i32)
        .unwrap();
    bound.listen(1).unwrap();
    file.connect(SockType::Stream as i32).unwrap();
}
