//! Starting sandboxes and telling them what to do. Nothing here waits for ever.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::bundle::Bundle;
use crate::command::{self, Finished};
use crate::processes;
use crate::scratch::Place;

/// Far more than a command takes that does little in its sandbox. Generous, as it only shows in failures.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A `runsc` with its flags and a state directory of its own.
pub(crate) struct Runsc {
    binary: PathBuf,
    flags: Vec<String>,
    env: Vec<(String, String)>,
    cpus: Option<String>,
    limit: Duration,
    state: Place,
}

impl Runsc {
    pub(crate) fn new(binary: &Path, platform: &str) -> Result<Runsc, String> {
        let state = Place::new("s")?;
        let mut flags = vec![
            format!("--root={}", state.dir("state")?.display()),
            format!("--platform={platform}"),
            "--network=none".to_owned(),
            "--ignore-cgroups".to_owned(),
        ];
        // To find out why a sandbox does not start.
        if let Some(dir) = std::env::var_os("LISAFS_RUNSC_DEBUG") {
            let dir = Path::new(&dir).display().to_string();
            flags.extend(["--debug".to_owned(), format!("--debug-log={dir}/")]);
        }
        Ok(Runsc {
            binary: binary.to_owned(),
            flags,
            env: Vec::new(),
            cpus: None,
            limit: LIMIT,
            state,
        })
    }

    /// Adds a global flag.
    pub(crate) fn flag(mut self, flag: impl Into<String>) -> Runsc {
        self.flags.push(flag.into());
        self
    }

    /// Adds to the environment, which is the gofer's too.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Runsc {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives a container's process another time than [`LIMIT`] to end.
    pub(crate) fn within(mut self, limit: Duration) -> Runsc {
        self.limit = limit;
        self
    }

    /// Keeps all its processes on these CPUs, as `taskset -c` names them.
    pub(crate) fn on_cpus(mut self, cpus: &str) -> Runsc {
        self.cpus = Some(cpus.to_owned());
        self
    }

    /// Hands the state directory to a user who is to run it.
    pub(crate) fn owned_by(self, user: u32) -> Result<Runsc, String> {
        for path in [
            self.state.path().to_owned(),
            self.state.path().join("state"),
        ] {
            std::os::unix::fs::chown(path, Some(user), Some(user))
                .map_err(|error| error.to_string())?;
        }
        Ok(self)
    }

    /// A command of `runsc`, with the global flags before it.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = match &self.cpus {
            None => Command::new(&self.binary),
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpus]).arg(&self.binary);
                command
            }
        };
        command.args(&self.flags).args(words);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        // The bundles that `do` makes up are there.
        command.env("TMPDIR", self.state.path());
        command
    }

    /// Runs a command of `runsc` to its end.
    pub(crate) fn finish(&self, words: &[&str]) -> Result<Finished, String> {
        command::run(&mut self.command(words), self.limit)
    }

    /// Runs a bundle's process to its end.
    pub(crate) fn run(&self, bundle: &Bundle) -> Result<Finished, String> {
        bundle.write()?;
        let path = bundle.path().to_string_lossy();
        self.finish(&["run", "--bundle", &path, &fresh_id()])
    }

    /// Runs a script with `runsc do` in the directory `root`.
    pub(crate) fn run_do(&self, options: &[&str], script: &str) -> Result<Finished, String> {
        let words = [
            &["do", "--cwd=/"],
            options,
            &["/bin/busybox", "sh", "-c", script],
        ]
        .concat();
        self.finish(&words)
    }

    /// Creates a container, which does not run yet.
    pub(crate) fn create(&self, bundle: &Bundle) -> Result<Container<'_>, String> {
        bundle.write()?;
        let container = Container {
            runsc: self,
            id: fresh_id(),
        };
        let path = bundle.path().to_string_lossy();
        self.detached(&["create", "--bundle", &path, &container.id])?;
        Ok(container)
    }

    /// Runs a command that leaves processes behind, which keep what they inherit.
    fn detached(&self, words: &[&str]) -> Result<(), String> {
        let log = self.state.path().join("detached");
        let open = || std::fs::File::create(&log).map_err(|error| error.to_string());
        let mut command = self.command(words);
        let mut child = command
            .stdin(std::process::Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let (status, _) = command::wait(&mut child, LIMIT)?;
        if status.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        Err(format!("{command:?}: {status}\n{said}"))
    }

    /// What there is of containers in the state directory.
    pub(crate) fn states(&self) -> Result<Vec<String>, String> {
        let entries = std::fs::read_dir(self.state.path().join("state"));
        let names = entries
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect())
            .map_err(|why| why.to_string());
        let names: Vec<std::ffi::OsString> = names?;
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| name.starts_with(ID_PREFIX)).collect())
    }

    /// The gofers of the containers that were created or are run with this state directory.
    pub(crate) fn gofers(&self) -> Vec<u32> {
        self.flags
            .first()
            .map_or_else(Vec::new, |root| processes::started_as("runsc-gofer", root))
    }

    /// The sandboxes, likewise.
    pub(crate) fn sandboxes(&self) -> Vec<u32> {
        self.flags.first().map_or_else(Vec::new, |root| {
            processes::started_as("runsc-sandbox", root)
        })
    }
}

/// What the names of all containers begin with.
const ID_PREFIX: &str = "container-";

/// The name of a container that there has not been yet.
pub(crate) fn fresh_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{ID_PREFIX}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A container, deleted when it is dropped.
pub(crate) struct Container<'a> {
    runsc: &'a Runsc,
    pub(crate) id: String,
}

impl Container<'_> {
    pub(crate) fn start(&self) -> Result<(), String> {
        self.runsc.detached(&["start", &self.id])
    }

    /// Runs a shell script in the container.
    pub(crate) fn exec(&self, script: &str) -> Result<Finished, String> {
        self.runsc
            .finish(&["exec", &self.id, "/bin/sh", "-c", script])
    }

    /// What `runsc state` calls its status.
    pub(crate) fn status(&self) -> Result<String, String> {
        let state = self.runsc.finish(&["state", &self.id])?.success()?;
        let state: serde_json::Value =
            serde_json::from_str(&state).map_err(|error| error.to_string())?;
        Ok(state["status"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) fn delete(self) -> Result<(), String> {
        let deleted = self
            .runsc
            .finish(&["delete", "--force", &self.id])?
            .success();
        std::mem::forget(self);
        deleted.map(drop)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.runsc.finish(&["delete", "--force", &self.id]);
    }
}
