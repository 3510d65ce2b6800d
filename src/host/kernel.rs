//! Which of the newer system calls are used.
#![forbid(unsafe_code)]

use nix::errno::Errno;

use super::sys;

/// What the kernel can do beyond the minimum.
///
/// Found out once; everything has a fallback, which is taken for a member that is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// open_tree(2) (5.2), and CAP_SYS_ADMIN for it.
    pub(super) open_tree: bool,
    /// listmount(2) and statmount(2) (6.8).
    pub(super) list_mounts: bool,
}

impl Kernel {
    /// The minimum, with every fallback taken.
    #[cfg(test)]
    pub(super) const OLDEST: Kernel = Kernel {
        open_tree: false,
        list_mounts: false,
    };

    /// Asks the kernel.
    pub(super) fn probe() -> Kernel {
        // No mount has the id 0. A sandbox may answer EPERM to calls that it does not know.
        let lacks = |result| matches!(result, Err(Errno::ENOSYS | Errno::EPERM));
        let list_mounts =
            !lacks(sys::listmount(0, &mut []).map(drop)) && !lacks(sys::statmount(0).map(drop));
        let open_tree = !matches!(sys::clone_tree(c""), Err(Errno::ENOSYS | Errno::EPERM));
        Kernel {
            open_tree,
            list_mounts,
        }
    }
}
