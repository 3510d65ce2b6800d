//! Where everything lives that the sandboxes need or leave, and the certainty that it goes.
//!
//! The program is started twice: one process has a mount namespace of its own with a tmpfs in it,
//! which is gone with its last process; it inherits all orphans among its descendants, so that they
//! are reaped as `init` would do it and none can hide. Its child does the work.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::processes;

/// A file system in memory that nobody else sees. Short, as the names of sockets have to be.
pub(crate) const SCRATCH: &str = "/dev/shm";

/// Marks the process that does the work.
const INSIDE: &str = "LISAFS_RUNSC_INSIDE";

/// Which of the two processes this is.
pub(crate) enum Role {
    /// The one that does the work, in the scratch.
    Inside,
    /// The other one: everything is over, with this result.
    Outside(ExitCode),
}

/// To be called first of all, before there is a second thread: becomes both processes.
///
/// # Errors
///
/// Says what is missing for sandboxes to run.
pub(crate) fn enter() -> Result<Role, String> {
    if std::env::var_os(INSIDE).is_some() {
        // Nobody would clean up after it.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(|errno| format!("to end with its parent: {errno}"))?;
        return Ok(Role::Inside);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can start containers".to_owned());
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("no mount namespace: {errno}"))?;
    let none: Option<&Path> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).map_err(|errno| format!("private mounts: {errno}"))?;
    let options = Some("mode=755,size=80%");
    mount(
        Some("tmpfs"),
        SCRATCH,
        Some("tmpfs"),
        MsFlags::empty(),
        options,
    )
    .map_err(|errno| format!("a tmpfs on {SCRATCH}: {errno}"))?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|errno| format!("to inherit orphans: {errno}"))?;
    end_on_signals()?;
    let inside = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .spawn()
        .map_err(|error| format!("this program once more: {error}"))?;
    Ok(Role::Outside(reap(inside.id())))
}

/// Reaps all children until `inside` has ended, and says how that was.
fn reap(inside: u32) -> ExitCode {
    let code = loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(process, code)) if process.as_raw().unsigned_abs() == inside => {
                break u8::try_from(code).unwrap_or(1);
            }
            Ok(WaitStatus::Signaled(process, ..)) if process.as_raw().unsigned_abs() == inside => {
                break 1;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break 1,
        }
    };
    match leave() {
        Ok(()) => ExitCode::from(code),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Has a signal that ends the program end its descendants too.
fn end_on_signals() -> Result<(), String> {
    let ending = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    ending
        .thread_block()
        .map_err(|errno| format!("to block signals: {errno}"))?;
    thread::spawn(move || {
        if let Ok(signal) = ending.wait() {
            kill_descendants();
            // There are other threads, in the middle of something.
            #[allow(clippy::exit)]
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

/// Kills every process that comes from this one, until there is none.
fn kill_descendants() {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let descendants = processes::descendants(std::process::id());
        if descendants.is_empty() || Instant::now() > deadline {
            return;
        }
        for process in descendants {
            processes::kill(process);
        }
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {
        }
    }
}

/// Ends what the sandboxes have left behind and says what that was.
fn leave() -> Result<(), String> {
    let living = || {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {
        }
        processes::descendants(std::process::id())
    };
    // Those of a sandbox that was killed may be about to end.
    let grace = Instant::now() + Duration::from_secs(20);
    while Instant::now() < grace && !living().is_empty() {
        thread::sleep(Duration::from_millis(10));
    }
    let left: Vec<String> = living()
        .into_iter()
        .map(|process| format!("{process}: {}", processes::command_line(process).join(" ")))
        .collect();
    kill_descendants();
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("processes left behind:\n{}", left.join("\n")))
    }
}

/// A new directory below the scratch, named after `name`; gone when it is dropped.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new(name: &str) -> Result<Place, String> {
        tempfile::Builder::new()
            .prefix(name)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(SCRATCH)
            .map(Place)
            .map_err(|error| format!("{SCRATCH}: {error}"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A directory of that name in this one.
    pub(crate) fn dir(&self, name: &str) -> Result<std::path::PathBuf, String> {
        let path = self.path().join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}
