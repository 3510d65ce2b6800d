//! What a process can still do that has gone in and then misbehaves. Each case is a process of its own.

mod paths;

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;

use ::caps::{CapSet, Capability};
use lisafs::host::{CharacterDevices, HostFs, HostOptions};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::{Pid, execv, linkat, unlinkat};

use super::Jail;
use crate::failure::Failure;
use crate::jail::apart::{case, run, signal_of};
use crate::jail::export::Served;
use crate::jail::seccomp::{Policy, Violation};
use crate::skipped::skip;

const NAME: &str = "jail::entry::tests::nothing_leads_out";
const DONE: &str = "all of it was refused";

/// # Panics
/// If the case has not come to its end. Stdout leads nowhere by then.
fn assert_done(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let done = said.contains(DONE);
    assert!(output.status.success() && done, "{}: {said}", output.status);
}

fn may_go_in() -> bool {
    ::caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap()
}

fn served(dir: &Path) -> Served<'_> {
    Served {
        dir,
        options: HostOptions::default(),
        readonly: false,
        client: None,
    }
}

/// The root of what is served, from inside, without the filter.
fn inside(served: &Served<'_>) -> Result<(HostFs, OwnedFd), Failure> {
    let (_jail, host) = enter(served, Jail::new(false))?;
    let root = open("/", OFlag::O_PATH, Mode::empty()).unwrap();
    Ok((host, root))
}

fn enter(served: &Served<'_>, mut jail: Jail) -> Result<(Jail, HostFs), Failure> {
    let root = open(served.dir, OFlag::O_PATH, Mode::empty()).unwrap();
    let host = jail.enclose(served, root)?;
    Ok((jail, host))
}

fn filter(jail: Jail, served: &Served<'_>, host: &HostFs) -> Result<(), Failure> {
    let policy = Policy {
        procfd: host.procfd(),
        host_uds: served.options.host_uds,
        identities: false,
        accepts: false,
        violation: Violation::Kill,
    };
    jail.filter(&policy).map(drop)
}

/// The null device.
fn make_null(dir: impl AsFd, name: &str) -> Result<(), Errno> {
    let device = libc::makedev(1, 3);
    mknodat(dir, name, SFlag::S_IFCHR, Mode::S_IRWXU, device)
}

/// What the mount tree, the capabilities and Landlock stop without the filter.
fn refused() {
    let dir = std::env::temp_dir();
    let readonly = Served {
        readonly: true,
        ..served(&dir)
    };
    let (host, root) = inside(&readonly).unwrap();
    let look = |path: &str| open(path, OFlag::O_RDONLY, Mode::empty()).map(drop);
    for path in [
        "/proc/self/status",
        "/etc/passwd",
        "/dev/null",
        "/../etc/passwd",
    ] {
        assert_eq!(look(path), Err(Errno::ENOENT), "{path}");
    }
    let below = |dir: &dyn AsFd, path: &str| {
        openat(dir.as_fd(), path, OFlag::O_RDONLY, Mode::empty()).map(drop)
    };
    assert_eq!(below(&root, "../etc/passwd"), Err(Errno::ENOENT));
    // The directory of descriptors is all there is of its procfs.
    for path in ["../status", "../../self/status", "../mem"] {
        below(&host.procfd(), path).unwrap_err();
    }
    let made = openat(&root, "new", OFlag::O_CREAT, Mode::S_IRWXU).map(drop);
    assert_eq!(made, Err(Errno::EROFS));
    assert_eq!(
        unlinkat(&root, "none", nix::unistd::UnlinkatFlags::NoRemoveDir),
        Err(Errno::EROFS)
    );
    assert_eq!(nix::unistd::chroot("/"), Err(Errno::EPERM));
    let mounted = nix::mount::mount(
        Some("/"),
        "/",
        None::<&str>,
        nix::mount::MsFlags::MS_BIND,
        None::<&str>,
    );
    assert_eq!(mounted, Err(Errno::EPERM));
    // No interface of the host.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.send_to(b"x", "192.0.2.1:9").unwrap_err();
    drop(fs::read_dir("/").unwrap());
    eprintln!("{DONE}");
}

