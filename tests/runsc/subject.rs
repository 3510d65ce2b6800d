//! The `runsc` binaries: of which release, and with whose gofer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::command;

/// A `runsc` that people run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The package of Debian 12, of December 2022.
    Debian,
    /// Built from gVisor's Go module, in the version that the interoperability tests name.
    Head,
}

impl Release {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Release::Debian => "debian",
            Release::Head => "head",
        }
    }

    /// Its binary, or why there is none.
    pub(crate) fn runsc(self) -> Result<&'static Path, String> {
        static DEBIAN: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        static HEAD: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let found = match self {
            Release::Debian => DEBIAN.get_or_init(find_debians),
            Release::Head => HEAD.get_or_init(build_head),
        };
        found.as_deref().map_err(Clone::clone)
    }
}

fn find_debians() -> Result<PathBuf, String> {
    let path = Path::new("/usr/bin/runsc");
    let version = command::run(Command::new(path).arg("--version"), Duration::from_secs(10))
        .map_err(|why| format!("Debian's package runsc is not installed: {why}"))?
        .success()?;
    if version.contains("20221219") {
        Ok(path.to_owned())
    } else {
        Err(format!("{} is another release: {version}", path.display()))
    }
}

/// Builds it, unless `LISAFS_RUNSC_HEAD` names one that somebody else has built.
fn build_head() -> Result<PathBuf, String> {
    if let Some(built) = std::env::var_os("LISAFS_RUNSC_HEAD") {
        return Ok(built.into());
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/go");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runsc-head/runsc");
    let mut build = Command::new("go");
    build
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&out)
        .arg("gvisor.dev/gvisor/runsc")
        .env("CGO_ENABLED", "0")
        .current_dir(module);
    command::run(&mut build, Duration::from_secs(1200))
        .and_then(command::Finished::success)
        .map_err(|why| format!("runsc cannot be built: {why}"))?;
    Ok(out)
}

/// Whose gofer a sandbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `runsc`'s own.
    Stock,
    /// Ours.
    Ours,
}

impl Subject {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::Stock => "stock",
            Subject::Ours => "ours",
        }
    }

    /// The `runsc` to start in place of `stock`.
    pub(crate) fn runsc(self, stock: &Path) -> Result<PathBuf, String> {
        match self {
            Subject::Stock => Ok(stock.to_owned()),
            Subject::Ours => with_our_gofer(stock),
        }
    }
}

/// A copy of `stock` that starts our gofer.
fn with_our_gofer(_stock: &Path) -> Result<PathBuf, String> {
    std::env::var_os("LISAFS_E2E_OURS")
        .map(PathBuf::from)
        .ok_or_else(|| "LISAFS_E2E_OURS names no runsc that starts our gofer".to_owned())
}
