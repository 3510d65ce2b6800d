//! Why a request of the kernel is refused.

use std::io;

use lisafs::Errno;
use lisafs::client;

/// The errno that a request is answered with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal(fuser::Errno);

impl Refusal {
    pub(super) const IO: Refusal = Refusal(fuser::Errno::EIO);
    /// For a number that the kernel has not been told, or has given back.
    pub(super) const STALE: Refusal = Refusal(fuser::Errno::ESTALE);
    pub(super) const MISSING: Refusal = Refusal(fuser::Errno::ENOENT);
    /// The kernel does without, in another way, and does not ask for this file again.
    pub(super) const UNSUPPORTED: Refusal = Refusal(fuser::Errno::EOPNOTSUPP);
    pub(super) const RANGE: Refusal = Refusal(fuser::Errno::ERANGE);
    pub(super) const NO_DATA: Refusal = Refusal(fuser::Errno::ENXIO);
    pub(super) const BAD_FILE: Refusal = Refusal(fuser::Errno::EBADF);
    pub(super) const INVALID: Refusal = Refusal(fuser::Errno::EINVAL);

    pub(super) fn errno(self) -> fuser::Errno {
        self.0
    }

    pub(super) fn is(self, errno: Errno) -> bool {
        self.0.code() == i32::from(errno.raw())
    }
}

impl From<client::Error> for Refusal {
    fn from(why: client::Error) -> Refusal {
        match why.errno() {
            // A server that ends says so, which is nothing that programs expect of a file.
            Errno::ECONNRESET => Refusal::IO,
            errno => Refusal(fuser::Errno::from_i32(errno.raw().into())),
        }
    }
}

impl From<nix::errno::Errno> for Refusal {
    fn from(why: nix::errno::Errno) -> Refusal {
        Refusal(fuser::Errno::from_i32(why as i32))
    }
}

impl From<io::Error> for Refusal {
    fn from(why: io::Error) -> Refusal {
        Refusal(why.into())
    }
}
