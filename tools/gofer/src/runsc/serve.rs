//! The order in which the gofer does what `runsc` expects.
#![forbid(unsafe_code)]

use nix::unistd::getpid;
use tracing::info;

use super::argv::Invocation;
use super::donated::Donated;
use super::{handshake, log};
use crate::failure::{Failure, cannot};

/// Serves until the sandbox has hung up everywhere.
pub(crate) fn run(invocation: Invocation) -> Result<(), Failure> {
    let mut donated = Donated::take(&invocation.fds)?;
    if let Some(target) = donated.debug_log.take() {
        let format = invocation.log_format;
        log::start(target, format, invocation.dialect, invocation.debug)
            .map_err(cannot("cannot log to --debug-log-fd"))?;
    }
    crate::panics::log();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = getpid().as_raw(),
        ?invocation,
        "lisafs-gofer"
    );
    if let Some(fd) = donated.sync_chroot.take() {
        handshake::wait_for_close(fd, "the container's file systems")?;
    }
    if let Some(fd) = donated.sync_userns.take() {
        handshake::enter_user_namespace(fd, invocation.uid, invocation.gid)?;
    }
    if let Some(socket) = donated.sentry_exit.take() {
        handshake::wait_for_sandbox(socket);
    }
    Ok(())
}
