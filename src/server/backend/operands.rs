//! What operations take and give besides names and attributes.

use std::os::fd::BorrowedFd;

use bitflags::bitflags;

use crate::wire::{Gid, Uid};

/// How a file is opened: the part of open(2)'s flags that the protocol lets through.
///
/// ```
/// use lisafs::server::OpenFlags;
///
/// let flags = (libc::O_WRONLY | libc::O_TRUNC | libc::O_APPEND).cast_unsigned();
/// let flags = OpenFlags::from_wire(flags);
/// assert!(flags.writable() && !flags.readable() && flags.truncates());
/// // O_APPEND does not arrive.
/// assert_eq!(flags.bits(), libc::O_WRONLY | libc::O_TRUNC);
/// ```
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
    ///
    /// ```
    /// use lisafs::server::RenameFlags;
    ///
    /// assert_eq!(RenameFlags::from_bits(libc::RENAME_EXCHANGE), Some(RenameFlags::EXCHANGE));
    /// assert_eq!(RenameFlags::from_bits(8), None);
    /// ```
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
///
/// ```
/// use lisafs::server::Creation;
/// use lisafs::wire::{Gid, Uid};
///
/// let creation = Creation { permissions: 0o640, uid: Uid(1000), gid: Gid::NONE };
/// // Who is not named is up to the back end: as a rule whoever it runs as.
/// let gid = creation.gid.some().unwrap_or(0);
/// assert_eq!((creation.uid.some(), gid), (Some(1000), 0));
/// ```
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
///
/// ```
/// use lisafs::Errno;
/// use lisafs::server::NodeKind;
///
/// /// Regular files and whiteouts, the device 0:0, are harmless.
/// fn check(kind: NodeKind) -> Result<(), Errno> {
///     match (kind.file_type, kind.major, kind.minor) {
///         (libc::S_IFREG, ..) | (libc::S_IFCHR, 0, 0) => Ok(()),
///         _ => Err(Errno::EPERM),
///     }
/// }
/// let memory = NodeKind { file_type: libc::S_IFCHR, major: 1, minor: 1 };
/// assert_eq!(check(memory), Err(Errno::EPERM));
/// ```
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
///
/// ```
/// use lisafs::server::RenameOutcome;
///
/// fn outcome(moved_inode: u64, replaced_inode: Option<u64>) -> RenameOutcome {
///     match replaced_inode {
///         Some(replaced) if replaced == moved_inode => RenameOutcome::SameFile,
///         _ => RenameOutcome::Renamed,
///     }
/// }
/// assert_eq!(outcome(1, Some(1)), RenameOutcome::SameFile);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameOutcome {
    /// The names were changed.
    Renamed,
    /// Both names are links of one file, so nothing was changed, see rename(2).
    SameFile,
}

/// A host descriptor that goes to the client with the reply.
///
/// ```
/// use std::fs::File;
/// use std::os::fd::AsFd;
/// use lisafs::server::Donation;
///
/// /// A client can read a regular file through the server, and a FIFO through its descriptor alone.
/// fn donation(file: &File, fifo: bool) -> Donation<'_> {
///     if fifo {
///         Donation::Required(file.as_fd())
///     } else {
///         Donation::Optional(file.as_fd())
///     }
/// }
/// let file = File::open("/proc/self/comm")?;
/// assert!(matches!(donation(&file, false), Donation::Optional(_)));
/// # Ok::<(), std::io::Error>(())
/// ```
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
///
/// ```
/// use lisafs::server::DirentRequest;
///
/// /// Where the next entry is, for a directory whose entries are numbered.
/// fn start(request: DirentRequest, listed: usize) -> usize {
///     if request.rewind { 0 } else { listed }
/// }
/// assert_eq!(start(DirentRequest { rewind: true, count: 4096 }, 10), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirentRequest {
    /// Start over at the first entry.
    pub rewind: bool,
    /// How many bytes the entries may have as `linux_dirent64` records of the host, for a back end that
    /// reads such. [`DirentWriter`](crate::wire::DirentWriter) sees to it that no more are delivered.
    pub count: u32,
}