/// What a root that can be written to does not stop. In `dir` is a device, if there could be one.
fn devices(dir: &Path, policy: CharacterDevices) {
    let is_there = File::open(dir.join("null")).is_ok();
    let served = Served {
        options: HostOptions {
            character_devices: policy,
            ..HostOptions::default()
        },
        ..served(dir)
    };
    let (_host, root) = inside(&served).unwrap();
    let new = openat(&root, "new", OFlag::O_CREAT, Mode::S_IRWXU).map(drop);
    assert_eq!(new, Ok(()), "it cannot be written to");
    assert_eq!(make_null(&root, "made"), Err(Errno::EPERM));
    if is_there {
        let opened = openat(&root, "null", OFlag::O_RDONLY, Mode::empty()).map(drop);
        let expected = match policy {
            CharacterDevices::Open => Ok(()),
            _ => Err(Errno::EACCES),
        };
        assert_eq!(opened, expected);
    } else {
        eprintln!("no device is opened: none can be had outside");
    }
    eprintln!("{DONE}");
}

const MISBEHAVIOUR: [&str; 8] = [
    "follow", "device", "ptrace", "kill", "internet", "unix", "execute", "link",
];

/// # Panics
/// If the filter has not ended the case.
fn assert_filtered(case: &str, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(signal_of(output), Some(libc::SIGSYS), "{case}: {said}");
}

/// What the filter ends a process for.
fn misbehave(case: &str, jail: Jail) {
    let dir = std::env::temp_dir();
    let served = served(&dir);
    let (jail, host) = enter(&served, jail).unwrap();
    let root = open("/", OFlag::O_PATH, Mode::empty()).unwrap();
    filter(jail, &served, &host).unwrap();
    match case {
        "follow" => drop(openat(&root, "x", OFlag::O_RDONLY, Mode::empty())),
        "device" => drop(make_null(&root, "null")),
        "ptrace" => drop(ptrace::attach(Pid::from_raw(1))),
        "kill" => drop(kill(Pid::from_raw(1), None)),
        "internet" => drop(UdpSocket::bind("127.0.0.1:0")),
        "unix" => drop(UnixStream::connect("/socket")),
        "execute" => drop(execv(c"/bin/true", &[c"true"])),
        "link" => drop(linkat(&root, "a", &root, "b", AtFlags::empty())),
        other => panic!("{other}"),
    }
}

#[test]
fn nothing_leads_out() {
    match case().as_deref() {
        // `paths` is about everybody else.
        None if !may_go_in() => skip(NAME, "it takes CAP_SYS_ADMIN"),
        None => {
            assert_done(&run(NAME, "refused"));
            for case in MISBEHAVIOUR {
                assert_filtered(case, &run(NAME, case));
            }
        }
        Some("refused") => refused(),
        Some(case) => misbehave(case, Jail::new(false)),
    }
}

#[test]
fn devices_are_neither_made_nor_opened() {
    const NAME: &str = "jail::entry::tests::devices_are_neither_made_nor_opened";
    if let Some(case) = case() {
        let (policy, dir) = case.split_once(' ').unwrap();
        return devices(Path::new(dir), policy.parse().unwrap());
    }
    if !may_go_in() {
        return skip(NAME, "it takes CAP_SYS_ADMIN");
    }
    // From inside nobody could remove it.
    let dir = tempfile::tempdir().unwrap();
    let made = make_null(File::open(dir.path()).unwrap(), "null");
    assert!(matches!(made, Ok(()) | Err(Errno::EPERM)), "{made:?}");
    for policy in ["none", "open"] {
        let case = format!("{policy} {}", dir.path().display());
        assert_done(&run(NAME, &case));
        fs::remove_file(dir.path().join("new")).unwrap();
    }
}

/// A file of the host that is open already is not closed by going in: `process::prepare` does that.
#[test]
fn a_file_can_be_served() {
    const NAME: &str = "jail::entry::tests::a_file_can_be_served";
    if case().is_none() {
        return assert_done(&run(NAME, "file"));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let served = served(file.path());
    let root = File::open(file.path()).unwrap().into();
    let mut jail = Jail::new(true);
    let host = jail.enclose(&served, root).unwrap();
    assert!(jail.is_inside == host.procfd_is_detached());
    eprintln!("{DONE}");
}
