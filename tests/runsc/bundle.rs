//! What a sandbox runs: a root file system with a few tools, and the OCI specification around it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::command;
use crate::scratch::{Place, SCRATCH};

/// What a root file system holds besides busybox.
const TOOLS: [&str; 3] = ["bash", "git", "sqlite3"];

/// Why the sandboxes have nothing to run, if they do not.
pub(crate) fn missing() -> Option<String> {
    template().as_ref().err().cloned()
}

/// A root file system that the others are copies of.
fn template() -> &'static Result<PathBuf, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = Path::new(SCRATCH).join("template");
        fill(&root).map(|()| root)
    })
}

fn fill(root: &Path) -> Result<(), String> {
    let io = |error: std::io::Error| format!("{}: {error}", root.display());
    for dir in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(root.join(dir)).map_err(io)?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").map_err(io)?;
    let busybox = find_program("busybox")?;
    if !libraries(&busybox)?.is_empty() {
        return Err("busybox is not linked statically (Debian: busybox-static)".to_owned());
    }
    fs::copy(&busybox, root.join("bin/busybox")).map_err(io)?;
    let applets = output(Command::new(&busybox).arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).map_err(io)?;
    }
    for tool in TOOLS {
        add_program(root, &find_program(tool)?)?;
    }
    Ok(())
}

/// Copies a program into `/bin` of `root`, and its libraries to where it looks for them.
pub(crate) fn add_program(root: &Path, program: &Path) -> Result<(), String> {
    let name = program.file_name().ok_or("a program has a name")?;
    let mut copies = vec![(program.to_owned(), root.join("bin").join(name))];
    for library in libraries(program)? {
        let inside = library.strip_prefix("/").unwrap_or(&library);
        copies.push((library.clone(), root.join(inside)));
    }
    for (from, to) in copies {
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::copy(&from, &to).map(drop))
            .map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

/// A program that is installed.
pub(crate) fn find_program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("{name} is not installed"))
}

/// The libraries that `ldd` knows of.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let listed = command::run(Command::new("ldd").arg(program), Duration::from_secs(10))?;
    Ok(listed
        .stdout
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}

fn output(command: &mut Command) -> Result<String, String> {
    command::run(command, Duration::from_secs(60))?.success()
}

/// A directory with a root file system and a specification.
pub(crate) struct Bundle {
    place: Place,
    spec: Value,
}

impl Bundle {
    /// A bundle that runs nothing in particular as root of a fresh root file system.
    pub(crate) fn new() -> Result<Bundle, String> {
        let template = template().as_ref().map_err(Clone::clone)?;
        let place = Place::new("b")?;
        let root = place.path().join("rootfs");
        output(Command::new("cp").arg("-a").arg(template).arg(&root))?;
        let capabilities = json!([
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_FSETID",
            "CAP_KILL",
            "CAP_MKNOD",
            "CAP_SETGID",
            "CAP_SETUID",
            "CAP_SYS_ADMIN",
            "CAP_SYS_CHROOT",
        ]);
        let namespaces =
            ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({"type": kind}));
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["true"],
                "env": ["PATH=/bin", "HOME=/root", "LC_ALL=C", "GIT_AUTHOR_DATE=@7 +0000",
                        "GIT_COMMITTER_DATE=@7 +0000"],
                "cwd": "/",
                "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                },
            },
            "root": {"path": "rootfs", "readonly": false},
            "hostname": "sandbox",
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": namespaces},
        });
        Ok(Bundle { place, spec })
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// The host's path of something in the root file system.
    pub(crate) fn root(&self, inside: &str) -> PathBuf {
        self.path().join("rootfs").join(inside)
    }

    /// The specification, to be changed.
    pub(crate) fn spec(&mut self) -> &mut Value {
        &mut self.spec
    }

    /// Sets what the container runs.
    pub(crate) fn args(&mut self, args: &[&str]) {
        self.spec["process"]["args"] = json!(args);
    }

    /// Binds `source`, relative to the bundle or absolute, to `destination`.
    pub(crate) fn bind(&mut self, source: &str, destination: &str, options: &[&str]) {
        if let Some(mounts) = self.spec["mounts"].as_array_mut() {
            mounts.push(json!({
                "destination": destination, "type": "bind", "source": source, "options": options,
            }));
        }
    }

    /// Makes the bundle complete.
    pub(crate) fn write(&self) -> Result<(), String> {
        let path = self.path().join("config.json");
        fs::write(&path, self.spec.to_string())
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}
