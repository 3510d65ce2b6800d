//! Attributes to change.

use crate::wire::{FdId, Gid, SetStat, SetStatReq, TimeSpec, Uid};

/// Which attributes to change, and to what: chmod, chown, truncate and utimes in one.
///
/// ```
/// use lisafs::client::SetAttributes;
/// use lisafs::wire::TimeSpec;
///
/// # let client = lisafs_served::directory()?;
/// # client.write("log", b"long")?;
/// let epoch = TimeSpec { sec: 0, nsec: 0 };
/// let changes = SetAttributes::new().mode(0o600).size(2).mtime(epoch);
/// client.root().walk_one("log")?.set_stat(&changes)?;
/// let stat = client.metadata("log")?;
/// assert_eq!((stat.permissions(), stat.size, stat.mtime.sec), (0o600, 2, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAttributes {
    request: SetStatReq,
}

impl SetAttributes {
    /// No change.
    #[must_use]
    pub fn new() -> SetAttributes {
        SetAttributes {
            request: SetStatReq::new(FdId::INVALID),
        }
    }

    /// chmod(2): the permission bits, set-id and sticky bits included.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> SetAttributes {
        self.request.mode = mode & 0o7777;
        self.with(SetStat::MODE)
    }

    /// chown(2): the owner.
    #[must_use]
    pub fn uid(mut self, uid: Uid) -> SetAttributes {
        self.request.uid = uid;
        self.with(SetStat::UID)
    }

    /// chown(2): the group.
    #[must_use]
    pub fn gid(mut self, gid: Gid) -> SetAttributes {
        self.request.gid = gid;
        self.with(SetStat::GID)
    }

    /// truncate(2): the length of a regular file, in bytes.
    #[must_use]
    pub fn size(mut self, size: u64) -> SetAttributes {
        self.request.size = size;
        self.with(SetStat::SIZE)
    }

    /// utimensat(2): the time of the last access. `nsec` may be UTIME_NOW.
    #[must_use]
    pub fn atime(mut self, atime: TimeSpec) -> SetAttributes {
        self.request.atime = atime;
        self.with(SetStat::ATIME)
    }

    /// utimensat(2): the time of the last modification. `nsec` may be UTIME_NOW.
    #[must_use]
    pub fn mtime(mut self, mtime: TimeSpec) -> SetAttributes {
        self.request.mtime = mtime;
        self.with(SetStat::MTIME)
    }

    fn with(mut self, attribute: SetStat) -> SetAttributes {
        self.request.mask |= attribute.bits();
        self
    }

    pub(super) fn request(&self, fd: FdId) -> SetStatReq {
        SetStatReq {
            fd,
            ..self.request.clone()
        }
    }
}

impl Default for SetAttributes {
    fn default() -> SetAttributes {
        SetAttributes::new()
    }
}
