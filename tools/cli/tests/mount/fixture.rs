//! A directory, the tool that mounts it, and what cleans up after both.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

pub(crate) use lisafs_patience::eventually;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Why nothing can be mounted here, if so.
pub(crate) fn obstacle() -> Option<&'static str> {
    if File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .is_err()
    {
        return Some("needs /dev/fuse");
    }
    let helped = || Command::new("fusermount3").arg("-V").output().is_ok();
    let root = nix::unistd::geteuid().is_root();
    (!root && !helped()).then_some("needs root or fusermount3")
}

/// Three directories of one tmpfs: one that is served, one to mount on, and one that is neither.
pub(crate) struct Fixture {
    dir: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        for name in ["served", "mounted", "plain"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Fixture { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The tool, about to serve and mount.
    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut command = lisafs();
        command.arg("--json").arg("--serve");
        command.arg(self.path("served")).arg("mount").args(options);
        command.arg(self.path("mounted"));
        command
    }

    pub(crate) fn mount(&self, options: &[&str]) -> Mounted {
        Mounted::start(&mut self.command(options), self.path("mounted"))
    }

    /// A server of its own.
    pub(crate) fn serve(&self, options: &[&str]) -> Server {
        let socket = self.path("socket");
        let child = lisafs()
            .args(["internal-gofer", "serve", "--log", "error"])
            .args(options)
            .arg("--listen")
            .args([&socket, &self.path("served")])
            .spawn()
            .unwrap();
        let server = Server { child };
        eventually("the gofer listens", || UnixStream::connect(&socket).is_ok());
        server
    }

    /// Mounts what another server serves.
    pub(crate) fn mount_from(&self, _: &Server) -> Mounted {
        let mut command = lisafs();
        command.args(["--json", "--connect"]);
        command.arg(self.path("socket")).arg("mount");
        Mounted::start(command.arg(self.path("mounted")), self.path("mounted"))
    }
}

/// The tool with the signals as a shell in the foreground leaves them.
fn lisafs() -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP,INT,TERM");
    command.arg(env!("CARGO_BIN_EXE_lisafs"));
    command.stdin(Stdio::null());
    command
}

/// A server that ends with this.
pub(crate) struct Server {
    pub(crate) child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mount, which does not outlive this.
pub(crate) struct Mounted {
    pub(crate) path: PathBuf,
    /// What was said when it was mounted.
    pub(crate) announced: Value,
    child: Child,
    out: BufReader<ChildStdout>,
}

/// How a mount came to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What was said then.
    pub(crate) said: Value,
    pub(crate) err: String,
}

impl Mounted {
    fn start(command: &mut Command, path: PathBuf) -> Mounted {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let announced = object(&mut out);
        let mounted = Mounted {
            path,
            announced,
            child,
            out,
        };
        assert!(is_mounted(&mounted.path));
        mounted
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        let status = self.child.wait().unwrap();
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        Ended {
            status,
            said: object(&mut self.out),
            err,
        }
    }

    /// Ends it, as a user would.
    pub(crate) fn end(self) {
        self.signal(Signal::SIGINT);
        let ended = self.ended();
        assert_eq!((ended.status.code(), &*ended.err), (Some(0), ""));
        assert_eq!(ended.said["by"], "signal");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if is_mounted(&self.path) && umount2(&self.path, MntFlags::MNT_DETACH).is_err() {
            let helper = Command::new("fusermount3")
                .args(["-u", "-z"])
                .arg(&self.path)
                .status();
            assert!(helper.is_ok_and(|status| status.success()) || thread::panicking());
        }
    }
}

/// The object on the next line.
fn object(lines: &mut impl BufRead) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_default()
}

/// Whether something is mounted on `path`, which has nothing in it that would have to be escaped.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = path.to_str().unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path))
}
