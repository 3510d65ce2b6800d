//! Each runs in a process of its own, which is restricted for good.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::{env, thread};

use lisafs::host::{HostFs, HostOptions};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{ftruncate, getppid, linkat, mkfifo};
use tempfile::TempDir;

use super::{Enforced, LandlockFailure, Reach, restrict};
use crate::failure::Failure;
use crate::jail::apart::{assert_passed, case, run};
use crate::jail::isolated::{Isolated, isolated};
use crate::jail::layers::{Layer, Missing};
use crate::skipped::skip;

/// Leaves the test unless it is in a process of its own.
macro_rules! apart {
    ($name:ident) => {
        let name = concat!("jail::landlock::tests::", stringify!($name));
        if case().is_none() {
            return assert_passed(name, &run(name, "apart"));
        }
    };
}

#[test]
fn what_to_do_without_it_is_said_once() {
    let why = LandlockFailure::Missing;
    let missing = Missing::new(&why, why.advice());
    let advice = "the kernel has no Landlock: use Linux 5.19 or later, built with \
                  CONFIG_SECURITY_LANDLOCK";
    assert_eq!(missing.to_string(), advice);
    let layer = Layer::Landlock.name();
    let said = Failure::Layer { layer, missing }.to_string();
    assert!(said.contains(advice), "{said}");
    assert_eq!(said.matches("best-effort").count(), 1, "{said}");
}

/// A root, and what is beside it.
struct Scene {
    directory: TempDir,
    root: OwnedFd,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir_all(path.join("root/a")).unwrap();
        fs::create_dir(path.join("root/b")).unwrap();
        fs::write(path.join("root/a/file"), "inside").unwrap();
        fs::write(path.join("outside"), "outside").unwrap();
        let root = open_path(&path.join("root"));
        Scene { directory, root }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    /// None where the kernel has no Landlock: there is nothing to see.
    fn restrict(&self) -> Option<Enforced> {
        restrict_to(&[self.root.as_fd()], Reach::Paths, false)
    }
}

fn restrict_to(roots: &[BorrowedFd<'_>], reach: Reach, devices: bool) -> Option<Enforced> {
    match restrict(roots, reach, devices) {
        Ok(enforced) => Some(enforced),
        Err(why) if why.is_unsupported() => {
            skip("a test of Landlock", why);
            None
        }
        Err(why) => panic!("{why}"),
    }
}

fn open_path(path: &Path) -> OwnedFd {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_PATH.bits())
        .open(path);
    file.unwrap().into()
}

fn denied<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|why| why.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn paths_lead_no_further_than_the_root() {
    apart!(paths_lead_no_further_than_the_root);
    let scene = Scene::new();
    let outside = scene.path("outside");
    symlink("../../outside", scene.path("root/a/link")).unwrap();
    let beside = open_path(scene.directory.path());
    let Some(enforced) = scene.restrict() else {
        return;
    };
    println!("{enforced}");
    assert!(denied(File::open(&outside)));
    assert!(denied(File::open(scene.path("root/a/link"))));
    assert!(denied(File::open(scene.path("root/a/../../outside"))));
    assert!(denied(fs::read_dir(scene.directory.path())));
    assert!(denied(File::open("/proc/self/status")));
    assert!(denied(fs::write(scene.path("new"), "")));
    assert!(denied(fs::create_dir(scene.path("new"))));
    assert!(denied(symlink("target", scene.path("new"))));
    assert!(denied(fs::remove_file(&outside)));
    assert!(denied(fs::rename(
        scene.path("root/a/file"),
        scene.path("new")
    )));
    // EXDEV, as it were another file system.
    fs::hard_link(&outside, scene.path("root/new")).unwrap_err();
    fs::rename(&outside, scene.path("root/new")).unwrap_err();
    if enforced.version >= 3 {
        assert!(denied(
            OpenOptions::new().write(true).truncate(true).open(&outside)
        ));
    }
    // A descriptor from before is no way round.
    let opened = openat(&beside, "outside", OFlag::O_RDONLY, Mode::empty());
    assert_eq!(opened.unwrap_err(), Errno::EACCES);
    let parent = openat(&scene.root, "..", OFlag::O_RDONLY, Mode::empty());
    assert_eq!(parent.unwrap_err(), Errno::EACCES);
    assert_eq!(fs::read(scene.path("root/a/file")).unwrap(), b"inside");
}

