//! What operations take and give besides names and attributes.

use std::os::fd::BorrowedFd;

use bitflags::bitflags;

use crate::wire::{Gid, Uid};

/// How a file is opened: the part of open(2)'s flags that the protocol lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFlags {
    access: u32,
    truncate: bool,
}

impl OpenFlags {
    /// Keeps O_ACCMODE and O_TRUNC of `flags` and drops the rest, as the protocol does.
    #[must_use]
    pub fn from_wire(flags: u32) -> OpenFlags {
        let has = |bits: i32| flags & bits.cast_unsigned();
        OpenFlags {
            access: has(libc::O_ACCMODE),
            truncate: has(libc::O_TRUNC) != 0,
        }
    }

    /// For open(2).
    #[must_use]
    pub fn bits(self) -> i32 {
        self.access.cast_signed() | if self.truncate { libc::O_TRUNC } else { 0 }
    }

    /// Whether the description can be read from.
    #[must_use]
    pub fn readable(self) -> bool {
        matches!(self.access.cast_signed(), libc::O_RDONLY | libc::O_RDWR)
    }

    /// Whether the description can be written to.
    #[must_use]
    pub fn writable(self) -> bool {
        matches!(self.access.cast_signed(), libc::O_WRONLY | libc::O_RDWR)
    }

    /// Whether opening empties the file.
    #[must_use]
    pub fn truncates(self) -> bool {
        self.truncate
    }

    /// Whether opening or using the description can change the file.
    #[must_use]
    pub fn mutates(self) -> bool {
        self.truncate || self.access.cast_signed() != libc::O_RDONLY
    }
}

bitflags! {
    /// Flags of renameat2(2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        /// RENAME_NOREPLACE: EEXIST if the new name exists.
        const NOREPLACE = 1;
        /// RENAME_EXCHANGE: both names must exist and change places.
        const EXCHANGE = 2;
        /// RENAME_WHITEOUT: leaves a whiteout device at the old name.
        const WHITEOUT = 4;
    }
}

/// Owner and permissions of a file about to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Permission bits including set-id and sticky (07777). No umask applies.
    pub permissions: u32,
    /// The owner.
    pub uid: Uid,
    /// The group.
    pub gid: Gid,
}

/// What MknodAt makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeKind {
    /// S_IFMT bits as the client sent them, possibly 0.
    pub file_type: u32,
    /// Device numbers.
    pub major: u32,
    /// Device numbers.
    pub minor: u32,
}

/// How a rename ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameOutcome {
    /// The names were changed.
    Renamed,
    /// Both names are links of one file, so nothing was changed, see rename(2).
    SameFile,
}

/// A host descriptor that goes to the client with the reply.
#[derive(Clone, Copy, Debug)]
pub enum Donation<'f> {
    /// None.
    None,
    /// The client can do without.
    Optional(BorrowedFd<'f>),
    /// The operation is pointless without.
    Required(BorrowedFd<'f>),
}

/// How Getdents64 is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirentRequest {
    /// Start over at the first entry.
    pub rewind: bool,
    /// How many bytes the entries may have as `linux_dirent64` records of the host, for a back end that
    /// reads such. [`DirentWriter`](crate::wire::DirentWriter) sees to it that no more are delivered.
    pub count: u32,
}
