//! The programs of `examples/`, run as their users run them.
//!
//! `cargo test` builds them; for this test alone, `cargo build --examples` has to come first.
#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lisafs::Errno;
use lisafs::client::Client;
use lisafs::host::{HostFs, HostOptions};
use lisafs::server::{ConnectionOpts, Server};
use lisafs_conformance::{Differences, Need, Outcome, Target};
use lisafs_patience::{PATIENCE, eventually};
use tempfile::TempDir;

fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let hint = "run `cargo build --examples` first";
    assert!(path.exists(), "{}: {hint}", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

/// A program that runs until the end of the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        Running(command.spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

fn connected(socket: &Path) -> Client {
    let mut client = None;
    eventually("the server listens", || {
        client = Client::connect(socket).ok();
        client.is_some()
    });
    client.unwrap()
}

fn memfs(socket: &Path, arguments: &[&str]) -> Running {
    let mut command = example("memfs");
    command.arg("--listen").arg(socket).args(arguments);
    Running::start(command.stderr(Stdio::null()))
}

/// Serves `directory` at `socket` in this process.
fn serve(directory: &Path, socket: &Path) -> Server<HostFs> {
    let server = Server::new(16);
    let listener = UnixListener::bind(socket).unwrap();
    let (accepting, directory) = (server.clone(), directory.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let host = HostFs::open(&directory, HostOptions::default()).unwrap();
            let opts = ConnectionOpts::default();
            accepting
                .start_connection(stream.unwrap(), host, opts)
                .unwrap();
        }
    });
    server
}

/// What is to survive being copied: mode, time of modification, contents or target.
type Copied = (u32, (i64, i64), Vec<u8>);

fn tree(top: &Path) -> BTreeMap<PathBuf, Copied> {
    let mut found = BTreeMap::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let mut times = (stat.mtime(), stat.mtime_nsec());
        let contents = if stat.is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            Vec::new()
        } else if stat.is_symlink() {
            // Their times are nobody's concern.
            times = (0, 0);
            fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        let below = path.strip_prefix(top).unwrap().to_owned();
        found.insert(below, (stat.mode(), times, contents));
    }
    found
}

/// A tree with what can go wrong: several messages of data, an empty file, modes, old times, symlinks.
fn fill(top: &Path) {
    fs::create_dir_all(top.join("a/b/c")).unwrap();
    let large: Vec<u8> = (0..3_000_001u32)
        .map(|number| number.to_le_bytes()[0])
        .collect();
    fs::write(top.join("a/large"), large).unwrap();
    fs::write(top.join("a/b/empty"), "").unwrap();
    fs::write(top.join("a/b/c/secret"), "secret").unwrap();
    symlink("../nowhere", top.join("a/b/link")).unwrap();
    let mode = |path: &str, mode| {
        fs::set_permissions(top.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("a/b/c/secret", 0o640);
    mode("a/b", 0o2750);
    for path in ["a/large", "a/b/c"] {
        let old = std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
        fs::File::open(top.join(path))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
}

fn succeeded(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    output
}

#[test]
fn a_tree_is_the_same_after_a_round_trip_through_memory() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fill(&from);
    let _memory = memfs(&socket, &["--size", "16"]);
    let client = connected(&socket);
    succeeded(example("copy_tree").args([&socket, Path::new("put"), &from, Path::new("/copy")]));
    assert_eq!(client.read("copy/a/b/c/secret").unwrap(), b"secret");
    succeeded(example("copy_tree").args([&socket, Path::new("get"), Path::new("copy"), &to]));
    assert!(tree(&to) == tree(&from), "the trees differ");
}

#[test]
fn a_tree_is_the_same_after_a_round_trip_through_the_host() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fill(&from);
    let _server = serve(dir.path(), &socket);
    let through = dir.path().join("through");
    succeeded(example("copy_tree").args([&socket, Path::new("put"), &from, Path::new("through")]));
    assert!(
        tree(&through) == tree(&from),
        "the tree that was put differs"
    );
    succeeded(example("copy_tree").args([&socket, Path::new("get"), Path::new("through"), &to]));
    assert!(tree(&to) == tree(&from), "the tree that was got differs");
    let again = example("copy_tree")
        .args([&socket, Path::new("get"), Path::new("through"), &to])
        .output()
        .unwrap();
    assert!(!again.status.success(), "what existed was copied over");
}

#[test]
fn memfs_takes_the_place_of_one_that_is_gone() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let first = memfs(&socket, &["--size", "1"]);
    let client = connected(&socket);
    client.write("f", b"data").unwrap();
    assert_eq!(connected(&socket).read("f").unwrap(), b"data");
    let too_much = client.write("g", vec![0; 2 << 20]).unwrap_err();
    assert_eq!(too_much.errno(), Errno::ENOSPC);

    // It is still there.
    let second = example("memfs")
        .arg("--listen")
        .arg(&socket)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(2));
    let errors = String::from_utf8(second.stderr).unwrap();
    assert!(
        errors.contains("socket: Address already in use"),
        "{errors}"
    );

    drop(first);
    eventually("the server has ended", || client.ping().is_err());
    let _third = memfs(&socket, &[]);
    assert!(!connected(&socket).exists("f").unwrap());
}

