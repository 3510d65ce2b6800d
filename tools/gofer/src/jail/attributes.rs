//! What the files of a mount can be used for, and which other mounts follow it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use bitflags::bitflags;
use lisafs::host::CharacterDevices;
use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::sys;

bitflags! {
    /// What files of a mount cannot be used for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Attributes: u64 {
        const READONLY = libc::MOUNT_ATTR_RDONLY;
        const NOSUID = libc::MOUNT_ATTR_NOSUID;
        const NODEV = libc::MOUNT_ATTR_NODEV;
        const NOEXEC = libc::MOUNT_ATTR_NOEXEC;
    }
}

impl Attributes {
    /// What nothing that is served is to be used for: the server executes nothing, and opens devices
    /// only where that was asked for.
    pub(crate) fn of_served(devices: CharacterDevices) -> Attributes {
        let mut attributes = Attributes::NOSUID;
        attributes.set(Attributes::NODEV, devices == CharacterDevices::None);
        attributes
    }
}

/// When reading files is noted in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessTimes {
    /// None leaves it as it is.
    pub(crate) policy: Option<AccessTimePolicy>,
    /// Never in directories. They follow the policy, or what is in force already, otherwise.
    pub(crate) not_in_directories: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessTimePolicy {
    Never,
    /// Once a day, and after changes.
    Relative,
    Always,
}

impl AccessTimes {
    /// The bits to set and the bits to clear.
    fn bits(self) -> (u64, u64) {
        let (set, clear) = match self.policy {
            None => (0, 0),
            Some(AccessTimePolicy::Never) => (libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME),
            Some(AccessTimePolicy::Relative) => {
                (libc::MOUNT_ATTR_RELATIME, libc::MOUNT_ATTR__ATIME)
            }
            Some(AccessTimePolicy::Always) => {
                (libc::MOUNT_ATTR_STRICTATIME, libc::MOUNT_ATTR__ATIME)
            }
        };
        if self.not_in_directories {
            (set | libc::MOUNT_ATTR_NODIRATIME, clear)
        } else {
            (set, clear)
        }
    }
}

/// Which mounts and unmounts elsewhere are repeated below a mount. None is ever repeated elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Propagation {
    pub(crate) kind: PropagationKind,
    /// The mounts below are to have it, too.
    pub(crate) recursive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PropagationKind {
    /// Those of the mount that it was made from.
    Slave,
    /// None.
    Private,
    /// None, and it cannot be bound elsewhere.
    Unbindable,
}

/// Attributes could not be given to a mount.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttributesError {
    #[error(transparent)]
    System(#[from] Errno),
    /// The kernel has accepted them, but does not show them.
    #[error("{0:?} were asked for, but only {1:?} are in force")]
    Missing(Attributes, Attributes),
}

/// Adds attributes to a mount, and makes sure that it has them. What it has already stays, locked or
/// not. The mounts below stay as they are.
///
/// Access times stay as they are where the owner of a user namespace further out has locked them.
///
/// # Errors
/// If the mount is without one of `added` afterwards.
pub(super) fn add(
    mount: BorrowedFd<'_>,
    added: Attributes,
    times: AccessTimes,
) -> Result<(), AttributesError> {
    let add = |(set, clear)| {
        let change = change(added.bits() | set, clear, 0);
        sys::set_mount_attributes(mount, false, &change)
    };
    match add(times.bits()) {
        Err(Errno::EPERM) if times != AccessTimes::default() => add((0, 0))?,
        other => other?,
    }
    require(mount, added)
}

/// Makes a mount read-only. Its file system is not asked for anything: it may be dead, or hang.
///
/// # Errors
/// As mount_setattr(2).
pub(super) fn write_protect(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    let change = change(Attributes::READONLY.bits(), 0, 0);
    sys::set_mount_attributes(mount, false, &change)
}

/// Adds attributes to a mount and to all that are below it, and makes sure that the mount itself has
/// them.
///
/// # Errors
/// If it is without one of `added` afterwards.
pub(super) fn add_to_all(mount: BorrowedFd<'_>, added: Attributes) -> Result<(), AttributesError> {
    sys::set_mount_attributes(mount, true, &change(added.bits(), 0, 0))?;
    require(mount, added)
}

fn require(mount: BorrowedFd<'_>, added: Attributes) -> Result<(), AttributesError> {
    let present = of(mount)?;
    if present.contains(added) {
        Ok(())
    } else {
        Err(AttributesError::Missing(added, present))
    }
}

/// The attributes that the mount of a file has.
///
/// # Errors
/// As fstatvfs(3).
pub(crate) fn of(file: impl AsFd) -> Result<Attributes, Errno> {
    let flags = fstatvfs(file)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, Attributes::READONLY),
        (FsFlags::ST_NOSUID, Attributes::NOSUID),
        (FsFlags::ST_NODEV, Attributes::NODEV),
        (FsFlags::ST_NOEXEC, Attributes::NOEXEC),
    ];
    let present = pairs.into_iter().filter(|(flag, _)| flags.contains(*flag));
    Ok(present.map(|(_, attribute)| attribute).collect())
}

/// Gives a mount another propagation.
///
/// # Errors
/// As mount_setattr(2).
pub(super) fn propagate(mount: BorrowedFd<'_>, propagation: Propagation) -> Result<(), Errno> {
    let kind = match propagation.kind {
        PropagationKind::Slave => libc::MS_SLAVE,
        PropagationKind::Private => libc::MS_PRIVATE,
        PropagationKind::Unbindable => libc::MS_UNBINDABLE,
    };
    sys::set_mount_attributes(mount, propagation.recursive, &change(0, 0, kind))
}

fn change(set: u64, clear: u64, propagation: u64) -> libc::mount_attr {
    libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: 0,
    }
}
