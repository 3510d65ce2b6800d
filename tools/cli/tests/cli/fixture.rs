//! A directory to serve, and the tool at work on it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lisafs::host::{HostFs, HostOptions};
use lisafs::server::{ConnectionOpts, Server};
pub(crate) use lisafs_patience::eventually;
use serde_json::Value;
use tempfile::TempDir;

/// A directory that is served, beside others that are not.
pub(crate) struct Fixture {
    dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        Fixture { dir }
    }

    /// What is served.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// A path in the directory that is served.
    pub(crate) fn served(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root().join(path)
    }

    /// A path elsewhere.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The tool, with a private server.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = lisafs();
        command.arg("--serve").arg(self.root()).args(arguments);
        command
    }

    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Done {
        done(&mut self.command(arguments))
    }

    /// What is printed by a command that has to succeed.
    pub(crate) fn text<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        String::from_utf8(self.run(arguments).success()).unwrap()
    }

    /// Runs the tool with a server that it inherits, which may do what `host` says.
    pub(crate) fn inherit<A: AsRef<OsStr>>(
        &self,
        host: HostOptions,
        opts: ConnectionOpts,
        arguments: &[A],
    ) -> Done {
        let server = Server::new(1);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let backend = HostFs::open(&self.root(), host).unwrap();
        server.start_connection(ours, backend, opts).unwrap();
        let mut command = lisafs();
        command.args(["--fd", "0"]).args(arguments);
        let done = done(command.stdin(Stdio::from(OwnedFd::from(theirs))));
        drop(command);
        server.wait();
        done
    }

    /// The objects that are printed by a command that has to succeed.
    pub(crate) fn json<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Vec<Value> {
        let mut command = lisafs();
        command.arg("--json").arg("--serve").arg(self.root());
        objects(&done(command.args(arguments)).success())
    }
}

pub(crate) fn lisafs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lisafs"));
    command.stdin(Stdio::null());
    command
}

pub(crate) fn done(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    Done {
        code: output.status.code(),
        out: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn objects(lines: &[u8]) -> Vec<Value> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

impl Done {
    /// What was printed, if all went well.
    pub(crate) fn success(self) -> Vec<u8> {
        assert_eq!((self.code, &*self.err), (Some(0), ""));
        self.out
    }

    /// Asserts that the answer was no, and why.
    pub(crate) fn says_no(&self, message: &str) {
        assert_eq!((self.code, &*self.err), (Some(1), message));
    }
}
