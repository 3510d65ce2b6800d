//! Which files the process can get at from here on, whatever path leads to them.
//!
//! This stops what a system call filter cannot see: a path that leads out. Opening, making, removing,
//! moving and linking files is refused above and beside the roots; looking at them, and changing
//! their mode, owner, times or extended attributes is not, as Landlock does not ask.
//!
//! Below the roots nothing is refused but executing, and, unless devices are served, ioctl(2) on
//! devices. In particular files of all types can be made there: to Landlock, moving a FIFO from one
//! directory to another is making one. What the client may make is for the system call filter to say.
//!
//! What was permitted when a file was opened stays with it, and with the client that it is donated to.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The newest version that this has been tried with. What later ones add is left alone.
const NEWEST: ABI = ABI::V7;

/// Landlock does not restrict the process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LandlockFailure {
    /// ENOSYS.
    #[error("the kernel has no Landlock: Linux 5.13 has it, built with CONFIG_SECURITY_LANDLOCK")]
    Missing,
    /// EOPNOTSUPP.
    #[error("Landlock is not among the security modules: add it to the kernel's lsm= parameter")]
    Disabled,
    #[error("Landlock cannot restrict the process: {0}")]
    Refused(#[from] RulesetError),
}

impl LandlockFailure {
    /// Whether that is for the kernel to provide, and not a failure of what it has.
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, LandlockFailure::Missing | LandlockFailure::Disabled)
    }
}

/// What is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Enforced {
    /// The version of the kernel's Landlock, as far as this program knows it.
    pub(crate) version: u32,
    /// It has all that was asked for.
    pub(crate) is_complete: bool,
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}", self.version)?;
        if self.is_complete {
            f.write_str(", all of it")
        } else {
            f.write_str(", which cannot do all: Linux 6.12 can")
        }
    }
}

/// Restricts the calling thread, and those it starts, to the files below `roots`, which can be files
/// themselves. `devices` says whether what is opened there may be devices. Sets no_new_privs.
///
/// To be called when all mounts are made, as none can be made afterwards, and while there is one thread.
///
/// # Errors
/// [`LandlockFailure::is_unsupported`] if the kernel has none; another one if it has but refuses.
pub(crate) fn restrict(
    roots: &[BorrowedFd<'_>],
    devices: bool,
) -> Result<Enforced, LandlockFailure> {
    let handled = AccessFs::from_all(NEWEST);
    let mut usual = handled & !AccessFs::Execute;
    if !devices {
        usual &= !AccessFs::IoctlDev;
    }
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(handled)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for root in roots {
        ruleset = ruleset.add_rule(PathBeneath::new(root, usual))?;
    }
    let status = ruleset.restrict_self()?;
    match status.landlock {
        LandlockStatus::NotImplemented => Err(LandlockFailure::Missing),
        LandlockStatus::NotEnabled => Err(LandlockFailure::Disabled),
        LandlockStatus::Available { effective_abi, .. } => Ok(Enforced {
            version: effective_abi as u32,
            is_complete: status.ruleset == RulesetStatus::FullyEnforced,
        }),
    }
}

#[cfg(test)]
mod tests;
