//! The instrument at work.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A directory for what is served and what is written.
pub(crate) struct Fixture {
    dir: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("served")).unwrap();
        Fixture { dir }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is left of what was served.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("served")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The instrument with a private gofer, few repetitions, and the report in a file.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = bench();
        command.arg("--serve").arg(self.path("served"));
        command.arg("--json").arg(self.path("report.json"));
        command.args(["--slices", "2"]).args(arguments);
        command
    }

    /// The report of a command that has to succeed.
    pub(crate) fn report<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Value {
        let done = self.command(arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        self.written()
    }

    /// The report that was written last.
    pub(crate) fn written(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("report.json")).unwrap()).unwrap()
    }
}

/// It heeds SIGINT also where these tests run in the background and have it ignored.
pub(crate) fn bench() -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT");
    command.arg(env!("CARGO_BIN_EXE_lisafs-bench"));
    command.stdin(Stdio::null());
    command
}

/// A gofer for `--versus`, with more arguments.
pub(crate) fn gofer(label: &str, arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_lisafs-bench");
    let serve = "internal-gofer serve --log error --sandbox off --listen {socket}";
    format!("{label}: exec '{program}' {serve} {arguments} -- {{dir}}")
}

pub(crate) fn stderr(done: &Output) -> String {
    String::from_utf8(done.stderr.clone()).unwrap()
}

pub(crate) fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// The results of the first work, of all servers.
pub(crate) fn results(report: &Value) -> &[Value] {
    array(&report["measured"][0]["results"])
}

/// Percentiles that are there, and no smaller than those before.
pub(crate) fn check_latency(latency: &Value) {
    let names = [
        "min_ns",
        "p50_ns",
        "p90_ns",
        "p99_ns",
        "p99.9_ns",
        "p99.99_ns",
        "max_ns",
    ];
    let values = names.map(|name| latency[name].as_u64().unwrap());
    assert!(values.is_sorted(), "{latency}");
    assert!(values[0] > 0, "{latency}");
    assert!(latency["mean_ns"].as_f64().unwrap() >= values[0] as f64);
}
