//! Telling files apart, at a time and across time.
//!
//! An inode number tells a file from all others that exist. When the file is gone, the number is
//! given to another one, by ext4 to the very next. What tells the two apart is when they were made:
//! nobody can choose a birth time, and it is the clock of the kernel, as it stood at the last tick.
//! So a file whose birth lies *before the tick at which it was looked at* differs in its birth from
//! every file that is made after it was looked at. Files that are younger than that, and those of
//! file systems that have no birth times or may not tell the truth, are known by a descriptor alone.
//!
//! What this rests on: the clock is not set back to the nanosecond of an earlier tick while a client
//! remembers a file of that tick whose number is given away again.
#![forbid(unsafe_code)]

use nix::time::{ClockId, clock_gettime};

use super::sys::Attributes;
use crate::wire::{FileType, Statx};

/// Which file it is, among all that exist at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) device: (u32, u32),
    number: u64,
}

impl Inode {
    pub(super) fn of(stat: &Statx) -> Inode {
        Inode {
            device: (stat.dev_major, stat.dev_minor),
            number: stat.ino,
        }
    }
}

/// Seconds and nanoseconds since the epoch.
pub(super) type Time = (i64, u32);

/// Which file it is, among all that exist, existed or will exist: see the module for when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    inode: Inode,
    mount: u64,
    file_type: FileType,
    birth: Time,
}

impl Identity {
    /// What to ask statx(2) for, besides the basic attributes.
    pub(super) const MASK: u32 = libc::STATX_BTIME | libc::STATX_MNT_ID;

    /// The identity of the file with these attributes; `None` if the kernel does not tell all of it.
    pub(super) fn of(attributes: &Attributes) -> Option<Identity> {
        let stat = &attributes.stat;
        (stat.mask & Identity::MASK == Identity::MASK).then(|| Identity {
            inode: Inode::of(stat),
            mount: attributes.mount,
            file_type: stat.file_type(),
            birth: (stat.btime.sec, stat.btime.nsec),
        })
    }

    pub(super) fn device(&self) -> (u32, u32) {
        self.inode.device
    }

    /// When the file was made.
    pub(super) fn birth(&self) -> Time {
        self.birth
    }

    /// Whether no file that is made later can have this identity.
    pub(super) fn outlasts(&self, tick: Tick) -> bool {
        self.birth < tick.0
    }
}

/// The time that the kernel gives to files that are made now, at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tick(Time);

impl Tick {
    /// To be taken before a file is looked at: a file that is made after that is no older.
    pub(super) fn now() -> Tick {
        // Before all births, should there be no such clock: no file is known by its identity then.
        let none = Tick((i64::MIN, 0));
        clock_gettime(ClockId::CLOCK_REALTIME_COARSE).map_or(none, |now| {
            u32::try_from(now.tv_nsec()).map_or(none, |nsec| Tick((now.tv_sec(), nsec)))
        })
    }

    #[cfg(test)]
    pub(super) fn time(self) -> Time {
        self.0
    }
}
