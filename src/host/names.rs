//! Removing, renaming and reading names.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use nix::NixPath;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::handle::moving::{arrive, lock};
use super::handle::place::NodeFiles;
use super::handle::{Handle, stat_name};
use super::identity::Inode;
use super::sys;
use crate::Errno;
use crate::server::{RenameFlags, RenameOutcome};
use crate::wire::{FileType, Name};

/// unlinkat(2); `directory` for AT_REMOVEDIR. `known` are the files that clients know by the name.
///
/// # Errors
/// As the system call.
pub(super) fn unlink(
    parent: &Handle,
    name: Name<'_>,
    directory: bool,
    known: Option<&NodeFiles>,
) -> Result<(), Errno> {
    parent.may_change()?;
    let leaving = known.map(NodeFiles::hold_all);
    let flags = if directory {
        UnlinkatFlags::RemoveDir
    } else {
        UnlinkatFlags::NoRemoveDir
    };
    parent.with_fd(|parent| Ok(unlinkat(parent, name.as_bytes(), flags)?))?;
    if let Some(leaving) = leaving {
        leaving.gone(parent);
    }
    Ok(())
}

/// What clients know by the two names of a rename.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known<'n> {
    /// By the old name.
    pub(super) moved: Option<&'n NodeFiles>,
    /// By the new name.
    pub(super) replaced: Option<&'n NodeFiles>,
}

/// renameat2(2).
///
/// # Errors
/// As the system call; EBUSY if somebody is stuck in looking for a file concerned; EINVAL for flags
/// but NOREPLACE and EXCHANGE, one at a time. WHITEOUT is not supported: it would leave a device
/// behind that nobody asked for by MknodAt.
pub(super) fn rename(
    old_parent: &Handle,
    old_name: Name<'_>,
    new_parent: &Handle,
    new_name: Name<'_>,
    flags: RenameFlags,
    known: Known<'_>,
) -> Result<RenameOutcome, Errno> {
    match flags {
        RenameFlags::NOREPLACE | RenameFlags::EXCHANGE => {}
        flags if flags.is_empty() => {}
        _ => return Err(Errno::EINVAL),
    }
    old_parent.may_change()?;
    new_parent.may_change()?;
    let exchange = flags == RenameFlags::EXCHANGE;
    let handles = |known: Option<&NodeFiles>| known.map(NodeFiles::handles).unwrap_or_default();
    let moved = handles(known.moved);
    let exchanged = handles(known.replaced.filter(|_| exchange));
    let replaced = known.replaced.filter(|_| flags.is_empty());
    let leaving = replaced.map(NodeFiles::hold_all);
    let outcome = old_parent.with_fd(|old_fd| {
        new_parent.with_fd(|new_fd| {
            let mut moved = lock(&moved, new_parent, new_fd)?;
            let mut exchanged = lock(&exchanged, old_parent, old_fd)?;
            old_name.as_bytes().with_nix_path(|old| {
                new_name
                    .as_bytes()
                    .with_nix_path(|new| sys::renameat2(old_fd, old, new_fd, new, flags.bits()))
            })???;
            if is_same_file((old_fd, old_name), (new_fd, new_name)) {
                return Ok(RenameOutcome::SameFile);
            }
            arrive(&mut moved, new_name);
            arrive(&mut exchanged, old_name);
            Ok(RenameOutcome::Renamed)
        })
    })?;
    if let Some(leaving) = leaving.filter(|_| outcome == RenameOutcome::Renamed) {
        leaving.gone(new_parent);
    }
    Ok(outcome)
}

/// Whether a rename from `old` to `new`, which has succeeded, has done nothing: both are names of one
/// file.
fn is_same_file(old: (BorrowedFd<'_>, Name<'_>), new: (BorrowedFd<'_>, Name<'_>)) -> bool {
    // A directory has one name; its links are its subdirectories.
    stat_name(new.0, new.1).is_ok_and(|renamed| {
        renamed.nlink > 1
            && renamed.file_type() != FileType::Directory
            && stat_name(old.0, old.1).is_ok_and(|old| Inode::of(&old) == Inode::of(&renamed))
    })
}

/// Appends what the symlink says to `target`.
///
/// # Errors
/// As readlink(2); EINVAL for another type of file.
pub(super) fn readlink(link: &Handle, target: &mut Vec<u8>) -> Result<(), Errno> {
    /// Linux has no longer targets (PATH_MAX with the NUL).
    const LONGEST: usize = 4095;
    let start = target.len();
    target.resize(start + LONGEST + 1, 0);
    let buffer = target.get_mut(start..).unwrap_or_default();
    let result = link.with_fd(|link| Ok(sys::readlink(link, buffer)?));
    target.truncate(start + *result.as_ref().unwrap_or(&0));
    match result? {
        // Cut off, for all we know.
        length if length > LONGEST => {
            target.truncate(start);
            Err(Errno::ENAMETOOLONG)
        }
        _ => Ok(()),
    }
}