#[test]
fn everything_is_done_below_the_root() {
    const NAME: &str = "jail::landlock::tests::everything_is_done_below_the_root";
    match case().as_deref() {
        Some("paths") => everything_is_done(Reach::Paths),
        Some(_) => everything_is_done(Reach::Tree),
        None => {
            for case in ["paths", "tree"] {
                assert_passed(case, &run(NAME, case));
            }
        }
    }
}

fn everything_is_done(reach: Reach) {
    let scene = Scene::new();
    mkfifo(&scene.path("root/a/fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(scene.path("root/a/socket")).unwrap();
    if restrict_to(&[scene.root.as_fd()], reach, false).is_none() {
        return;
    }
    let path = |path| scene.path(path);
    fs::write(path("root/a/new"), "text").unwrap();
    let file = OpenOptions::new()
        .write(true)
        .open(path("root/a/new"))
        .unwrap();
    ftruncate(&file, 1).unwrap();
    fs::create_dir(path("root/b/directory")).unwrap();
    symlink("anywhere", path("root/b/link")).unwrap();
    mknod(&path("root/b/whiteout"), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
    let _bound = UnixListener::bind(path("root/b/socket")).unwrap();
    UnixStream::connect(path("root/b/socket")).unwrap();
    UnixStream::connect(path("root/a/socket")).unwrap();
    // Moving something to another directory takes the right to make it there.
    for name in ["new", "fifo", "socket"] {
        fs::rename(path("root/a").join(name), path("root/b/moved")).unwrap();
        let linked = path("root/a").join(name);
        linkat(
            AT_FDCWD,
            &path("root/b/moved"),
            AT_FDCWD,
            &linked,
            nix::fcntl::AtFlags::empty(),
        )
        .unwrap();
        fs::remove_file(path("root/b/moved")).unwrap();
    }
    fs::rename(path("root/b/directory"), path("root/a/directory")).unwrap();
    fs::rename(path("root/b/link"), path("root/a/link")).unwrap();
    fs::rename(path("root/b/whiteout"), path("root/a/whiteout")).unwrap();
    fs::remove_dir(path("root/a/directory")).unwrap();
}

#[test]
fn descriptors_are_opened_again_below_the_root_only() {
    apart!(descriptors_are_opened_again_below_the_root_only);
    let scene = Scene::new();
    let inside = open_path(&scene.path("root/a/file"));
    let outside = open_path(&scene.path("outside"));
    let host = HostFs::open(&scene.path("root"), HostOptions::default()).unwrap();
    if scene.restrict().is_none() {
        return;
    }
    let reopen = |fd: &OwnedFd, flags| {
        let name = fd.as_raw_fd().to_string();
        openat(host.procfd(), &name[..], flags, Mode::empty())
    };
    for flags in [OFlag::O_RDONLY, OFlag::O_WRONLY, OFlag::O_RDWR] {
        reopen(&inside, flags).unwrap();
        assert_eq!(reopen(&outside, flags).unwrap_err(), Errno::EACCES);
    }
    // Without a name it is still where it was.
    fs::remove_file(scene.path("root/a/file")).unwrap();
    reopen(&inside, OFlag::O_RDWR).unwrap();
    // Neither is that of others.
    let parent = openat(host.procfd(), "..", OFlag::O_RDONLY, Mode::empty());
    assert_eq!(parent.unwrap_err(), Errno::EACCES);
}

#[test]
fn a_file_can_be_the_root() {
    apart!(a_file_can_be_the_root);
    let scene = Scene::new();
    let (file, other) = (scene.path("root/a/file"), scene.path("outside"));
    let (root, roots) = (open_path(&file), open_path(&scene.path("root/b")));
    if restrict_to(&[root.as_fd(), roots.as_fd()], Reach::Paths, false).is_none() {
        return;
    }
    assert_eq!(fs::read(&file).unwrap(), b"inside");
    fs::write(&file, "changed").unwrap();
    assert!(denied(File::open(&other)));
    assert!(denied(fs::write(scene.path("root/a/new"), "")));
    fs::write(scene.path("root/b/new"), "").unwrap();
}

#[test]
fn what_the_gofer_never_needs_is_refused_everywhere() {
    apart!(what_the_gofer_never_needs_is_refused_everywhere);
    let scene = Scene::new();
    let program = scene.path("root/true");
    fs::copy("/bin/true", &program).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let name = format!("lisafs-gofer-test-{}", std::process::id());
    let hidden = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&hidden).unwrap();
    let Some(enforced) = restrict_to(&[scene.root.as_fd()], Reach::Tree, false) else {
        return;
    };
    let none = None::<&Path>;
    let mounted = mount(Some("/"), &scene.path("root"), none, MsFlags::MS_BIND, none);
    assert_eq!(mounted, Err(Errno::EPERM));
    assert!(denied(Command::new(&program).status()));
    if enforced.version >= 4 {
        assert!(denied(TcpStream::connect(address)));
        assert!(denied(TcpListener::bind("127.0.0.1:0")));
    }
    if enforced.version >= 6 {
        assert_eq!(kill(getppid(), None), Err(Errno::EPERM));
        assert!(UnixStream::connect_addr(&hidden).is_err());
    }
}

/// What is opened here and given away can still be used as it was opened for.
#[test]
fn devices_answer_if_they_are_served() {
    const NAME: &str = "jail::landlock::tests::devices_answer_if_they_are_served";
    let Some(case) = case() else {
        for case in ["served", "not"] {
            assert_passed(case, &run(NAME, case));
        }
        return;
    };
    let devices = File::open("/dev").unwrap();
    let Some(enforced) = restrict_to(&[devices.as_fd()], Reach::Tree, case == "served") else {
        return;
    };
    let device = File::open("/dev/zero").unwrap();
    let answer = crate::sys::ask_device(device.as_fd());
    if case == "served" || enforced.version < 5 {
        // It knows no such question.
        assert_eq!(answer, Err(Errno::ENOTTY));
    } else {
        assert_eq!(answer, Err(Errno::EACCES));
    }
}

#[test]
fn threads_from_then_on_are_restricted() {
    apart!(threads_from_then_on_are_restricted);
    let scene = Scene::new();
    if scene.restrict().is_none() {
        return;
    }
    let outside = scene.path("outside");
    let worker = thread::spawn(move || assert!(denied(File::open(outside))));
    worker.join().unwrap();
}

#[test]
fn mounts_below_the_root_belong_to_it() {
    let name = "jail::landlock::tests::mounts_below_the_root_belong_to_it";
    let Isolated::Inside = isolated(name, "") else {
        return;
    };
    let scene = Scene::new();
    let bind = |from: &Path, to: &Path| {
        let none = None::<&Path>;
        mount(Some(from), to, none, MsFlags::MS_BIND, none).unwrap();
    };
    fs::create_dir(scene.path("volume")).unwrap();
    fs::write(scene.path("volume/file"), "volume").unwrap();
    bind(&scene.path("volume"), &scene.path("root/b"));
    // A single file, as runsc binds /etc/hosts.
    bind(&scene.path("outside"), &scene.path("root/a/file"));
    if scene.restrict().is_none() {
        return;
    }
    assert_eq!(fs::read(scene.path("root/a/file")).unwrap(), b"outside");
    assert_eq!(fs::read(scene.path("root/b/file")).unwrap(), b"volume");
    fs::write(scene.path("root/b/new"), "").unwrap();
    // The same files by another way are none of the root's.
    assert!(denied(File::open(scene.path("outside"))));
    assert!(denied(File::open(scene.path("volume/file"))));
    let none = None::<&Path>;
    let root = scene.path("root");
    let mounted = mount(Some(&env::temp_dir()), &root, none, MsFlags::MS_BIND, none);
    assert_eq!(mounted, Err(Errno::EPERM));
}
