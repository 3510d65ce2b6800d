//! gVisor's side: building our Go programs against its releases, and running them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

/// A release of gVisor, whose client and server are the peers.
pub(crate) struct Release {
    /// What its tests are called after.
    pub(crate) name: &'static str,
    /// The cases of the conformance suite that its server must fail.
    pub(crate) differences: &'static str,
    /// The probes that see our server answer otherwise than its own.
    pub(crate) observed: &'static str,
    /// Whether its server has extended attributes.
    pub(crate) xattr: bool,
    /// What builds its programs into a directory.
    build: fn(&Path) -> Command,
    programs: OnceLock<Result<PathBuf, String>>,
}

/// The one that `go.mod` pins, and that of December 2022, which Debian packages.
pub(crate) static RELEASES: [Release; 2] = [
    Release {
        name: "gvisor",
        differences: include_str!("differences.txt"),
        observed: include_str!("observed-differences.txt"),
        xattr: true,
        build: |out| {
            let mut go = Command::new("go");
            go.args(["build", "-buildvcs=false", "-o"]).arg(out);
            go.arg("./cmd/...");
            go
        },
        programs: OnceLock::new(),
    },
    Release {
        name: "gvisor2022",
        differences: include_str!("differences-2022.txt"),
        observed: include_str!("observed-differences-2022.txt"),
        xattr: false,
        build: |out| {
            let mut script = Command::new("./build-2022");
            script.arg(out);
            script
        },
        programs: OnceLock::new(),
    },
];

impl Release {
    /// A test that needs the release's programs. Where they cannot be built it is shown as ignored,
    /// with the reason; in CI it fails then.
    pub(crate) fn trial(
        &'static self,
        what: &str,
        test: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Trial {
        let name = format!("{}{what}", self.name);
        Trial::ignorable_test(name, move || match self.programs() {
            Err(reason) if std::env::var_os("CI").is_some() => Err(Failed::from(reason)),
            Err(reason) => Ok(Completion::ignored_with(reason)),
            Ok(_) => test().map(|()| Completion::Completed).map_err(Failed::from),
        })
    }

    /// The directory with the built programs, or why there is none. `LISAFS_GO_PROGRAMS` names one
    /// that somebody else has filled, with a directory for each release.
    pub(crate) fn programs(&self) -> Result<&Path, String> {
        let built = self.programs.get_or_init(|| self.build());
        built.as_deref().map_err(Clone::clone)
    }

    fn build(&self) -> Result<PathBuf, String> {
        if let Some(built) = std::env::var_os("LISAFS_GO_PROGRAMS") {
            return Ok(Path::new(&built).join(self.name));
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/go");
        let out = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("interop-go")
            .join(self.name);
        fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        let built = (self.build)(&out)
            .current_dir(source)
            .output()
            .map_err(|error| format!("Go is not installed: {error}"))?;
        if built.status.success() {
            Ok(out)
        } else {
            let why = String::from_utf8_lossy(&built.stderr);
            Err(format!("the Go programs cannot be built: {}", why.trim()))
        }
    }

    /// The words that have `goserver` serve `dir` on its standard input.
    pub(crate) fn server_command(
        &self,
        dir: &Path,
        options: &[&str],
    ) -> Result<Vec<std::ffi::OsString>, String> {
        let mut command = vec![self.programs()?.join("goserver").into_os_string()];
        command.extend(["--fd", "0"].map(Into::into));
        command.extend(options.iter().map(Into::into));
        command.push(dir.into());
        Ok(command)
    }

    /// Runs `goclient` over `stream` and returns the lines that it prints, and whether it was content.
    pub(crate) fn run_client(
        &self,
        stream: UnixStream,
        options: &[&str],
    ) -> Result<(Vec<Value>, bool), String> {
        let mut client = Command::new(self.programs()?.join("goclient"))
            .args(["--fd", "0"])
            .args(options)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(stream)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("goclient: {error}"))?;
        let lines = json_lines(&mut client);
        let ended = client
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        if lines.is_empty() {
            return Err(String::from_utf8_lossy(&ended.stderr).into_owned());
        }
        Ok((lines, ended.status.success()))
    }
}

fn json_lines(child: &mut Child) -> Vec<Value> {
    let Some(stdout) = child.stdout.take() else {
        return Vec::new();
    };
    let lines = BufReader::new(stdout).lines().map_while(Result::ok);
    lines
        .filter_map(|line| serde_json::from_str(&line).ok())
        .collect()
}
