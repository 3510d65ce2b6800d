//! Numbers that cross a boundary, each with a type of its own.

use core::fmt;

use bytemuck::{Pod, Zeroable};

use super::Statx;
use super::declare::{pod, pod_record};

/// Names an object of a connection: a ControlFd, an OpenFd or a BoundSocketFd.
///
/// Ids belong to one connection, start at 1, grow, and are never used again. Clients treat them as
/// opaque.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct FdId(pub u64);

impl FdId {
    /// The id of nothing.
    pub const INVALID: FdId = FdId(0);
}

/// The number of a message, see [`super::table`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct Mid(pub u16);

/// A user id as the server's host sees it; [`Uid::NONE`] asks to leave the owner alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Uid(pub u32);

/// A group id as the server's host sees it; [`Gid::NONE`] asks to leave the group alone.
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
    pub struct Inode = 152 {
        /// The new ControlFd.
        control_fd: FdId,
        /// The attributes.
        stat: Statx,
    }
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
