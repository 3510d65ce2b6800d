//! What an idle gofer has open, and the process that keeps the name of its socket: all of it, by what it
//! leads to, and whether a program would inherit it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};

use lisafs::client::ClientOptions;
use nix::fcntl::OFlag;
use tempfile::tempdir;

use crate::Need;
use crate::process::{Gofer, PATIENCE, within};

pub(crate) const TRIALS: &[(&str, Need, fn())] = &[
    (
        "a_gofer_has_nothing_open_but_this",
        Need::Privileges,
        nothing_but_this,
    ),
    ("nor_does_one_with_metrics", Need::Privileges, with_metrics),
];

/// The standard streams: /dev/null twice, and the log.
const STREAMS: [u32; 3] = [0, 1, 2];

/// How many descriptors of a process lead to what, without the numbers of pipes and sockets.
fn open(pid: u32) -> BTreeMap<String, usize> {
    let mut open = BTreeMap::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let Ok(target) = fs::read_link(fd.unwrap().path()) else {
            // Closed meanwhile.
            continue;
        };
        let target = target.to_str().unwrap();
        let sort = match target.split_once(":[") {
            Some((sort @ ("pipe" | "socket"), _)) => sort,
            _ => target,
        };
        *open.entry(sort.to_owned()).or_default() += 1;
    }
    open
}

/// What a program would inherit that a process became, by numbers.
fn inherited(pid: u32) -> Vec<u32> {
    let mut inherited = Vec::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        let fd = fd.unwrap();
        let Ok(info) = fs::read_to_string(fd.path()) else {
            // Closed meanwhile.
            continue;
        };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        if !OFlag::from_bits_retain(flags).contains(OFlag::O_CLOEXEC) {
            inherited.push(fd.file_name().to_str().unwrap().parse().unwrap());
        }
    }
    inherited.sort_unstable();
    inherited
}

/// The only child of a process.
fn child(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let mut children = children.split_whitespace();
    let child = children.next().unwrap().parse().unwrap();
    assert_eq!(children.next(), None);
    child
}

/// A gofer that logs to a file, in a directory with `root`. Nobody is connected any more.
fn idle(options: &[&str]) -> (Gofer, String) {
    let dir = tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let log = dir.path().join("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
    command
        .args(["serve", "--sandbox", "strict"])
        .args(options)
        .stdout(Stdio::inherit())
        .stderr(File::create(&log).unwrap());
    let gofer = Gofer::spawn(command, dir, root);
    let client = gofer.connect(&ClientOptions::new().channels(2));
    client.write("file", b"data").unwrap();
    // With connections, channels, windows and files.
    let file = client.open("file").unwrap();
    assert_eq!(inherited(gofer.pid()), STREAMS);
    drop((file, client));
    (gofer, log.to_str().unwrap().to_owned())
}

fn expect(sorts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let sorts = sorts.iter();
    sorts
        .map(|(sort, count)| ((*sort).to_owned(), *count))
        .collect()
}

/// # Panics
/// If anything else is open in a process when it has had the time to close the rest.
fn assert_left(pid: u32, expected: &BTreeMap<String, usize>) {
    let is_left = || open(pid) == *expected;
    if !within(PATIENCE, is_left) {
        assert_eq!(open(pid), *expected);
    }
}

fn nothing_but_this() {
    let (gofer, log) = idle(&[]);
    let expected = expect(&[
        ("/dev/null", 2),
        (&log, 1),
        ("socket", 1),
        ("anon_inode:[signalfd]", 1),
        // What the keeper of the name waits for, and its end.
        ("pipe", 2),
        // The root of what is served, and the directory of descriptors, which is the root of its mount.
        ("/", 2),
    ]);
    assert_left(gofer.pid(), &expected);
    assert_eq!(inherited(gofer.pid()), STREAMS);
    let keeper = child(gofer.pid());
    assert_left(keeper, &expect(&[(&log, 1), ("pipe", 2)]));
    assert_eq!(inherited(keeper), STREAMS[2..]);
    // Nor is a directory of the host held open in this way.
    assert_eq!(
        fs::read_link(format!("/proc/{}/cwd", gofer.pid()))
            .unwrap()
            .to_str(),
        Some("/")
    );
}

fn with_metrics() {
    let dir = tempdir().unwrap();
    let metrics = dir.path().join("metrics");
    let (gofer, log) = idle(&["--metrics", metrics.to_str().unwrap()]);
    let expected = expect(&[
        ("/dev/null", 2),
        (&log, 1),
        // Both that it listens on, and a pair that ends the one who answers on the second.
        ("socket", 4),
        ("anon_inode:[signalfd]", 1),
        // A keeper for each name.
        ("pipe", 4),
        ("/", 2),
    ]);
    assert_left(gofer.pid(), &expected);
    assert_eq!(inherited(gofer.pid()), STREAMS);
}