#[test]
fn the_read_only_back_end_serves_what_it_was_built_with() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let _server = Running::start(example("readonly").arg(&socket));
    let client = connected(&socket);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in ["README.md", "docs/decisions.md", "docs/backends.md"] {
        assert!(client.read(path).unwrap() == fs::read(root.join(path)).unwrap());
    }
    let names = |path: &str| -> Vec<_> {
        let entries = client.read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().name).collect()
    };
    assert_eq!(names("/"), ["README.md", "docs"]);
    assert_eq!(names("docs"), ["backends.md", "decisions.md"]);
    let refused = [
        client.write("README.md", b"").unwrap_err(),
        client.create_dir("new").unwrap_err(),
        client.remove_file("README.md").unwrap_err(),
    ];
    assert!(refused.iter().all(|why| why.errno() == Errno::EROFS));
}

/// A server at a socket, for the conformance suite.
struct At(PathBuf);

impl Target for At {
    fn name(&self) -> &str {
        "readonly"
    }

    fn connect(&self, _readonly: bool) -> io::Result<UnixStream> {
        UnixStream::connect(&self.0)
    }

    fn host_dir(&self) -> Option<&Path> {
        None
    }

    fn offers(&self, need: Need) -> bool {
        matches!(need, Need::SharedTree)
    }
}

#[test]
fn the_read_only_back_end_conforms() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let _server = Running::start(example("readonly").arg(&socket));
    drop(connected(&socket));
    let target: Arc<dyn Target> = Arc::new(At(socket));
    let report = lisafs_conformance::run(&target, "found.", |_, _, _| {});
    let complaints = report.complaints(&Differences::default());
    assert!(complaints.is_empty(), "{complaints:#?}");
    let outcomes = report.outcomes.iter();
    let passed: BTreeSet<_> = outcomes
        .filter(|(_, _, outcome)| *outcome == Outcome::Passed)
        .map(|(name, via, _)| (name.as_str(), via.to_string()))
        .collect();
    // All but the one about symlinks, over both communicators.
    assert_eq!(passed.len(), 14, "{passed:?}");
    // What would have to change something cannot be asked.
    let others = lisafs_conformance::run(&target, "create.", |_, _, _| {});
    let readonly = Outcome::Skipped("the server is read-only".to_owned());
    assert!(!others.outcomes.is_empty());
    for (name, _, outcome) in others.outcomes {
        let skipped = matches!(outcome, Outcome::Skipped(_));
        assert!(skipped, "{name}: {outcome:?}, not {readonly:?}");
    }
}

#[test]
fn one_process_serves_and_reads() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/three"), "a\nb\nc\n").unwrap();
    symlink("sub/three", dir.path().join("link")).unwrap();
    let output = succeeded(example("serve_in_process").arg(dir.path()));
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines, format!("{:>10} {:>8} /sub/three\n", 6, 3));
}

#[test]
fn a_file_is_followed() {
    let dir = TempDir::new().unwrap();
    let (socket, path) = (dir.path().join("socket"), dir.path().join("log"));
    fs::write(&path, "first\n").unwrap();
    let server = serve(dir.path(), &socket);
    let mut watching = Running::start(
        example("watch_file")
            .arg(&socket)
            .args(["log", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let mut out = BufReader::new(watching.0.stdout.take().unwrap());
    let mut expect = |line: &str| {
        let mut got = String::new();
        out.read_line(&mut got).unwrap();
        assert_eq!(got, line);
    };
    expect("first\n");
    let mut log = fs::File::options().append(true).open(&path).unwrap();
    log.write_all(b"second\n").unwrap();
    expect("second\n");
    fs::write(dir.path().join("new"), "other\n").unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    expect("other\n");
    fs::write(&path, "cut\n").unwrap();
    expect("cut\n");

    assert!(server.shutdown(PATIENCE));
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(watching.0.wait().unwrap().success());
}

/// The guide shows no code that is not run.
#[test]
fn the_guide_quotes_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let (guide, code) = (read("docs/backends.md"), read("examples/readonly.rs"));
    let mut blocks = guide.split("```rust\n").skip(1).peekable();
    assert!(blocks.peek().is_some());
    for block in blocks {
        let (quoted, _) = block.split_once("```").unwrap();
        assert!(code.contains(quoted), "not in the example:\n{quoted}");
    }
}
