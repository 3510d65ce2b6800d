//! What is mounted below the directory that is served.

use std::fs;
use std::path::{Path, PathBuf};

use lisafs::Errno;
use lisafs::client::ClientOptions;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;

use crate::Need;
use crate::process::Gofer;

pub(crate) const TRIALS: &[(&str, Need, fn())] = &[
    (
        "mounts_below_are_served_with_the_attributes_of_the_root",
        Need::Privileges,
        below,
    ),
    (
        "mounts_below_are_readonly_where_the_server_is",
        Need::Privileges,
        below_readonly,
    ),
    (
        "what_is_mounted_later_is_not_served",
        Need::Privileges,
        later,
    ),
];

/// A file system in memory. Unmounted when dropped, with what is mounted below.
struct Memory(PathBuf);

impl Memory {
    /// Mounts one on a new directory: writable, with devices and set-user-ID programs.
    fn mount(path: PathBuf) -> Memory {
        fs::create_dir(&path).unwrap();
        let (kind, none) = (Some("tmpfs"), None::<&str>);
        mount(kind, &path, kind, MsFlags::empty(), none).unwrap();
        Memory(path)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// A directory `root` to serve, on which `early` is mounted, and `deep` below that.
fn furnish() -> (TempDir, Memory) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let early = Memory::mount(root.join("early"));
    let deep = Memory::mount(early.0.join("deep"));
    fs::write(deep.0.join("file"), "deep").unwrap();
    // Zeros without end, if it were opened.
    let device = makedev(1, 5);
    mknod(
        &early.0.join("zero"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        device,
    )
    .unwrap();
    // It goes with the one above.
    std::mem::forget(deep);
    (dir, early)
}

/// Where something is mounted for a process, and with which options.
fn mounts(pid: u32) -> Vec<(String, Vec<String>)> {
    let list = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mut mounts = Vec::new();
    for line in list.lines() {
        let mut fields = line.split(' ').skip(4);
        let point = fields.next().unwrap().to_owned();
        let options = fields.next().unwrap().split(',');
        mounts.push((point, options.map(str::to_owned).collect()));
    }
    mounts.sort();
    mounts
}

/// To be called once the gofer has answered: it goes in after it listens.
///
/// # Panics
/// If there are other mounts, or one has other options.
fn assert_mounts(gofer: &Gofer, options: &[&str]) {
    let mounts = mounts(gofer.pid());
    let points: Vec<_> = mounts.iter().map(|(point, _)| point.as_str()).collect();
    assert_eq!(points, ["/", "/early", "/early/deep"]);
    for (point, has) in &mounts {
        for option in options {
            assert!(has.iter().any(|it| it == option), "{point}: {has:?}");
        }
    }
}

fn below() {
    let (dir, early) = furnish();
    let gofer = Gofer::listen_again(dir, &["--sandbox", "strict"]);
    let client = gofer.connect(&ClientOptions::new());
    assert_eq!(client.read("early/deep/file").unwrap(), b"deep");
    assert_mounts(&gofer, &["rw", "nosuid", "nodev"]);
    client.write("early/new", b"new").unwrap();
    assert_eq!(fs::read(early.0.join("new")).unwrap(), b"new");
    // Moving is for one file system, and these are some.
    let moved = client.rename("early/new", "new").unwrap_err();
    assert_eq!(moved.errno(), Errno::EXDEV);
    client.read("early/zero").unwrap_err();
    // Outside everything is as it was.
    let device = fs::File::open(early.0.join("zero"));
    assert!(device.is_ok(), "{device:?}");
}

fn below_readonly() {
    let (dir, early) = furnish();
    let gofer = Gofer::listen_again(dir, &["--sandbox", "strict", "--readonly"]);
    let client = gofer.connect(&ClientOptions::new());
    assert_eq!(client.read("early/deep/file").unwrap(), b"deep");
    assert_mounts(&gofer, &["ro", "nosuid", "nodev"]);
    let refused = client.write("early/deep/file", b"new").unwrap_err();
    assert_eq!(refused.errno(), Errno::EROFS);
    fs::write(early.0.join("deep/file"), "outside").unwrap();
    assert_eq!(client.read("early/deep/file").unwrap(), b"outside");
}

fn later() {
    let (dir, early) = furnish();
    let gofer = Gofer::listen_again(dir, &["--sandbox", "strict"]);
    let client = gofer.connect(&ClientOptions::new());
    client.root().stat().unwrap();
    // Below the root, and below what was mounted in time: neither passes mounts on.
    for place in [gofer.root.join("late"), early.0.join("late")] {
        let late = Memory::mount(place);
        fs::write(late.0.join("hidden"), "hidden").unwrap();
        let name = late.0.strip_prefix(&gofer.root).unwrap();
        assert!(client.read_dir(name).unwrap().next().is_none());
        let hidden = client.read(name.join("hidden")).unwrap_err();
        assert_eq!(hidden.errno(), Errno::ENOENT);
        client.write(name.join("under"), b"under").unwrap();
        assert!(!late.0.join("under").exists());
        assert_mounts(&gofer, &["nosuid", "nodev"]);
    }
    // What it does with its mounts stays with it.
    let own = mounts(std::process::id());
    let below = |point: &Path| point.starts_with(&gofer.root);
    let left = own.iter().filter(|(point, _)| below(Path::new(point)));
    assert_eq!(left.count(), 2, "{own:?}");
}
