//! The replies, in the order of their numbers. A message that answers with nothing answers `()`.

use super::codec::{Decode, Encode, Malformed, Overflow, Reader, Writer};
use super::declare::record;
use super::schema::{Described, Kind};
use super::{Array, Dirents, FdId, Inode, Mid, Statx, StringArray};

record! {
    /// The answer to any request that failed, under message number 0.
    pub struct ErrorResp {
        /// A Linux error number.
        errno: u32,
    }
    example ErrorResp { errno: 2 } => b"\x02\0\0\0"
}

record! {
    /// The root of the connection and what the server can do.
    pub struct MountResp<'a> {
        /// The root.
        root: Inode,
        /// The limit of a payload in bytes, both ways, communicator headers not counted.
        max_message_size: u32,
        /// The messages that the server accepts.
        supported_mids: Array<'a, Mid>,
    }
    example MountResp {
        root: Inode { control_fd: FdId(1), stat: Statx { mode: 0o040_755, ..Statx::default() } },
        max_message_size: 1 << 20,
        supported_mids: Array::new(&[Mid::MOUNT, Mid::CHANNEL]),
    }; 162 bytes
}

record! {
    /// Where the packet window of a new channel lies in the memfd that is donated along.
    pub struct ChannelResp {
        /// In bytes from the start of the memfd.
        data_offset: i64,
        /// In bytes, the 16-byte header included.
        data_length: u64,
    }
    example ChannelResp { data_offset: 4096, data_length: 8192 }
        => b"\0\x10\0\0\0\0\0\0\0 \0\0\0\0\0\0"
}

record! {
    /// Which attributes could not be changed. Partial failure is a successful reply.
    pub struct SetStatResp {
        /// The bits of those that failed.
        failure_mask: u32,
        /// The error number of one of them, 0 if none failed.
        failure_errno: u32,
    }
    example SetStatResp { failure_mask: SetStat::UID.bits(), failure_errno: 1 }
        => b"\x08\0\0\0\x01\0\0\0"
}

record! {
    /// How far a walk came. `status` says why it stopped.
    pub struct WalkResp<'a> {
        /// One of the `WALK_` numbers.
        status: u8,
        /// The files that exist along the path, the last one possibly a symlink.
        inodes: Array<'a, Inode>,
    }
    example WalkResp { status: WalkResp::COMPONENT_DOES_NOT_EXIST, inodes: Array::new(&[]) }
        => b"\x01\0\0"
}

impl WalkResp<'_> {
    /// All components were walked.
    pub const SUCCESS: u8 = 0;
    /// The component behind the last inode does not exist.
    pub const COMPONENT_DOES_NOT_EXIST: u8 = 1;
    /// The last inode is a symlink and components remain.
    pub const COMPONENT_SYMLINK: u8 = 2;
}

record! {
    /// The attributes of the files that exist along the path.
    pub struct WalkStatResp<'a> {
        /// In path order; fewer than components when a file is missing or a symlink was met.
        stats: Array<'a, Statx>,
    }
    example WalkStatResp { stats: Array::new(&[]) } => b"\0\0"
}

record! {
    /// The file is open. A host descriptor may be donated along.
    pub struct OpenAtResp {
        /// The new OpenFd.
        open_fd: FdId,
    }
    example OpenAtResp { open_fd: FdId(8) } => b"\x08\0\0\0\0\0\0\0"
}

record! {
    /// The file was made and is open. A host descriptor may be donated along.
    pub struct OpenCreateAtResp {
        /// The new file.
        child: Inode,
        /// The new OpenFd.
        new_fd: FdId,
    }
    example OpenCreateAtResp {
        child: Inode { control_fd: FdId(7), stat: Statx::default() },
        new_fd: FdId(8),
    }; 160 bytes
}

record! {
    /// How much was written.
    pub struct PWriteResp {
        /// In bytes.
        count: u64,
    }
    example PWriteResp { count: 512 } => b"\0\x02\0\0\0\0\0\0"
}

record! {
    /// What was read. Empty at the end of the file.
    pub struct PReadResp<'a> {
        /// The data, behind a u64 length.
        data: LongBytes<'a>,
    }
    example PReadResp { data: LongBytes(b"hi") } => b"\x02\0\0\0\0\0\0\0hi"
}

impl PReadResp<'_> {
    /// The offset of the data in the message.
    pub const DATA_OFFSET: u32 = 8;
}

/// Bytes behind a u64 length.
///
/// ```
/// use lisafs::wire::{Decode, LongBytes};
///
/// assert_eq!(LongBytes::from_bytes(b"\x02\0\0\0\0\0\0\0hi"), Ok(LongBytes(b"hi")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongBytes<'a>(pub &'a [u8]);

impl Described for LongBytes<'_> {
    const KIND: Kind = Kind::LongBytes;
}

impl Encode for LongBytes<'_> {
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow> {
        u64::try_from(self.0.len())
            .map_err(|_| Overflow)?
            .encode(out)?;
        out.put(self.0)
    }
}

impl<'a> Decode<'a> for LongBytes<'a> {
    fn decode(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        let len = usize::try_from(u64::decode(from)?).map_err(|_| Malformed)?;
        from.take(len).map(LongBytes)
    }
}

record! {
    /// A new file.
    pub struct InodeResp {
        /// The new file.
        child: Inode,
    }
    example InodeResp { child: Inode { control_fd: FdId(7), stat: Statx::default() } }; 152 bytes
}

record! {
    /// What the symlink says.
    pub struct ReadLinkAtResp<'a> {
        /// Any bytes.
        target: &'a [u8],
    }
    example ReadLinkAtResp { target: b"../f" } => b"\x04\0../f"
}

record! {
    /// Directory entries; none at the end of the directory.
    pub struct Getdents64Resp<'a> {
        /// In the host's order, without `.` and `..`.
        dirents: Dirents<'a>,
    }
    example let dirents = Dirents::from_bytes(b"\0\0")?;
        Getdents64Resp { dirents } => b"\0\0"
}

record! {
    /// The value of an extended attribute.
    pub struct FGetXattrResp<'a> {
        /// At most 65,535 bytes.
        value: &'a [u8],
    }
    example FGetXattrResp { value: b"b" } => b"\x01\0b"
}

record! {
    /// The names of a file's extended attributes.
    pub struct FListXattrResp<'a> {
        /// Without NULs.
        names: StringArray<'a>,
    }
    example let names = StringArrayBuf::collect(["user.a".as_bytes()])?;
        FListXattrResp { names: names.as_array() } => b"\x01\0\x06\0user.a"
}

record! {
    /// The socket is bound; it is donated along.
    pub struct BindAtResp {
        /// The socket's file.
        child: Inode,
        /// The new BoundSocketFd.
        bound_socket_fd: FdId,
    }
    example BindAtResp {
        child: Inode { control_fd: FdId(7), stat: Statx::default() },
        bound_socket_fd: FdId(8),
    }; 160 bytes
}

record! {
    /// A connection was accepted; its socket is donated along.
    pub struct AcceptResp<'a> {
        /// The peer's address; the host back end hides it.
        peer_addr: &'a [u8],
    }
    example AcceptResp { peer_addr: b"" } => b"\0\0"
}
