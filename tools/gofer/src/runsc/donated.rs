//! The descriptors that come with the process.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;

use super::argv::Fds;
use crate::failure::{Failure, cannot};
use crate::process::open_descriptors;
use crate::{inherited, sys};

/// What `runsc` has donated, under its names.
#[derive(Debug)]
pub(crate) struct Donated {
    pub(crate) debug_log: Option<OwnedFd>,
    pub(crate) spec: File,
    /// A pipe, which the sandbox reads to its end.
    pub(crate) mounts: File,
    /// The root's, then one for each mount that is served.
    pub(crate) io: Vec<UnixStream>,
    pub(crate) dev_io: Option<UnixStream>,
    pub(crate) rpc: Option<UnixStream>,
    /// Not used: this process must be the last that has it.
    pub(crate) pin_ring: Option<OwnedFd>,
    pub(crate) sync_userns: Option<OwnedFd>,
    pub(crate) sync_chroot: Option<OwnedFd>,
    pub(crate) sentry_exit: Option<OwnedFd>,
}

impl Donated {
    /// Takes over what the command line names, but for the log, which is somebody's already, and
    /// closes whatever else the process was started with: a copy of the mounts pipe would have the
    /// sandbox wait for ever, and the runsc of 2022 leaks what its caller had open.
    pub(crate) fn take(fds: &Fds) -> Result<Donated, Failure> {
        let donated = Donated {
            debug_log: optional("debug-log-fd", fds.debug_log)?,
            spec: take("spec-fd", fds.spec)?.into(),
            mounts: take("mounts-fd", fds.mounts)?.into(),
            io: fds
                .io
                .iter()
                .map(|number| socket("io-fds", *number))
                .collect::<Result<_, _>>()?,
            dev_io: fds
                .dev_io
                .map(|number| socket("dev-io-fd", number))
                .transpose()?,
            rpc: fds.rpc.map(|number| socket("rpc-fd", number)).transpose()?,
            pin_ring: optional("pin-ring-fd", fds.pin_ring)?,
            sync_userns: optional("sync-userns-fd", fds.sync_userns)?,
            sync_chroot: optional("sync-chroot-fd", fds.sync_chroot)?,
            sentry_exit: optional("sync-sentry-exit-fd", fds.sentry_exit)?,
        };
        close_others(fds).map_err(cannot("cannot close what else was inherited"))?;
        Ok(donated)
    }
}

/// Takes over one descriptor.
pub(crate) fn take(flag: &'static str, number: RawFd) -> Result<OwnedFd, Failure> {
    sys::take_inherited(number).map_err(|source| Failure::Donated {
        flag,
        number,
        source: source.into(),
    })
}

fn optional(flag: &'static str, number: Option<RawFd>) -> Result<Option<OwnedFd>, Failure> {
    number.map(|number| take(flag, number)).transpose()
}

fn socket(flag: &'static str, number: RawFd) -> Result<UnixStream, Failure> {
    inherited::take(number).map_err(|why| Failure::Unfit { flag, number, why })
}

fn close_others(fds: &Fds) -> io::Result<()> {
    let is_ours = |number: &RawFd| *number <= 2 || fds.all().any(|named| named == *number);
    for number in open_descriptors()?
        .into_iter()
        .filter(|number| !is_ours(number))
    {
        match sys::take_inherited(number) {
            Ok(fd) => drop(fd),
            // It is this program's, or was while they were listed.
            Err(Errno::EBADF) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}
