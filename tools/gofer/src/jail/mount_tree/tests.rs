//! Each runs in namespaces of its own; what is said about mounts is read in mountinfo.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use lisafs::host::{HostFs, HostOptions};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::TMPFS_MAGIC;
use tempfile::TempDir;

use super::{Bound, Manner, MountError, MountTree, STAGING, Source, isolate};
use crate::jail::attributes::{
    self, AccessTimePolicy, AccessTimes, Attributes, Propagation, PropagationKind,
};
use crate::jail::isolated::{Isolated, isolated};
use crate::skipped::skip;
use crate::sys;

/// Leaves the test unless it is inside. The path is that of the test.
macro_rules! isolated {
    ($name:ident) => {
        isolated!($name, "")
    };
    ($name:ident, $before:literal) => {
        let name = concat!("jail::mount_tree::tests::", stringify!($name));
        let Isolated::Inside = isolated(name, $before) else {
            return;
        };
        isolate().unwrap();
    };
}

const SLAVE: Propagation = Propagation {
    kind: PropagationKind::Slave,
    recursive: true,
};

const PLAIN: Manner = Manner {
    recursive: false,
    attributes: Attributes::empty(),
    access_times: AccessTimes {
        policy: None,
        not_in_directories: false,
    },
    propagation: None,
};

fn with(attributes: Attributes) -> Manner {
    Manner {
        attributes,
        ..PLAIN
    }
}

/// A directory with a root to serve and a volume to bind in it.
struct Bundle {
    directory: TempDir,
}

