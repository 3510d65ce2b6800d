//! The same for a process that may not mount, for which the host's root stays: Landlock looks at each path.
//!
//! A child would make it a mount of what is served. It is forked while there is one thread, and a test
//! is a second one, so these processes make do without: nothing but Landlock, the capabilities and the
//! filter holds them. `tests/sandbox/mounts.rs` looks at the mounts of a gofer.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Output;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::mount::{MsFlags, mount};
use nix::sys::ptrace;
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{chroot, execv, getppid, mkdir, symlinkat, unlink};

use super::super::Jail;
use super::misbehave;
use super::{
    DONE, MISBEHAVIOUR, assert_done, assert_filtered, enter, make_null, may_go_in, served,
};
use crate::jail::apart::{case, run_by};

const NAME: &str = "jail::entry::tests::paths::nothing_leads_out";

/// The case in a process that does not have CAP_SYS_ADMIN.
fn run(case: &str) -> Output {
    let around: &[&str] = if may_go_in() {
        &["setpriv", "--bounding-set", "-sys_admin"]
    } else {
        &[]
    };
    run_by(around, NAME, case)
}

/// What Landlock and the capabilities stop without the filter.
fn refused() {
    let scratch = std::env::temp_dir();
    let [dir, outside] = ["served", "outside"].map(|name| scratch.join(name));
    for dir in [&dir, &outside] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("file"), "").unwrap();
    }
    let file = outside.join("file");
    let look = |path: &Path| open(path, OFlag::O_RDONLY, Mode::empty()).map(drop);
    let program = || execv(c"/no/such/program", &[c"program"]).map(drop);
    assert_eq!((look(&file), program()), (Ok(()), Err(Errno::ENOENT)));
    let held = File::options().append(true).open(&file).unwrap();
    let (jail, host) = enter(&served(&dir), Jail::new(true)).unwrap();
    assert!(!jail.is_inside);
    let directory = |path: &Path| open(path, OFlag::O_PATH, Mode::empty()).unwrap();
    let (root, outside_fd) = (directory(&dir), directory(&outside));

    let none = Err(Errno::EACCES);
    for path in [
        "/proc/self/status",
        "/proc/self/mem",
        "/etc/passwd",
        "/dev/null",
        "/",
    ] {
        assert_eq!(look(path.as_ref()), none, "{path}");
    }
    // Files that this user may do anything with, for all that their owner and mode say.
    assert_eq!(look(&file), none);
    let new = outside.join("new");
    let (flags, mode) = (OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU);
    assert_eq!(open(&new, flags, mode).map(drop), none);
    assert_eq!(mkdir(&new, mode), none);
    assert_eq!(mknod(&new, SFlag::S_IFIFO, mode, 0), none);
    assert_eq!(symlinkat("x", &outside_fd, "new"), none);
    assert_eq!(unlink(&file), none);
    assert_eq!(renameat(&outside_fd, "file", &outside_fd, "other"), none);
    // In or out it is a move between directories, one of which is not served.
    for (from, to) in [(&outside_fd, &root), (&root, &outside_fd)] {
        let moved = renameat(from, "file", to, "moved").unwrap_err();
        assert!([Errno::EACCES, Errno::EXDEV].contains(&moved), "{moved}");
    }
    let below = |dir: &dyn AsFd, path: &str| {
        openat(dir.as_fd(), path, OFlag::O_RDONLY, Mode::empty()).map(drop)
    };
    assert_eq!(below(&root, "file"), Ok(()));
    assert_eq!(below(&root, "../outside/file"), none);
    // As stderr can be: it is written to, but not opened again to be read.
    assert_eq!(below(&host.procfd(), &held.as_raw_fd().to_string()), none);
    for path in ["../status", "../../self/status", "../mem"] {
        below(&host.procfd(), path).unwrap_err();
    }
    assert_eq!(execv(c"/bin/true", &[c"true"]).map(drop), none);
    assert_eq!(make_null(&root, "null"), Err(Errno::EPERM));
    assert_eq!(chroot("/"), Err(Errno::EPERM));
    let (tmpfs, nothing) = (Some("tmpfs"), None::<&str>);
    let mounted = mount(tmpfs, &dir, tmpfs, MsFlags::empty(), nothing);
    assert_eq!(mounted, Err(Errno::EPERM));
    assert_eq!(ptrace::attach(getppid()), Err(Errno::EPERM));
    eprintln!("{DONE}");
}

#[test]
fn nothing_leads_out() {
    match case().as_deref() {
        None => {
            assert_done(&run("refused"));
            for case in MISBEHAVIOUR {
                assert_filtered(case, &run(case));
            }
        }
        Some("refused") => refused(),
        Some(case) => {
            assert!(!may_go_in());
            misbehave(case, Jail::new(true));
        }
    }
}
