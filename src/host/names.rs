//! Removing, renaming and reading names.
#![forbid(unsafe_code)]

use nix::NixPath;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::handle::{Handle, Identity, stat_name};
use super::sys;
use crate::Errno;
use crate::server::{RenameFlags, RenameOutcome};
use crate::wire::{FileType, Name};

/// unlinkat(2); `directory` for AT_REMOVEDIR.
///
/// # Errors
/// As the system call.
pub(super) fn unlink(parent: &Handle, name: Name<'_>, directory: bool) -> Result<(), Errno> {
    let flags = if directory {
        UnlinkatFlags::RemoveDir
    } else {
        UnlinkatFlags::NoRemoveDir
    };
    parent.with_fd(|parent| Ok(unlinkat(parent, name.as_bytes(), flags)?))
}

/// renameat2(2).
///
/// # Errors
/// As the system call; EINVAL for flags but NOREPLACE and EXCHANGE, one at a time. WHITEOUT is not
/// supported: it would leave a device behind that nobody asked for by MknodAt.
pub(super) fn rename(
    old_parent: &Handle,
    old_name: Name<'_>,
    new_parent: &Handle,
    new_name: Name<'_>,
    flags: RenameFlags,
) -> Result<RenameOutcome, Errno> {
    match flags {
        RenameFlags::NOREPLACE | RenameFlags::EXCHANGE => {}
        flags if flags.is_empty() => {}
        _ => return Err(Errno::EINVAL),
    }
    old_parent.with_fd(|old_parent| {
        new_parent.with_fd(|new_parent| {
            old_name.as_bytes().with_nix_path(|old| {
                new_name.as_bytes().with_nix_path(|new| {
                    sys::renameat2(old_parent, old, new_parent, new, flags.bits())
                })
            })???;
            // Renaming a file to another of its names succeeds and does nothing.
            let Ok(renamed) = stat_name(new_parent, new_name) else {
                return Ok(RenameOutcome::Renamed);
            };
            // A directory has one name; its links are its subdirectories.
            let same = renamed.nlink > 1
                && renamed.file_type() != FileType::Directory
                && stat_name(old_parent, old_name)
                    .is_ok_and(|old| Identity::of(&old) == Identity::of(&renamed));
            Ok(if same {
                RenameOutcome::SameFile
            } else {
                RenameOutcome::Renamed
            })
        })
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
