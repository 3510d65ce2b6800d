//! Why an installation, or its removal, was given up.
#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};

use super::redirect::{LENGTH, Unfit};

/// Why it was given up, and what to do, as its user reads it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{doing} {}: {source}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{}: {why}. Another way is a runsc of your own build, see --rebuilt",
        runsc.display()
    )]
    Unfit { runsc: PathBuf, why: Unfit },
    #[error(
        "{}: it does not hold the path {}: build it with -ldflags \
         \"-X gvisor.dev/gvisor/runsc/specutils.ExePath={}\"",
        runsc.display(),
        multiplexer.display(),
        multiplexer.display()
    )]
    NotRebuilt {
        runsc: PathBuf,
        multiplexer: PathBuf,
    },
    #[error("{} --version: {why}", program.display())]
    Version { program: PathBuf, why: String },
    #[error(
        "{} says that it is {copy:?}, and {} that it is {original:?}: they have to be of the same \
         version",
        program.display(),
        runsc.display()
    )]
    OtherVersion {
        program: PathBuf,
        copy: String,
        runsc: PathBuf,
        original: String,
    },
    #[error("{}: there is something else here: remove it, or choose another prefix", path.display())]
    Foreign { path: PathBuf },
    #[error("{}: another installation is at work here: try again when it is done", path.display())]
    Busy { path: PathBuf },
    #[error("{}: nothing was installed here", path.display())]
    NotInstalled { path: PathBuf },
    #[error("{}: the list of what was installed cannot be understood", path.display())]
    BadManifest { path: PathBuf },
    #[error("{}: a path with a line break in it cannot be installed to", path.display())]
    LineBreak { path: PathBuf },
    #[error(
        "{}: {} could be changed by {who}, who could so choose what runsc executes: choose another \
         place",
        path.display(),
        ancestor.display()
    )]
    Exposed {
        path: PathBuf,
        ancestor: PathBuf,
        who: String,
    },
    #[error(
        "--link {}: it has to be an absolute path of at most {LENGTH} bytes that does not end in /",
        path.display()
    )]
    BadLink { path: PathBuf },
    #[error("--link {}: there is something here already: choose another path", path.display())]
    LinkTaken { path: PathBuf },
    #[error(
        "{}: {source}. runsc has room for a path of {LENGTH} bytes, so one as short as that has \
         to be free in a directory that you may write: name it with --link, {advice}",
        directory.display()
    )]
    NoLink {
        directory: PathBuf,
        source: io::Error,
        advice: String,
    },
}

/// Says what could not be done to which file.
pub(super) fn cannot(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::File {
        doing,
        path: path.to_owned(),
        source,
    }
}
