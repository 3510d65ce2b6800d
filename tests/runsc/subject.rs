//! The `runsc` binaries: of which release, and with whose gofer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::scratch::SCRATCH;
use crate::{bundle, command};

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
            Release::Debian => DEBIAN.get_or_init(|| reachable("debian", &find_debians()?)),
            Release::Head => HEAD.get_or_init(|| reachable("head", &build_head()?)),
        };
        found.as_deref().map_err(Clone::clone)
    }
}

/// A copy where everybody can execute it, as they cannot below root's home.
fn reachable(name: &str, runsc: &Path) -> Result<PathBuf, String> {
    let copy = Path::new(SCRATCH).join(name).join("runsc");
    let made = copy.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::copy(runsc, &copy))
        .map_err(|error| format!("{}: {error}", copy.display()))?;
    Ok(copy)
}

fn find_debians() -> Result<PathBuf, String> {
    let path = bundle::find_program("runsc")?;
    let version = command::run(
        Command::new(&path).arg("--version"),
        Duration::from_secs(10),
    )?
    .success()?;
    if version.contains("20221219") {
        Ok(path)
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

/// What `lisafs-gofer install` makes of `stock`, once for each.
///
/// `LISAFS_E2E_OURS` names a `runsc` to take instead.
fn with_our_gofer(stock: &Path) -> Result<PathBuf, String> {
    if let Some(ours) = std::env::var_os("LISAFS_E2E_OURS") {
        return Ok(ours.into());
    }
    static INSTALLED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut installed = INSTALLED.lock().map_err(|error| error.to_string())?;
    let number = installed.iter().position(|other| other == stock);
    let prefix = |number: usize| Path::new(SCRATCH).join(format!("prefix-{number}"));
    let made = |number: usize| prefix(number).join("bin/runsc-lisafs");
    if let Some(number) = number {
        return Ok(made(number));
    }
    let number = installed.len();
    let mut install = Command::new(env!("CARGO_BIN_EXE_lisafs-gofer"));
    install.arg("install").arg("--runsc").arg(stock);
    install.arg("--prefix").arg(prefix(number));
    // Not in /etc, as without this.
    install.arg("--link").arg(format!("{SCRATCH}/to-{number}"));
    command::run(&mut install, Duration::from_secs(60))?.success()?;
    installed.push(stock.to_owned());
    Ok(made(number))
}
