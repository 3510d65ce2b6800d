//! What the system call filter and both kinds of Landlock cost: system calls without and with each.
//!
//! `cargo run --release -p lisafs-gofer --example jail-cost` prints nanoseconds for each operation, by how deep below
//! the root the directory lies that it takes place in: Landlock walks up from there. Each column is a
//! process of its own. All take turns, several times, and the least of what was measured counts, as
//! everything that disturbs makes it more.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a benchmark may panic

#[path = "../src/jail/landlock/mod.rs"]
#[allow(dead_code)] // what is reported does not matter here
mod landlock;
#[path = "../src/jail/seccomp/mod.rs"]
#[allow(dead_code)]
mod seccomp;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use lisafs::host::{HostFs, HostOptions, HostUds};
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::fs::{openat, renameat_with, statx, unlinkat, utimensat};
use rustix::io::pread;

const DEPTHS: [usize; 3] = [1, 8, 64];
const COLUMNS: [&str; 4] = ["none", "seccomp", "tree", "paths"];
const ROUNDS: usize = 5;
const BATCHES: usize = 20;
const BATCH: u32 = 200;

/// Changes no time.
const OMIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: UTIME_OMIT,
};
const KEEP: Timestamps = Timestamps {
    last_access: OMIT,
    last_modification: OMIT,
};

fn main() {
    let arguments: Vec<_> = env::args().collect();
    match &arguments[1..] {
        [column, root] if COLUMNS.contains(&column.as_str()) => measure(column, Path::new(root)),
        _ => compare(),
    }
}

/// Runs all columns, and prints a table.
fn compare() {
    let directory = tempfile::tempdir().unwrap();
    for depth in DEPTHS {
        let deepest = directory.path().join(below(depth));
        fs::create_dir_all(&deepest).unwrap();
        fs::write(deepest.join("file"), [0; 4096]).unwrap();
    }
    let mut least: BTreeMap<String, [f64; COLUMNS.len()]> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (index, column) in COLUMNS.iter().enumerate() {
            let mut child = Command::new(env::current_exe().unwrap());
            let output = child.arg(column).arg(directory.path()).output().unwrap();
            assert!(output.status.success(), "{column}: {output:?}");
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                let (name, time) = line.rsplit_once(' ').unwrap();
                let times = least.entry(name.to_owned());
                let times = times.or_insert([f64::INFINITY; COLUMNS.len()]);
                times[index] = times[index].min(time.parse().unwrap());
            }
        }
    }
    println!(
        "{:32} {:>9} {:>9} {:>9} {:>9}",
        "ns", COLUMNS[0], COLUMNS[1], COLUMNS[2], COLUMNS[3]
    );
    for (name, [none, rest @ ..]) in least {
        print!("{name:32} {none:9.0}");
        for time in rest {
            print!(" {:>+9.0}", time - none);
        }
        println!();
    }
}

fn below(depth: usize) -> String {
    vec!["d"; depth - 1].join("/")
}

/// One column: a line for each operation.
fn measure(column: &str, root: &Path) {
    let host = HostFs::open(root, HostOptions::default()).unwrap();
    let directories: Vec<OwnedFd> = DEPTHS
        .iter()
        .map(|depth| fs::File::open(root.join(below(*depth))).unwrap().into())
        .collect();
    let root = fs::File::open(root).unwrap();
    let restrict = |reach| landlock::restrict(&[root.as_fd()], reach, false).unwrap();
    match column {
        "tree" => _ = restrict(landlock::Reach::Tree),
        "paths" => _ = restrict(landlock::Reach::Paths),
        _ => {}
    }
    if column == "seccomp" {
        let policy = seccomp::Policy {
            procfd: host.procfd(),
            host_uds: HostUds::None,
            identities: false,
            accepts: false,
            violation: seccomp::Violation::Kill,
        };
        seccomp::install(&policy).unwrap();
    }
    for (depth, directory) in DEPTHS.iter().zip(&directories) {
        operations(&format!("depth {depth:02}"), directory, &host);
    }
}

fn operations(depth: &str, directory: &OwnedFd, host: &HostFs) {
    let nofollow = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |name: &str, flags| openat(directory, name, flags | nofollow, Mode::RWXU).unwrap();
    let file = open("file", OFlags::RDONLY);
    let path = open("file", OFlags::PATH);
    let number = path.as_raw_fd().to_string();
    let mask = StatxFlags::BASIC_STATS;
    let mut buffer = [0; 4096];
    time(depth, "pread 4 KiB", || {
        pread(&file, &mut buffer, 0).unwrap()
    });
    time(depth, "statx fd", || {
        statx(&file, c"", AtFlags::EMPTY_PATH, mask).unwrap()
    });
    time(depth, "statx name", || {
        statx(directory, c"file", AtFlags::SYMLINK_NOFOLLOW, mask).unwrap()
    });
    time(depth, "utimensat fd", || {
        utimensat(&file, c"", &KEEP, AtFlags::EMPTY_PATH).unwrap();
    });
    time(depth, "openat O_PATH, close", || {
        drop(open("file", OFlags::PATH))
    });
    let reopen = |what, flags| {
        time(depth, what, || {
            drop(
                openat(
                    host.procfd(),
                    &number[..],
                    flags | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .unwrap(),
            );
        });
    };
    reopen("reopen to read, close", OFlags::RDONLY);
    reopen("reopen to write, close", OFlags::RDWR);
    time(depth, "create, close, unlink", || {
        drop(open("new", OFlags::CREATE | OFlags::EXCL | OFlags::RDWR));
        unlinkat(directory, "new", AtFlags::empty()).unwrap();
    });
    time(depth, "rename and back", || {
        for (from, to) in [("file", "moved"), ("moved", "file")] {
            renameat_with(directory, from, directory, to, RenameFlags::empty()).unwrap();
        }
    });
}

/// Prints the time of one operation, in nanoseconds: the least of some batches.
fn time<T>(depth: &str, what: &str, mut operation: impl FnMut() -> T) {
    let batch = |_| {
        let start = Instant::now();
        (0..BATCH).for_each(|_| drop(black_box(operation())));
        start.elapsed()
    };
    let least = (0..BATCHES).map(batch).min().unwrap();
    println!(
        "{what}, {depth} {:.1}",
        least.as_secs_f64() * 1e9 / f64::from(BATCH)
    );
}
