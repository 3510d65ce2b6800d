//! Why the gofer cannot serve.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use flipcall::ParseWaitPolicyError;
use lisafs::Errno;
use lisafs::host::SetupError;
use lisafs::server::Refusal;

use crate::inherited::Unfit;
use crate::jail::caps::CapsFailure;
use crate::jail::landlock::LandlockFailure;
use crate::jail::layers::Missing;
use crate::jail::mount_error::MountError;
use crate::jail::seccomp::SeccompFailure;
use crate::runsc::{
    HookError, Malformed, OpenMountError, PlanError, RootPropagationError, Shared, SpecError,
};

/// Why the gofer cannot serve, as its user reads it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}: {source}", dir.display())]
    Root { dir: PathBuf, source: Errno },
    #[error("{}: {why}: {}", dir.display(), why.errno())]
    Setup { dir: PathBuf, why: SetupError },
    #[error("{}: another server listens here: end it, or choose another path", path.display())]
    Live { path: PathBuf },
    #[error("{}: --listen and --metrics name the same socket: choose another for one", path.display())]
    SameSocket { path: PathBuf },
    #[error(
        "{}: this is not a socket, and will not be replaced: remove it, or choose another path",
        path.display()
    )]
    NotASocket { path: PathBuf },
    #[error(
        "{}: a socket path has at most 107 bytes: choose a shorter one, or one relative to the \
         current directory",
        path.display()
    )]
    LongPath { path: PathBuf },
    #[error("{}: cannot listen: {source}", path.display())]
    Listen { path: PathBuf, source: Errno },
    #[error("--fd {number}: {why}")]
    Fd { number: i32, why: Unfit },
    #[error("the socket that LISTEN_FDS passes on: {0}")]
    Passed(Unfit),
    #[error(
        "there is no socket to serve: make one with --listen, or name one with --fd, or pass one on \
         as systemd does"
    )]
    NoSocket,
    #[error(
        "--max-total-fds {given}: one client takes {least}: permit more, or less with --max-channels \
         and --max-fds"
    )]
    TotalFds { given: usize, least: usize },
    #[error(
        "--max-total-ids {given}: one client takes {least}: permit more, or less with --max-ids"
    )]
    TotalIds { given: usize, least: usize },
    #[error("LISAFS_WAIT, in the environment of runsc: {0}")]
    Wait(ParseWaitPolicyError),
    #[error(transparent)]
    Argv(#[from] Malformed),
    #[error("--{flag}={number}: {source}: start this from a runsc, which donates descriptors")]
    Donated {
        flag: &'static str,
        number: i32,
        source: Errno,
    },
    #[error("--{flag}={number}: {why}")]
    Unfit {
        flag: &'static str,
        number: i32,
        why: Unfit,
    },
    #[error("runsc has something to say about {what}, where it should only close: is it newer?")]
    Unsynced { what: &'static str },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("{}: {why}: mend config.json", path.display())]
    MountOptions { path: PathBuf, why: Shared },
    #[error(transparent)]
    Propagation(#[from] RootPropagationError),
    #[error("{}: {why}", path.display())]
    OpenMount { path: PathBuf, why: OpenMountError },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Caps(#[from] CapsFailure),
    #[error(
        "the directory of descriptors cannot be cut off from the rest of /proc: this takes Linux 5.2 \
         and CAP_SYS_ADMIN over the mount namespace"
    )]
    Procfd,
    #[error(
        "the sandbox is without {layer}: {missing}. `lisafs-gofer check` shows all of it; --sandbox \
         best-effort serves without what is missing"
    )]
    Layer {
        layer: &'static str,
        missing: Missing,
    },
    #[error("the process that tries the sandbox: {0}")]
    Check(String),
    #[error("{0}: {advice}", advice = .0.advice())]
    Landlock(#[from] LandlockFailure),
    #[error("{0}: {advice}", advice = .0.advice())]
    Seccomp(#[from] SeccompFailure),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("this is a bug, please report it: {message}")]
    Bug { message: String },
    #[error("cannot serve the connection: {0}")]
    Connection(Refusal),
    #[error("{what}: {source}")]
    System { what: &'static str, source: Errno },
    #[error("{what}: {source}: {NO_PROCFS}")]
    Procfs { what: &'static str, source: Errno },
}

/// What to do where `/proc/self` is not there.
pub(crate) const NO_PROCFS: &str = "mount a procfs at /proc";

/// Says which step failed.
pub(crate) fn cannot<E: Into<Errno>>(what: &'static str) -> impl Fn(E) -> Failure {
    move |source| Failure::System {
        what,
        source: source.into(),
    }
}

/// The same of a step that has looked into `/proc/self`, and has no other reason for ENOENT.
pub(crate) fn cannot_see<E: Into<Errno>>(what: &'static str) -> impl Fn(E) -> Failure {
    move |source| match source.into() {
        source @ Errno::ENOENT => Failure::Procfs { what, source },
        source => Failure::System { what, source },
    }
}
