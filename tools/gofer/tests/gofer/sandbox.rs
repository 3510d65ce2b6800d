//! What a gofer in its sandbox looks like from outside, and what it takes no notice of.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use lisafs::Errno;
use lisafs::client::{ClientOptions, Create, SetAttributes};
use lisafs::wire::Mid;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::SockType;
use nix::unistd::geteuid;
use serde_json::Value;
use tempfile::tempdir;

use crate::process::{Gofer, Status, eventually, sees_inside, wait};
use crate::skipped::skip;
use crate::tracer::{HELD, before_first_read, may_trace};

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

/// What of its sandbox can be seen of a gofer.
struct Seen {
    threads: Vec<Status>,
    core: Vec<String>,
    /// The device and the number of the root: not for everybody to see, as a gofer is not dumpable.
    root: Result<(u64, u64), ErrorKind>,
}

impl Seen {
    fn of(pid: u32) -> Seen {
        let root = fs::metadata(format!("/proc/{pid}/root"));
        Seen {
            threads: Status::of_threads(pid),
            core: limits(pid, "Max core file size"),
            root: root
                .map(|root| (root.dev(), root.ino()))
                .map_err(|why| why.kind()),
        }
    }

    /// # Panics
    /// If anything is missing, for `test`, of the sandbox of a gofer that serves `root`.
    fn assert_locked_in(&self, root: &Path, test: &str) {
        let is_root = geteuid().is_root();
        let permitted = if is_root { FOR_FILES } else { 0 };
        for thread in &self.threads {
            let name = thread.get("Name");
            assert_eq!(thread.get("NoNewPrivs"), "1", "{name}");
            assert_eq!(thread.get("Seccomp"), "2", "{name}");
            assert_eq!(thread.get("Umask"), "0000", "{name}");
            let capabilities = |set| u64::from_str_radix(thread.get(set), 16).unwrap();
            for set in ["CapInh", "CapAmb"] {
                assert_eq!(capabilities(set), 0, "{name}: {set}");
            }
            for set in ["CapPrm", "CapEff"] {
                assert_eq!(capabilities(set) & !permitted, 0, "{name}: {set}");
            }
            if is_root {
                assert_eq!(capabilities("CapBnd") & !permitted, 0, "{name}: CapBnd");
                assert_eq!(thread.get("Groups"), "", "{name}");
            }
        }
        assert_eq!(self.core, ["0", "0", "bytes"]);
        if sees_inside() {
            let root = fs::metadata(root).unwrap();
            assert_eq!(self.root, Ok((root.dev(), root.ino())));
        } else {
            skip(test, "to see the root of a gofer takes CAP_SYS_PTRACE");
            assert_eq!(self.root, Err(ErrorKind::PermissionDenied));
        }
    }
}

#[test]
fn a_gofer_is_locked_in_unless_told_otherwise() {
    let gofer = enclosed(&["--readonly"]);
    let test = "a_gofer_is_locked_in_unless_told_otherwise";
    Seen::of(gofer.pid()).assert_locked_in(&gofer.root, test);
    if geteuid().is_root() {
        let mounts = mounts(gofer.pid());
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        for attribute in ["ro", "nosuid", "nodev"] {
            assert!(mounts[0].iter().any(|it| it == attribute), "{mounts:?}");
        }
    }
}

/// All threads are locked in before one of them reads what a client has sent: before the process was there,
/// or since there has been a socket to connect to.
#[test]
fn the_first_byte_of_a_client_is_read_from_inside() {
    let test = "the_first_byte_of_a_client_is_read_from_inside";
    if !may_trace() {
        return skip(test, "ptrace(2) is not permitted");
    }
    let dir = tempdir().unwrap();
    let (socket, root) = (dir.path().join("socket"), dir.path().join("root"));
    fs::create_dir(&root).unwrap();
    // Mount, which has no payload.
    let [low, high] = Mid::MOUNT.0.to_le_bytes();
    let frame = [0, 0, 0, 0, low, high, 0, 0];
    for reached in [&["--fd", "0"], &["--listen", socket.to_str().unwrap()]] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let gofer = Command::new(HELD[0])
            .args(&HELD[1..])
            .arg(env!("CARGO_BIN_EXE_lisafs-gofer"))
            .args(["serve", "--sandbox", "strict"])
            .args(reached)
            .arg(&root)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let client = || {
            let mut client = None;
            eventually("the gofer listens", || {
                client = UnixStream::connect(&socket).ok();
                client.is_some()
            });
            let mut client = client.unwrap();
            client.write_all(&frame).unwrap();
            // Until the gofer is ended, in the middle of this or not.
            let _ = client.read_to_end(&mut Vec::new());
        };
        let seen = thread::scope(|scope| {
            let release = || {
                ours.write_all(b"\n").unwrap();
                match reached[0] {
                    "--fd" => ours.write_all(&frame).unwrap(),
                    _ => drop(scope.spawn(client)),
                }
            };
            before_first_read(gofer, 8, release, Seen::of)
        });
        seen.assert_locked_in(&root, test);
    }
}

/// With fewer open files to begin with, it takes as many as whoever started it permits, and no more.
#[test]
fn it_may_have_as_many_files_open_as_it_was_permitted() {
    let dir = tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -Sn 100 && ulimit -Hn 500 && exec \"$@\"",
            "sh",
        ])
        .arg(env!("CARGO_BIN_EXE_lisafs-gofer"))
        .args(["serve", "--sandbox", "strict"]);
    let gofer = Gofer::spawn(command, dir, root);
    assert_eq!(
        limits(gofer.pid(), "Max open files"),
        ["500", "500", "files"]
    );
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
    if sees_inside() {
        let fds = fs::read_dir(format!("/proc/{}/fd", gofer.pid())).unwrap();
        let open: Vec<_> = fds
            .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
            .collect();
        assert!(
            !open.iter().any(|open| open == Path::new("/etc")),
            "{open:?}"
        );
    } else {
        let test = "what_it_inherits_has_no_effect";
        skip(test, "to see what a gofer has open takes CAP_SYS_PTRACE");
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
