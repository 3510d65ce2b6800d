//! Which of the newer system calls are used.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::Mode;

use super::sys;

/// What the kernel can do beyond the minimum.
///
/// Found out once; everything has a fallback, which is taken for a member that is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// open_tree(2) (5.2). To clone a mount takes CAP_SYS_ADMIN besides.
    pub(super) open_tree: bool,
    /// fchmodat2(2) (6.6).
    pub(super) fchmodat2: bool,
    /// listmount(2) and statmount(2) (6.8).
    pub(super) list_mounts: bool,
}

impl Kernel {
    /// The minimum, with every fallback taken.
    #[cfg(test)]
    pub(super) const OLDEST: Kernel = Kernel {
        open_tree: false,
        fchmodat2: false,
        list_mounts: false,
    };

    /// Asks the kernel.
    pub(super) fn probe() -> Kernel {
        // No mount has the id 0, and without a flag no file has an empty path. A sandbox may answer
        // EPERM to calls that it does not know.
        let lacks = |result| matches!(result, Err(Errno::ENOSYS | Errno::EPERM));
        let fchmodat2 = !lacks(sys::fchmodat2(AT_FDCWD, c"", Mode::empty(), 0));
        let list_mounts =
            !lacks(sys::listmount(0, &mut []).map(drop)) && !lacks(sys::statmount(0).map(drop));
        let open_tree = sys::open_path_again(AT_FDCWD).is_ok();
        Kernel {
            open_tree,
            fchmodat2,
            list_mounts,
        }
    }
}
