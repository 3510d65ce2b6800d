//! The user's `runsc`.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::failure::{Failure, cannot};
use super::libexec::Libexec;
use super::redirect::Place;
use super::trust;
use crate::args::InstallOptions;

/// A runsc, and what becomes of it.
pub(super) struct Source {
    /// Where it lies, without symbolic links.
    path: PathBuf,
    content: Vec<u8>,
    version: String,
    redirection: Redirection,
}

/// How there comes to be a runsc that executes something else instead of itself.
pub(super) enum Redirection {
    /// By another path in this place.
    Patch(Place),
    /// Somebody has built it.
    Rebuilt(Vec<u8>),
}

impl Source {
    pub(super) fn read(options: &InstallOptions, libexec: &Libexec) -> Result<Source, Failure> {
        let runsc = &options.runsc;
        let path = fs::canonicalize(runsc).map_err(cannot("cannot find", runsc))?;
        let content = fs::read(&path).map_err(cannot("cannot read", &path))?;
        let redirection = match &options.rebuilt {
            Some(rebuilt) => Redirection::Rebuilt(read_rebuilt(rebuilt, &libexec.multiplexer())?),
            None => {
                let unfit = |why| Failure::Unfit {
                    runsc: path.clone(),
                    why,
                };
                Redirection::Patch(Place::find(&content).map_err(unfit)?)
            }
        };
        let source = Source {
            version: version(&path)?,
            path,
            content,
            redirection,
        };
        // They are executed where they are.
        if let Some(directory) = source.sidecars() {
            trust::check(&directory.join("new"))?;
        }
        Ok(source)
    }

    pub(super) fn original(&self) -> &[u8] {
        &self.content
    }

    pub(super) fn redirection(&self) -> &Redirection {
        &self.redirection
    }

    /// The first line of what it says of its version.
    pub(super) fn version(&self) -> &str {
        self.version.lines().next().unwrap_or_default()
    }

    /// The directory of programs that come with it.
    pub(super) fn sidecars(&self) -> Option<PathBuf> {
        Some(self.path.parent()?.join("gvisor-bin")).filter(|directory| directory.is_dir())
    }

    /// Whether it lets its sandboxes open files without a gofer unless it is told not to.
    pub(super) fn has_directfs(&self) -> bool {
        // Old versions know no such flag, and say so.
        ask(&self.path, &["--directfs=false", "--version"]).is_ok()
    }

    /// Checks that another program says that it is the same.
    pub(super) fn agrees(&self, program: &Path) -> Result<(), Failure> {
        let copy = version(program)?;
        if copy != self.version {
            return Err(Failure::OtherVersion {
                program: program.to_owned(),
                copy,
                runsc: self.path.clone(),
                original: self.version.clone(),
            });
        }
        Ok(())
    }
}

fn read_rebuilt(path: &Path, multiplexer: &Path) -> Result<Vec<u8>, Failure> {
    let content = fs::read(path).map_err(cannot("cannot read", path))?;
    let wanted = multiplexer.as_os_str().as_bytes();
    if !content.windows(wanted.len()).any(|window| window == wanted) {
        return Err(Failure::NotRebuilt {
            runsc: path.to_owned(),
            multiplexer: multiplexer.to_owned(),
        });
    }
    Ok(content)
}

fn version(program: &Path) -> Result<String, Failure> {
    ask(program, &["--version"]).map_err(|why| Failure::Version {
        program: program.to_owned(),
        why,
    })
}

/// What a program prints, or what it complains about.
fn ask(program: &Path, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    // It runs with no environment at times.
    command.args(words).env_clear().stdin(Stdio::null());
    let output = command.output().map_err(|why| why.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let first = complaint.lines().next().unwrap_or_default();
        Err(format!("{}: {first}", output.status))
    }
}
