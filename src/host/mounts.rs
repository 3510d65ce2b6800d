//! Where something is mounted, by name.
#![forbid(unsafe_code)]

use core::hash::BuildHasher;

use foldhash::fast::FixedState;
use nix::errno::Errno;

use super::sys;

/// How many mounts below a mount are looked at.
const MOST: usize = 512;

/// The names in one mount on which something is mounted, in whichever of its directories.
///
/// A directory with an entry of such a name need not be the one that holds the mount point. That is
/// one entry more to look at, where to find out would take a path, which can be another by the time
/// it is compared.
#[derive(Debug, Default)]
pub(super) struct MountPoints {
    /// All mounts below, to notice when others come or go. The kernel uses no id twice.
    below: Vec<u64>,
    /// Hashes of the names, sorted: one that is met by accident is one more entry to look at.
    names: Vec<u64>,
}

impl MountPoints {
    /// Finds out again where something is mounted in the mount with the unique id `mount`. That is
    /// one system call if no mount has come or gone, and one for each otherwise, as it is if `anew`.
    ///
    /// # Errors
    /// As listmount(2) and statmount(2); E2BIG for too many mounts, and ENOENT if the place of one
    /// cannot be told: any name may be a mount point then.
    pub(super) fn refresh(&mut self, mount: u64, anew: bool) -> Result<(), Errno> {
        let mut ids = [0; MOST];
        let count = sys::listmount(mount, &mut ids)?;
        let below = ids.get(..count).unwrap_or(&ids);
        if below == self.below && !anew {
            return Ok(());
        }
        // Only what has been found out entirely may be taken for granted the next time.
        self.below.clear();
        self.names.clear();
        if count == MOST {
            return Err(Errno::E2BIG);
        }
        for id in below {
            match sys::statmount(*id) {
                Ok(found) if found.parent == mount => self.names.push(hash(found.name()?)),
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.names.sort_unstable();
        self.below.extend_from_slice(below);
        Ok(())
    }

    /// Whether an entry called `name` may be a mount point.
    pub(super) fn contain(&self, name: &[u8]) -> bool {
        !self.names.is_empty() && self.names.binary_search(&hash(name)).is_ok()
    }
}

fn hash(name: &[u8]) -> u64 {
    FixedState::default().hash_one(name)
}
