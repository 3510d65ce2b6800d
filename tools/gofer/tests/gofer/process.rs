//! A gofer that runs as long as a test does.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use caps::{CapSet, Capability};
use lisafs::client::{Client, ClientOptions};
#[allow(unused_imports)] // what other tests use
pub(crate) use lisafs_patience::{PATIENCE, eventually, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A gofer that listens. Killed when dropped.
pub(crate) struct Gofer {
    child: Child,
    /// For the socket, and for what is served if nothing else is.
    dir: TempDir,
    pub(crate) root: PathBuf,
    pub(crate) socket: PathBuf,
}

/// It heeds SIGINT also where these tests run in the background and have it ignored.
pub(crate) fn command() -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT");
    command.arg(env!("CARGO_BIN_EXE_lisafs-gofer"));
    command.args(["serve", "--log", "error"]);
    command
}

impl Gofer {
    /// Serves a new directory.
    pub(crate) fn listen(options: &[&str]) -> Gofer {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        Gofer::listen_again(dir, options)
    }

    /// Serves what another gofer has served, where that has listened.
    pub(crate) fn listen_again(dir: TempDir, options: &[&str]) -> Gofer {
        let root = dir.path().join("root");
        Gofer::start(dir, root, options)
    }

    /// Serves `root`.
    pub(crate) fn serve(root: &Path, options: &[&str]) -> Gofer {
        Gofer::start(tempfile::tempdir().unwrap(), root.to_owned(), options)
    }

    fn start(dir: TempDir, root: PathBuf, options: &[&str]) -> Gofer {
        let mut command = command();
        command.args(options);
        Gofer::spawn(command, dir, root)
    }

    /// Serves `root` with any program that is told where to listen, and what to serve, in these words.
    pub(crate) fn spawn(mut command: Command, dir: TempDir, root: PathBuf) -> Gofer {
        let socket = dir.path().join("socket");
        let child = command
            .arg("--listen")
            .args([&socket, &root])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let gofer = Gofer {
            child,
            dir,
            root,
            socket,
        };
        eventually("the gofer listens", || {
            UnixStream::connect(&gofer.socket).is_ok()
        });
        gofer
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self, options: &ClientOptions) -> Client {
        options.connect(&self.socket).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Ends it without a chance to clean up.
    pub(crate) fn kill(mut self) -> TempDir {
        self.signal(Signal::SIGKILL);
        self.wait();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }
}

impl Drop for Gofer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the gofer ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Whether this user can look into a gofer in a sandbox, which is not dumpable.
pub(crate) fn sees_inside() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_PTRACE).unwrap()
}

/// Options for a gofer that this user can look into.
pub(crate) fn visible() -> &'static [&'static str] {
    if sees_inside() {
        &[]
    } else {
        &["--sandbox", "off"]
    }
}

/// What `/proc/PID/status` says, see proc_pid_status(5).
pub(crate) struct Status(String);

impl Status {
    pub(crate) fn of(pid: u32) -> Status {
        Status(std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap())
    }

    /// Of each thread that does not end meanwhile.
    pub(crate) fn of_threads(pid: u32) -> Vec<Status> {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let paths = threads.map(|thread| thread.unwrap().path().join("status"));
        let all = paths.filter_map(|path| std::fs::read_to_string(path).ok());
        all.map(Status).collect()
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(line, _)| *line == name).unwrap();
        value.trim()
    }
}
