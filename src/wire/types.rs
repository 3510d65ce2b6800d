//! Numbers that cross a boundary, each with a type of its own.

use core::fmt;

use bytemuck::{Pod, Zeroable};

use super::Statx;
use super::declare::{pod, pod_record, record};

/// Names an object of a connection: a ControlFd, an OpenFd or a BoundSocketFd.
///
/// Ids belong to one connection, start at 1, grow, and are never used again. Clients treat them as
/// opaque.
///
/// ```
/// use lisafs::wire::{Encode, FdId};
///
/// let mut bytes = Vec::new();
/// FdId(7).encode(&mut bytes)?;
/// assert_eq!(bytes, b"\x07\0\0\0\0\0\0\0");
/// assert_eq!(FdId::INVALID, FdId(0));
/// # Ok::<(), lisafs::wire::Overflow>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct FdId(pub u64);

impl FdId {
    /// The id of nothing.
    pub const INVALID: FdId = FdId(0);
}

/// The number of a message, see [`super::table`].
///
/// ```
/// use lisafs::wire::Mid;
///
/// assert_eq!(Mid::WALK, Mid(5));
/// assert_eq!(Mid::from_name("walk"), Some(Mid::WALK));
/// assert_eq!(Mid::WALK.to_string(), "Walk");
/// assert!(Mid(200).message().is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct Mid(pub u16);

/// A user id as the server's host sees it; [`Uid::NONE`] asks to leave the owner alone.
///
/// ```
/// use lisafs::wire::Uid;
///
/// assert_eq!(Uid(1000).some(), Some(1000));
/// assert_eq!(Uid::NONE.some(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Uid(pub u32);

/// A group id as the server's host sees it; [`Gid::NONE`] asks to leave the group alone.
///
/// ```
/// use lisafs::wire::Gid;
///
/// assert_eq!(Gid(1000).some(), Some(1000));
/// assert_eq!(Gid::NONE.some(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Gid(pub u32);

impl Uid {
    /// "No id": (uid_t)-1.
    pub const NONE: Uid = Uid(u32::MAX);

    /// The id, or `None` for [`Uid::NONE`].
    #[must_use]
    pub fn some(self) -> Option<u32> {
        (self != Uid::NONE).then_some(self.0)
    }
}

impl Gid {
    /// "No id": (gid_t)-1.
    pub const NONE: Gid = Gid(u32::MAX);

    /// The id, or `None` for [`Gid::NONE`].
    #[must_use]
    pub fn some(self) -> Option<u32> {
        (self != Gid::NONE).then_some(self.0)
    }
}

pod_record! {
    /// A file the client now holds a ControlFd on, and its attributes at that moment (152 bytes).
    ///
    /// ```
    /// use lisafs::wire::{Decode, Encode, FdId, FileType, Inode, Statx};
    ///
    /// let stat = Statx { mode: 0o040_755, ..Statx::default() };
    /// let mut bytes = Vec::new();
    /// Inode { control_fd: FdId(7), stat }.encode(&mut bytes)?;
    /// let inode = Inode::from_bytes(&bytes)?;
    /// assert_eq!(inode.stat.file_type(), FileType::Directory);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Inode = 152 {
        /// The new ControlFd.
        control_fd: FdId,
        /// The attributes.
        stat: Statx,
    }
}

record! {
    /// Where and how something is created (24 bytes).
    pub struct CreateCommon {
        /// A ControlFd of the directory to create in.
        dir_fd: FdId,
        /// The owner.
        uid: Uid,
        /// The group.
        gid: Gid,
        /// Type and permission bits.
        mode: u16 [+ 6],
    }
    example CreateCommon { dir_fd: FdId(1), uid: Uid(10), gid: Gid(11), mode: 0o644 }
        => b"\x01\0\0\0\0\0\0\0\x0a\0\0\0\x0b\0\0\0\xa4\x01\0\0\0\0\0\0"
}

pod! { FdId = U64, Mid = U16, Uid = U32, Gid = U32 }

macro_rules! print_number {
    ($($name:ident)*) => {
        $(
            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }
        )*
    };
}

print_number! { FdId Uid Gid }

/// The name of the message, `Walk`; an unknown number as it is.
impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => f.write_str(message.name),
            None => self.0.fmt(f),
        }
    }
}

impl fmt::Debug for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