impl Bundle {
    fn new() -> Bundle {
        let directory = tempfile::tempdir().unwrap();
        for name in ["rootfs/etc", "volume/sub"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("volume/file"), "volume").unwrap();
        Bundle { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    fn volume(&self) -> PathBuf {
        self.directory.path().join("volume")
    }

    fn stage(&self) -> MountTree {
        MountTree::stage(&self.root(), SLAVE, Path::new(STAGING)).unwrap()
    }
}

fn bind(tree: &mut MountTree, source: &Path, destination: &str, manner: Manner) -> Bound {
    tree.bind(Source::Path(source), Path::new(destination), manner)
        .unwrap()
}

/// The options and the optional fields of the topmost mount on a path.
fn mountinfo(mount_point: &str) -> (Vec<String>, String) {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = all.lines().rev().find(|line| {
        let mut fields = line.split(' ');
        fields.nth(4) == Some(mount_point)
    });
    let line = line.unwrap_or_else(|| panic!("nothing is mounted on {mount_point}:\n{all}"));
    let fields: Vec<_> = line.split(' ').collect();
    let options = fields[5].split(',').map(str::to_owned).collect();
    let optional = fields[6..].iter().take_while(|field| **field != "-");
    (options, optional.copied().collect())
}

fn has(mount_point: &str, option: &str) -> bool {
    mountinfo(mount_point).0.iter().any(|each| each == option)
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_opened_before_works_in_the_tree() {
    isolated!(what_was_opened_before_works_in_the_tree);
    let bundle = Bundle::new();
    symlink("/etc/../else", bundle.root().join("link")).unwrap();
    let mut tree = bundle.stage();
    let volume = bind(&mut tree, &bundle.volume(), "/link/volume", PLAIN);
    assert_eq!(volume.path, Path::new("/else/volume"));
    let file = bind(
        &mut tree,
        &bundle.volume().join("file"),
        "/etc/new/f",
        PLAIN,
    );
    assert_eq!(file.path, Path::new("/etc/new/f"));
    tree.settle().unwrap();
    let procfd = sys::clone_mount(None, c"/proc/self/fd", false).unwrap();
    let root = tree.root().unwrap();
    for served in [&root, &volume.root, &file.root] {
        let root = served.try_clone().unwrap();
        HostFs::new(root, HostOptions::default()).unwrap();
    }
    tree.enter().unwrap();

    assert_eq!(names("/"), ["else", "etc", "link"]);
    assert_eq!(fs::read("/else/volume/file").unwrap(), b"volume");
    assert_eq!(fs::read("/etc/new/f").unwrap(), b"volume");
    assert!(!bundle.volume().exists());
    for (served, path) in [
        (&root, "/"),
        (&volume.root, "/else/volume"),
        (&file.root, "/etc/new/f"),
    ] {
        let name = served.as_raw_fd().to_string();
        let reopened = openat(&procfd, name.as_str(), OFlag::O_RDONLY, Mode::empty()).unwrap();
        let (here, there) = (fstat(&reopened).unwrap(), fs::metadata(path).unwrap());
        assert_eq!((here.st_dev, here.st_ino), (there.dev(), there.ino()));
    }
    // The way up from the root and from the clone ends where it begins.
    assert_eq!(names("/.."), ["else", "etc", "link"]);
    let up = openat(&procfd, "../../etc", OFlag::O_PATH, Mode::empty());
    assert_eq!(up.unwrap_err(), Errno::ENOENT);
}

#[test]
fn the_root_of_the_host_can_be_served() {
    isolated!(the_root_of_the_host_can_be_served);
    let bundle = Bundle::new();
    let before = fs::metadata("/").unwrap();
    let mut tree = MountTree::stage(Path::new("/"), SLAVE, Path::new(STAGING)).unwrap();
    let volume = bundle.directory.path().join("volume");
    let onto = bundle.directory.path().join("rootfs");
    bind(&mut tree, &volume, onto.to_str().unwrap(), PLAIN);
    tree.settle().unwrap();
    assert!(!onto.join("file").exists(), "it is seen only in the tree");
    tree.enter().unwrap();
    let after = fs::metadata("/").unwrap();
    assert_eq!((after.dev(), after.ino()), (before.dev(), before.ino()));
    assert_eq!(fs::read(onto.join("file")).unwrap(), b"volume");
    // The tree was not in itself.
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!all.contains(STAGING), "{all}");
}

#[test]
fn attributes_are_in_force_but_not_where_nothing_was_asked() {
    isolated!(attributes_are_in_force_but_not_where_nothing_was_asked);
    let bundle = Bundle::new();
    let mut tree = bundle.stage();
    let readonly = Attributes::READONLY | Attributes::NOSUID;
    let outer = bind(&mut tree, &bundle.volume(), "/ro", with(readonly));
    // Its mount point is made in one that is to be read-only.
    let inner = bind(&mut tree, &bundle.volume(), "/ro/in/rw", PLAIN);
    // Of a file system that is not older than the namespace, so nothing is locked.
    let none = None::<&Path>;
    mount(none, "/mnt", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let noexec = Manner {
        access_times: AccessTimes {
            policy: Some(AccessTimePolicy::Never),
            not_in_directories: true,
        },
        ..with(Attributes::NOEXEC | Attributes::NODEV)
    };
    bind(&mut tree, Path::new("/mnt"), "/noexec", noexec);
    tree.settle().unwrap();
    tree.restrict(readonly | Attributes::NODEV).unwrap();

    for option in ["ro", "nosuid"] {
        assert!(has("/proc/fs/ro", option) && has("/proc/fs", option));
    }
    assert!(has("/proc/fs/ro/in/rw", "rw") && !has("/proc/fs/ro/in/rw", "nosuid"));
    for option in ["rw", "noexec", "nodev", "nodiratime", "noatime"] {
        assert!(has("/proc/fs/noexec", option), "{option}");
    }
    assert_eq!(attributes::of(&outer.root).unwrap(), readonly);
    assert_eq!(attributes::of(&inner.root).unwrap(), Attributes::empty());
    tree.enter().unwrap();
    for path in ["/x", "/ro/x"] {
        let why = fs::write(path, "").unwrap_err();
        assert_eq!(why.raw_os_error(), Some(libc::EROFS), "{path}");
    }
    fs::write("/ro/in/rw/x", "").unwrap();
    fs::write("/noexec/x", "").unwrap();
}

#[test]
fn what_comes_along_with_something_read_only_is_read_only() {
    isolated!(what_comes_along_with_something_read_only_is_read_only);
    let bundle = Bundle::new();
    for directory in ["rootfs/etc", "volume/sub"] {
        let directory = bundle.directory.path().join(directory);
        let none = None::<&Path>;
        mount(none, &directory, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    let recursive = |attributes| Manner {
        recursive: true,
        ..with(attributes)
    };
    let readonly = Attributes::READONLY;
    let mut tree = bundle.stage();
    bind(&mut tree, &bundle.volume(), "/ro", recursive(readonly));
    bind(
        &mut tree,
        &bundle.volume(),
        "/rw",
        recursive(Attributes::empty()),
    );
    bind(&mut tree, &bundle.volume(), "/outer", recursive(readonly));
    bind(
        &mut tree,
        &bundle.volume(),
        "/outer/sub/in",
        recursive(Attributes::empty()),
    );
    tree.settle().unwrap();
    tree.restrict(readonly).unwrap();
    for (path, option) in [
        ("/ro", "ro"),
        ("/ro/sub", "ro"),
        ("/rw", "rw"),
        ("/rw/sub", "rw"),
        ("/outer", "ro"),
        ("/outer/sub", "ro"),
        ("/outer/sub/in", "rw"),
        ("/outer/sub/in/sub", "rw"),
        ("", "ro"),
        ("/etc", "ro"),
    ] {
        assert!(has(&format!("/proc/fs{path}"), option), "{path}");
    }

    let mut tree = bundle.stage();
    tree.settle().unwrap();
    // As a hook does.
    fs::create_dir("/proc/fs/hook").unwrap();
    let none = None::<&Path>;
    mount(none, "/proc/fs/hook", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    tree.restrict(readonly).unwrap();
    for (path, option) in [("", "ro"), ("/etc", "ro"), ("/hook", "rw")] {
        assert!(has(&format!("/proc/fs{path}"), option), "{path}");
    }
}

/// As one is that a program has left behind.
#[test]
fn a_dead_file_system_that_comes_along_keeps_nothing_from_being_read_only() {
    // Who is root in there only is not let in either.
    let Ok(server) = File::options().read(true).write(true).open("/dev/fuse") else {
        return skip("a test of a dead file system", "it takes /dev/fuse");
    };
    isolated!(a_dead_file_system_that_comes_along_keeps_nothing_from_being_read_only);
    let bundle = Bundle::new();
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        server.as_raw_fd()
    );
    let dead = bundle.volume().join("sub");
    let none = MsFlags::empty();
    mount(
        Some("dead"),
        &dead,
        Some("fuse"),
        none,
        Some(options.as_str()),
    )
    .unwrap();
    drop(server);
    let mut tree = bundle.stage();
    let readonly = Manner {
        recursive: true,
        ..with(Attributes::READONLY)
    };
    bind(&mut tree, &bundle.volume(), "/ro", readonly);
    tree.settle().unwrap();
    for path in ["/ro", "/ro/sub"] {
        assert!(has(&format!("{STAGING}{path}"), "ro"), "{path}");
    }
}

/// What was bound, what came along with that or with the root, and what others have mounted since.
#[test]
fn what_is_restricted_is_all_that_is_there() {
    isolated!(what_is_restricted_is_all_that_is_there);
    let bundle = Bundle::new();
    let memory = |place: &Path| {
        let none = None::<&Path>;
        mount(none, place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    };
    for directory in ["rootfs/etc", "volume/sub"] {
        memory(&bundle.directory.path().join(directory));
    }
    memory(Path::new("/mnt"));
    let mut tree = bundle.stage();
    let recursive = Manner {
        recursive: true,
        ..PLAIN
    };
    bind(&mut tree, &bundle.volume(), "/volume", recursive);
    let unused = Attributes::NOSUID | Attributes::NODEV;
    tree.restrict_all(unused).unwrap();
    // It is for devices.
    bind(&mut tree, Path::new("/mnt"), "/device", PLAIN);
    tree.settle().unwrap();
    fs::create_dir("/proc/fs/hook").unwrap();
    memory(Path::new("/proc/fs/hook"));
    tree.restrict_all(Attributes::NOSUID).unwrap();
    for (path, has_devices) in [
        ("", false),
        ("/etc", false),
        ("/volume", false),
        ("/volume/sub", false),
        ("/device", true),
        ("/hook", true),
    ] {
        let path = format!("/proc/fs{path}");
        assert!(has(&path, "nosuid"), "{path}");
        assert_eq!(!has(&path, "nodev"), has_devices, "{path}");
    }
    // Elsewhere they are as they were.
    for path in [bundle.volume().join("sub"), PathBuf::from("/mnt")] {
        let path = path.to_str().unwrap();
        assert!(!has(path, "nosuid") && !has(path, "nodev"), "{path}");
    }
}

#[test]
fn locked_attributes_stay() {
    isolated!(
        locked_attributes_stay,
        "mount -t tmpfs -o nodev,noexec,noatime none /mnt"
    );
    let bundle = Bundle::new();
    let mut tree = bundle.stage();
    // This is refused if it is asked for in other words.
    let change = libc::mount_attr {
        attr_set: 0,
        attr_clr: libc::MOUNT_ATTR_NODEV,
        propagation: 0,
        userns_fd: 0,
    };
    let times = Manner {
        access_times: AccessTimes {
            policy: Some(AccessTimePolicy::Relative),
            not_in_directories: true,
        },
        ..with(Attributes::READONLY)
    };
    let bound = bind(&mut tree, Path::new("/mnt"), "/locked", times);
    let refused = sys::set_mount_attributes(bound.root.as_fd(), false, &change);
    assert_eq!(refused.unwrap_err(), Errno::EPERM);
    assert_eq!(bound.filesystem().unwrap(), TMPFS_MAGIC);
    tree.settle().unwrap();
    for option in ["ro", "nodev", "noexec", "noatime"] {
        assert!(has("/proc/fs/locked", option), "{option}");
    }
    assert!(!has("/proc/fs/locked", "nodiratime"));
}

#[test]
fn what_must_stay_covered_is_not_uncovered() {
    isolated!(
        what_must_stay_covered_is_not_uncovered,
        "mount -t tmpfs none /mnt; mkdir /mnt/sub; mount -t tmpfs none /mnt/sub; touch /mnt/sub/top"
    );
    let bundle = Bundle::new();
    let mut tree = bundle.stage();
    let refused = tree.bind(Source::Path(Path::new("/mnt")), Path::new("/m"), PLAIN);
    let why = refused.unwrap_err();
    assert!(matches!(&why, MountError::Covering { .. }), "{why}");
    assert!(why.to_string().contains("rbind"), "{why}");
    let recursive = Manner {
        recursive: true,
        ..PLAIN
    };
    bind(&mut tree, Path::new("/mnt"), "/m", recursive);
    tree.enter().unwrap();
    assert!(Path::new("/m/sub/top").exists());
}

#[test]
fn other_programs_see_the_tree_in_its_place() {
    isolated!(other_programs_see_the_tree_in_its_place);
    let bundle = Bundle::new();
    let mut tree = MountTree::stage(&bundle.root(), SLAVE, &bundle.root()).unwrap();
    let volume = bind(
        &mut tree,
        &bundle.volume(),
        "/volume",
        with(Attributes::READONLY),
    );
    tree.settle().unwrap();
    // It is a mount of its own, and what the program mounts in it goes along.
    let script = "mountpoint -q . && cat volume/file && mount -t tmpfs none etc && touch etc/hook";
    let program = Command::new("sh")
        .args(["-c", script])
        .current_dir(bundle.root())
        .output()
        .unwrap();
    assert!(program.status.success(), "{program:?}");
    assert_eq!(program.stdout, b"volume");
    tree.move_to(Path::new(STAGING)).unwrap();
    assert!(!bundle.root().join("volume/file").exists());
    tree.enter().unwrap();
    assert_eq!(names("/"), ["etc", "volume"]);
    assert!(Path::new("/etc/hook").exists());
    let (bound, path) = (
        fstat(&volume.root).unwrap(),
        fs::metadata("/volume").unwrap(),
    );
    assert_eq!((bound.st_dev, bound.st_ino), (path.dev(), path.ino()));
    assert_eq!(attributes::of(&volume.root).unwrap(), Attributes::READONLY);
}

#[test]
fn the_root_of_the_host_is_not_prepared_in_its_place() {
    isolated!(the_root_of_the_host_is_not_prepared_in_its_place);
    let staged = MountTree::stage(Path::new("/"), SLAVE, Path::new("/"));
    assert!(matches!(staged.unwrap_err(), MountError::HostRoot));
}

#[test]
fn nothing_is_seen_elsewhere() {
    isolated!(
        nothing_is_seen_elsewhere,
        "mount -t tmpfs none /mnt; mount --make-shared /mnt"
    );
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!all.contains(" shared:"), "{all}");
    let bundle = Bundle::new();
    let mut tree = bundle.stage();
    for (kind, name, shown) in [
        (PropagationKind::Slave, "slave", "master:"),
        (PropagationKind::Private, "private", ""),
        (PropagationKind::Unbindable, "unbindable", "unbindable"),
    ] {
        let manner = Manner {
            propagation: Some(Propagation {
                kind,
                recursive: false,
            }),
            ..PLAIN
        };
        bind(&mut tree, Path::new("/mnt"), name, manner);
        let (_, optional) = mountinfo(&format!("/proc/fs/{name}"));
        if shown.is_empty() {
            assert_eq!(optional, "", "{name}");
        } else {
            assert!(optional.starts_with(shown), "{name}: {optional}");
        }
    }
}

#[test]
fn files_and_detached_mounts_can_be_bound_in_an_empty_tree() {
    isolated!(files_and_detached_mounts_can_be_bound_in_an_empty_tree);
    let bundle = Bundle::new();
    let mut tree = MountTree::stage_empty(Path::new(STAGING)).unwrap();
    let opened = super::open_directory(&bundle.volume()).unwrap();
    let source = Source::File(opened.as_fd());
    tree.bind(source, Path::new("/a/opened"), PLAIN).unwrap();
    let detached = sys::clone_mount(Some(opened.as_fd()), c"", true).unwrap();
    let readonly = with(Attributes::READONLY);
    tree.bind(Source::Detached(detached), Path::new("/detached"), readonly)
        .unwrap();
    tree.settle().unwrap();
    tree.enter().unwrap();
    assert_eq!(names("/"), ["a", "detached"]);
    assert_eq!(names("/a/opened"), ["file", "sub"]);
    fs::write("/a/opened/new", "").unwrap();
    let why = fs::write("/detached/new", "").unwrap_err();
    assert_eq!(why.raw_os_error(), Some(libc::EROFS));
}

#[test]
fn a_directory_is_not_bound_on_a_file() {
    isolated!(a_directory_is_not_bound_on_a_file);
    let bundle = Bundle::new();
    fs::write(bundle.root().join("file"), "").unwrap();
    let mut tree = bundle.stage();
    for (source, destination, errno) in [
        ("volume", "/file", "ENOTDIR"),
        ("volume/file", "/etc", "EISDIR"),
    ] {
        let source = bundle.directory.path().join(source);
        let refused = tree.bind(Source::Path(&source), Path::new(destination), PLAIN);
        let why = refused.unwrap_err().to_string();
        assert!(why.contains(destination) && why.contains(errno), "{why}");
    }
    let missing = bundle.directory.path().join("missing");
    let refused = tree.bind(Source::Path(&missing), Path::new("/m"), PLAIN);
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("missing") && why.contains("ENOENT"), "{why}");
    assert!(!bundle.root().join("m").exists(), "nothing is left of it");
}
