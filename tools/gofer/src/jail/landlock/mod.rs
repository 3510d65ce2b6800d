//! What the process can do with files from here on, whatever path leads to them.
//!
//! Landlock looks at a path by walking it up to a directory that there is a rule for: 0.1 µs for each
//! step, whenever something is opened, made, removed, moved or linked. To open a file 64 levels below
//! the root takes four times as long then. So there is a [choice](Reach): paths are looked at where the
//! process sees more than it serves, and where it has a mount tree of its own, which holds nothing
//! else, only what is never done is forbidden.
//!
//! Below the roots nothing is refused but executing, and, unless devices are served, ioctl(2) on
//! devices. In particular files of all types can be made there: to Landlock, moving a FIFO from one
//! directory to another is making one. What the client may make is for the system call filter to say.
//! Nowhere are mounts made, TCP ports used, processes outside traced or signalled, or abstract sockets
//! of others connected to.
//!
//! What Landlock never asks about: looking at files, and changing their mode, owner, times or extended
//! attributes. What was permitted when a file was opened stays with it, and with the client that it is
//! donated to.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use nix::sys::stat::{SFlag, fstat};

/// The newest version that this has been tried with. What later ones add is left alone.
const NEWEST: ABI = ABI::V7;

/// Landlock does not restrict the process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LandlockFailure {
    /// ENOSYS.
    #[error("the kernel has no Landlock")]
    Missing,
    /// EOPNOTSUPP.
    #[error("Landlock is not among the security modules of this kernel")]
    Disabled,
    /// The first version.
    #[error("this kernel's Landlock would keep files from being moved between directories")]
    Old,
    #[error("Landlock cannot restrict the process: {0}")]
    Refused(#[from] RulesetError),
}

impl LandlockFailure {
    /// Whether that is for the kernel to provide, and not a failure of what it has.
    pub(crate) fn is_unsupported(&self) -> bool {
        !matches!(self, LandlockFailure::Refused(_))
    }

    /// What can be done.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            LandlockFailure::Disabled => "add landlock to the kernel's lsm= parameter",
            LandlockFailure::Missing | LandlockFailure::Old => {
                "use Linux 5.19 or later, built with CONFIG_SECURITY_LANDLOCK"
            }
            LandlockFailure::Refused(_) => "permit landlock_restrict_self(2) and what precedes it",
        }
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every path: other files can be reached.
    Paths,
    /// Only what is never done: all files that can be reached are served.
    Tree,
}

/// What is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Enforced {
    /// The version of the kernel's Landlock, as far as this program knows it.
    pub(crate) version: u32,
    /// It has all that was asked for.
    pub(crate) is_complete: bool,
    pub(crate) reach: Reach,
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reach {
            Reach::Paths => "no path leads out of the root",
            Reach::Tree => "nothing is executed",
        })?;
        write!(f, ", Landlock version {}", self.version)?;
        if !self.is_complete {
            f.write_str(", which cannot do all: Linux 6.12 can")?;
        }
        Ok(())
    }
}

/// Restricts the calling thread, and those it starts. `roots` are what is served, which can be files;
/// `devices` says whether what is opened there may be devices. Sets no_new_privs.
///
/// To be called when all mounts are made, as none can be made afterwards, and while there is one thread.
///
/// # Errors
/// [`LandlockFailure::is_unsupported`] if the kernel has none; another one if it has but refuses.
pub(crate) fn restrict(
    roots: &[BorrowedFd<'_>],
    reach: Reach,
    devices: bool,
) -> Result<Enforced, LandlockFailure> {
    // To move something to another directory is refused unless it is permitted, handled or not.
    let handled = match reach {
        Reach::Paths => AccessFs::from_all(NEWEST),
        Reach::Tree => AccessFs::Execute | AccessFs::IoctlDev | AccessFs::Refer,
    };
    let mut usual = handled & !AccessFs::Execute;
    if !devices {
        usual &= !AccessFs::IoctlDev;
    }
    let mut ruleset = Ruleset::default()
        // All or nothing as to this one.
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(handled)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for root in roots {
        let mut usual = usual;
        if !is_directory(root) {
            usual &= AccessFs::from_file(NEWEST);
        }
        // Nothing that is handled can be done with it, and a rule about nothing is an error.
        if !usual.is_empty() {
            ruleset = ruleset.add_rule(PathBeneath::new(root, usual))?;
        }
    }
    let status = ruleset.restrict_self()?;
    match status.landlock {
        LandlockStatus::NotImplemented => Err(LandlockFailure::Missing),
        LandlockStatus::NotEnabled => Err(LandlockFailure::Disabled),
        LandlockStatus::Available { .. } if status.ruleset == RulesetStatus::NotEnforced => {
            Err(LandlockFailure::Old)
        }
        LandlockStatus::Available { effective_abi, .. } => Ok(Enforced {
            version: effective_abi as u32,
            reach,
            is_complete: status.ruleset == RulesetStatus::FullyEnforced,
        }),
    }
}

fn is_directory(file: &BorrowedFd<'_>) -> bool {
    let mode = fstat(file).map(|stat| stat.st_mode);
    mode.is_ok_and(|mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

#[cfg(test)]
mod tests;
