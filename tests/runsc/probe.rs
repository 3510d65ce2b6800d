//! A program for what busybox cannot do: sockets, extended attributes, mapped memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::bundle::{self, Bundle};
use crate::command;

/// The program, or why there is none.
pub(crate) fn program() -> Result<&'static Path, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref().map_err(Clone::clone)
}

fn build() -> Result<PathBuf, String> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/go");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("probe");
    let mut build = Command::new("go");
    build
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&out)
        .arg("./cmd/probe")
        .env("CGO_ENABLED", "0")
        .current_dir(module);
    command::run(&mut build, Duration::from_secs(300))
        .and_then(command::Finished::success)
        .map_err(|why| format!("the probe cannot be built: {why}"))?;
    Ok(out)
}

/// Puts it into the bundle's root.
pub(crate) fn add(bundle: &Bundle) -> Result<(), String> {
    bundle::add_program(&bundle.root(""), program()?)
}

/// Runs it on the host.
pub(crate) fn run(verb: &str, path: &Path) -> Result<String, String> {
    let mut probe = Command::new(program()?);
    command::run(probe.arg(verb).arg(path), Duration::from_secs(30))?.success()
}
