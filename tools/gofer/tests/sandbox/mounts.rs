//! What is mounted below the directory that is served.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lisafs::Errno;
use lisafs::client::{Client, ClientOptions};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
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
    ("nothing_is_above_what_is_served", Need::Privileges, above),
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

/// A directory `root` to serve, on which `early` is mounted, and `deep` below that. It can be removed
/// when that is unmounted, so it is not the gofer's, which ends first.
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

/// In which way a gofer goes in.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Its mount namespace has nothing but what is served.
    Own,
    /// Somebody else makes the mounts, and it has them by descriptor.
    Detached,
}

const WAYS: [Way; 2] = [Way::Own, Way::Detached];

/// A gofer that has gone in, and a client of it.
fn serve(way: Way, dir: &TempDir, options: &[&str]) -> (Gofer, Client) {
    let around: &[&str] = match way {
        Way::Own => &["env"],
        Way::Detached => &["setpriv", "--bounding-set", "-sys_admin"],
    };
    let mut command = Command::new(around[0]);
    command.args(&around[1..]);
    command.arg(env!("CARGO_BIN_EXE_lisafs-gofer"));
    command.args(["serve", "--sandbox", "strict"]).args(options);
    let root = dir.path().join("root");
    let gofer = Gofer::spawn(command, tempfile::tempdir().unwrap(), root);
    let client = gofer.connect(&ClientOptions::new());
    client.root().stat().unwrap();
    (gofer, client)
}

/// Where something is mounted for a process.
fn mounts(pid: u32) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let points = list.lines().map(|line| line.split(' ').nth(4).unwrap());
    let mut points: Vec<_> = points.map(str::to_owned).collect();
    points.sort();
    points
}

/// What a gofer has open.
fn open(gofer: &Gofer) -> impl Iterator<Item = PathBuf> {
    let open = fs::read_dir(format!("/proc/{}/fd", gofer.pid())).unwrap();
    open.map(|fd| fd.unwrap().path())
}

/// What is served, as the gofer has it open.
fn held(gofer: &Gofer) -> PathBuf {
    let mut open = open(gofer);
    open.find(|fd| fd.join("early/deep").exists()).unwrap()
}

/// The directory of its descriptors, likewise.
fn descriptors(gofer: &Gofer) -> PathBuf {
    let is_of_procfs =
        |fd: &PathBuf| statfs(fd).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC);
    open(gofer).find(is_of_procfs).unwrap()
}

/// Whether the way up from a directory ends where it begins.
fn is_top(directory: &Path) -> bool {
    let [here, above] = [directory.to_owned(), directory.join("..")].map(|directory| {
        let found = fs::metadata(directory).unwrap();
        (found.dev(), found.ino())
    });
    here == above
}

/// # Panics
/// If there are other mounts, or one has other flags.
fn assert_mounts(way: Way, gofer: &Gofer, readonly: bool) {
    if let Way::Own = way {
        assert_eq!(mounts(gofer.pid()), ["/", "/early", "/early/deep"]);
    }
    for place in ["", "early", "early/deep"] {
        let flags = statvfs(&held(gofer).join(place)).unwrap().flags();
        let kept = flags & (FsFlags::ST_RDONLY | FsFlags::ST_NOSUID | FsFlags::ST_NODEV);
        let mut expected = FsFlags::ST_NOSUID | FsFlags::ST_NODEV;
        expected.set(FsFlags::ST_RDONLY, readonly);
        assert_eq!(kept, expected, "{way:?} {place:?}");
    }
}

fn below() {
    for way in WAYS {
        let (dir, early) = furnish();
        let (gofer, client) = serve(way, &dir, &[]);
        assert_mounts(way, &gofer, false);
        assert_eq!(client.read("early/deep/file").unwrap(), b"deep");
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
}

fn below_readonly() {
    for way in WAYS {
        let (dir, early) = furnish();
        let (gofer, client) = serve(way, &dir, &["--readonly"]);
        assert_mounts(way, &gofer, true);
        assert_eq!(client.read("early/deep/file").unwrap(), b"deep");
        let refused = client.write("early/deep/file", b"new").unwrap_err();
        assert_eq!(refused.errno(), Errno::EROFS);
        // Nor can root write there by what the gofer has open.
        let file = held(&gofer).join("early/deep/file");
        let refused = fs::write(file, "new").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
        fs::write(early.0.join("deep/file"), "outside").unwrap();
        assert_eq!(client.read("early/deep/file").unwrap(), b"outside");
    }
}

fn later() {
    for way in WAYS {
        let (dir, early) = furnish();
        let (gofer, client) = serve(way, &dir, &[]);
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
            assert_mounts(way, &gofer, false);
        }
        // What it does with its mounts stays with it.
        let own = mounts(std::process::id());
        let below = |point: &&String| Path::new(point).starts_with(&gofer.root);
        assert_eq!(own.iter().filter(below).count(), 2, "{own:?}");
    }
}

fn above() {
    for way in WAYS {
        let (dir, _early) = furnish();
        let (gofer, _client) = serve(way, &dir, &[]);
        for directory in [held(&gofer), descriptors(&gofer)] {
            assert!(is_top(&directory), "{way:?} {}", directory.display());
        }
        // Further below there is a way up, but it ends there as well.
        assert!(!is_top(&held(&gofer).join("early/deep")), "{way:?}");
        assert!(is_top(&held(&gofer).join("early/deep/../..")), "{way:?}");
    }
    // With the host's own mounts it does not.
    let (dir, _early) = furnish();
    let root = dir.path().join("root");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
    command.args(["serve", "--sandbox", "off", "--log", "error"]);
    let gofer = Gofer::spawn(command, tempfile::tempdir().unwrap(), root);
    assert!(!is_top(&held(&gofer)));
}
