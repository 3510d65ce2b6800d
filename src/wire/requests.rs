//! The requests, in the order of their numbers.
//!
//! Names and paths are raw bytes here: the golden vectors hold `""` and `".."`, and some messages
//! look at a name only when they come to it. A handler makes the checked [`Name`](super::Name).

use core::ops::Range;

use super::codec::Malformed;
use super::declare::record;
use super::{Array, CreateCommon, FdId, Gid, SetStat, StringArray, TimeSpec, Uid};

record! {
    /// Asks for the root of the connection.
    pub struct MountReq {}
    example MountReq {} => b""
}

record! {
    /// Asks for another channel.
    pub struct ChannelReq {}
    example ChannelReq {} => b""
}

record! {
    /// Asks for the attributes of a ControlFd's file or an OpenFd's open description.
    pub struct StatReq {
        /// A ControlFd or an OpenFd.
        fd: FdId,
    }
    example StatReq { fd: FdId(7) } => b"\x07\0\0\0\0\0\0\0"
}

record! {
    /// Changes attributes, those that `mask` names.
    pub struct SetStatReq {
        /// A ControlFd.
        fd: FdId,
        /// Which of the fields below count: the bits of [`SetStat`].
        mask: u32,
        /// Permission bits; type bits are ignored.
        mode: u32,
        /// The new owner.
        uid: Uid,
        /// The new group.
        gid: Gid,
        /// The new length in bytes.
        size: u64,
        /// The new time of last access.
        atime: TimeSpec,
        /// The new time of last modification.
        mtime: TimeSpec,
    }
    example SetStatReq { mask: SetStat::MODE.bits(), mode: 0o600, ..SetStatReq::new(FdId(7)) }
        => b"\x07\0\0\0\0\0\0\0\x02\0\0\0\x80\x01\0\0\xff\xff\xff\xff\xff\xff\xff\xff\
            \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
}

impl SetStatReq {
    /// A request that changes nothing about `fd` yet.
    #[must_use]
    pub fn new(fd: FdId) -> SetStatReq {
        SetStatReq {
            fd,
            mask: 0,
            mode: 0,
            uid: Uid::NONE,
            gid: Gid::NONE,
            size: 0,
            atime: TimeSpec::default(),
            mtime: TimeSpec::default(),
        }
    }

    /// The attributes to change, or `None` if the mask names one that cannot be set.
    #[must_use]
    pub fn attributes(&self) -> Option<SetStat> {
        SetStat::from_bits(self.mask)
    }
}

record! {
    /// Opens ControlFds along a path, one for each component, and follows no symlink.
    pub struct WalkReq<'a> {
        /// A ControlFd of the directory to start at.
        dir_fd: FdId,
        /// The components.
        path: StringArray<'a>,
    }
    example let names = StringArrayBuf::collect(["usr".as_bytes(), b"bin"])?;
        WalkReq { dir_fd: FdId(1), path: names.as_array() }
        => b"\x01\0\0\0\0\0\0\0\x02\0\x03\0usr\x03\0bin"
}

record! {
    /// Asks for the attributes of the files along a path, and follows no symlink.
    pub struct WalkStatReq<'a> {
        /// A ControlFd to start at.
        dir_fd: FdId,
        /// The components; an empty first one stands for the start itself.
        path: StringArray<'a>,
    }
    example let names = StringArrayBuf::collect(["".as_bytes(), b"usr"])?;
        WalkStatReq { dir_fd: FdId(1), path: names.as_array() }
        => b"\x01\0\0\0\0\0\0\0\x02\0\0\0\x03\0usr"
}

record! {
    /// Opens a file.
    pub struct OpenAtReq {
        /// A ControlFd.
        fd: FdId,
        /// open(2) flags, of which O_ACCMODE and O_TRUNC count.
        flags: u32 [+ 4],
    }
    example OpenAtReq { fd: FdId(7), flags: 0o1002 } => b"\x07\0\0\0\0\0\0\0\x02\x02\0\0\0\0\0\0"
}

record! {
    /// Creates a regular file that must not exist, and opens it.
    pub struct OpenCreateAtReq<'a> {
        /// Where and how.
        create: CreateCommon [flat],
        /// open(2) flags, of which O_ACCMODE and O_TRUNC count.
        flags: u32,
        /// The name.
        name: &'a [u8],
    }
    example OpenCreateAtReq {
        create: CreateCommon { dir_fd: FdId(1), uid: Uid(10), gid: Gid(11), mode: 0o644 },
        flags: 1, name: b"f",
    }
        => b"\x01\0\0\0\0\0\0\0\x0a\0\0\0\x0b\0\0\0\xa4\x01\0\0\0\0\0\0\x01\0\0\0\x01\0f"
}

record! {
    /// Gives ids up. Unknown ids are ignored.
    pub struct CloseReq<'a> {
        /// Ids of any kind.
        fds: Array<'a, FdId>,
    }
    example CloseReq { fds: Array::new(&[FdId(7), FdId(8)]) }
        => b"\x02\0\x07\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0"
}

record! {
    /// Has files written to stable storage, see fsync(2).
    pub struct FSyncReq<'a> {
        /// OpenFds.
        fds: Array<'a, FdId>,
    }
    example FSyncReq { fds: Array::new(&[FdId(7)]) } => b"\x01\0\x07\0\0\0\0\0\0\0"
}

record! {
    /// The fixed part of a PWrite (20 bytes); the data follows it.
    ///
    /// The data is not part of the record because nobody looks at it: the kernel takes it straight
    /// from the memory that it arrived in.
    pub struct PWriteReq {
        /// Where in the file, in bytes.
        offset: u64,
        /// An OpenFd.
        fd: FdId,
        /// How many bytes of data follow.
        num_bytes: u32,
    } then data
    example PWriteReq { offset: 4096, fd: FdId(7), num_bytes: 512 }
        => b"\0\x10\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\x02\0\0"
}

impl PWriteReq {
    /// The offset of the data in the message.
    pub const DATA_OFFSET: u32 = 20;

    /// Where the data lies in a message of `message_len` bytes.
    ///
    /// # Errors
    /// `Malformed` when the message ends before the data does.
    pub fn data_range(&self, message_len: usize) -> Result<Range<usize>, Malformed> {
        let start = usize::try_from(Self::DATA_OFFSET).map_err(|_| Malformed)?;
        let len = usize::try_from(self.num_bytes).map_err(|_| Malformed)?;
        let end = start.checked_add(len).ok_or(Malformed)?;
        (end <= message_len).then_some(start..end).ok_or(Malformed)
    }
}

record! {
    /// Reads from a file.
    pub struct PReadReq {
        /// Where in the file, in bytes.
        offset: u64,
        /// An OpenFd.
        fd: FdId,
        /// How many bytes at the most.
        count: u32 [+ 4],
    }
    example PReadReq { offset: 4096, fd: FdId(7), count: 512 }
        => b"\0\x10\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0"
}

record! {
    /// Makes a directory.
    pub struct MkdirAtReq<'a> {
        /// Where and how.
        create: CreateCommon [flat],
        /// The name.
        name: &'a [u8],
    }
    example MkdirAtReq {
        create: CreateCommon { dir_fd: FdId(1), uid: Uid(10), gid: Gid(11), mode: 0o755 },
        name: b"d",
    }
        => b"\x01\0\0\0\0\0\0\0\x0a\0\0\0\x0b\0\0\0\xed\x01\0\0\0\0\0\0\x01\0d"
}

record! {
    /// Makes a file of the type in the mode, see mknod(2).
    pub struct MknodAtReq<'a> {
        /// Where and how.
        create: CreateCommon [flat],
        /// The minor number of a device.
        minor: u32,
        /// The major number of a device.
        major: u32,
        /// The name.
        name: &'a [u8],
    }
    example MknodAtReq {
        create: CreateCommon { dir_fd: FdId(1), uid: Uid(10), gid: Gid(11), mode: 0o020_600 },
        minor: 3, major: 1, name: b"null",
    }
        => b"\x01\0\0\0\0\0\0\0\x0a\0\0\0\x0b\0\0\0\x80!\0\0\0\0\0\0\x03\0\0\0\x01\0\0\0\
            \x04\0null"
}

record! {
    /// Makes a symbolic link.
    pub struct SymlinkAtReq<'a> {
        /// A ControlFd of the directory to create in.
        dir_fd: FdId,
        /// The owner.
        uid: Uid,
        /// The group.
        gid: Gid,
        /// The name.
        name: &'a [u8],
        /// What the link says: any bytes.
        target: &'a [u8],
    }
    example SymlinkAtReq {
        dir_fd: FdId(1), uid: Uid(10), gid: Gid(11), name: b"l", target: b"../f",
    }
        => b"\x01\0\0\0\0\0\0\0\x0a\0\0\0\x0b\0\0\0\x01\0l\x04\0../f"
}

record! {
    /// Gives a file another name.
    pub struct LinkAtReq<'a> {
        /// A ControlFd of the directory of the new name.
        dir_fd: FdId,
        /// A ControlFd of the file.
        target_fd: FdId,
        /// The new name.
        name: &'a [u8],
    }
    example LinkAtReq { dir_fd: FdId(1), target_fd: FdId(7), name: b"f" }
        => b"\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x01\0f"
}

record! {
    /// Asks for the attributes of the file system, see fstatfs(2).
    pub struct FStatFsReq {
        /// A ControlFd.
        fd: FdId,
    }
    example FStatFsReq { fd: FdId(1) } => b"\x01\0\0\0\0\0\0\0"
}

record! {
    /// Allocates or frees space, see fallocate(2).
    pub struct FAllocateReq {
        /// An OpenFd that can be written to.
        fd: FdId,
        /// FALLOC_FL_* bits.
        mode: u64,
        /// Start in bytes.
        offset: u64,
        /// Length in bytes.
        length: u64,
    }
    example FAllocateReq { fd: FdId(7), mode: 1, offset: 4096, length: 512 }
        => b"\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x02\0\0\0\0\0\0"
}

record! {
    /// Asks what a symbolic link says.
    pub struct ReadLinkAtReq {
        /// A ControlFd of a symlink.
        fd: FdId,
    }
    example ReadLinkAtReq { fd: FdId(7) } => b"\x07\0\0\0\0\0\0\0"
}

record! {
    /// Announces that a descriptor of the file is being closed.
    pub struct FlushReq {
        /// An OpenFd.
        fd: FdId,
    }
    example FlushReq { fd: FdId(7) } => b"\x07\0\0\0\0\0\0\0"
}

record! {
    /// Connects to a Unix socket in the tree.
    pub struct ConnectReq {
        /// A ControlFd of a socket.
        fd: FdId,
        /// SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, or 0 for whichever the socket is.
        sock_type: u32 [+ 4],
    }
    example ConnectReq { fd: FdId(7), sock_type: 1 } => b"\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
}

record! {
    /// Removes a name, see unlinkat(2).
    pub struct UnlinkAtReq<'a> {
        /// A ControlFd of the directory.
        dir_fd: FdId,
        /// 0, or AT_REMOVEDIR.
        flags: u32,
        /// The name.
        name: &'a [u8],
    }
    example UnlinkAtReq { dir_fd: FdId(1), flags: 0x200, name: b"d" }
        => b"\x01\0\0\0\0\0\0\0\0\x02\0\0\x01\0d"
}

record! {
    /// Renames a file, replacing what has the new name.
    pub struct RenameAtReq<'a> {
        /// A ControlFd of the directory of the old name.
        old_dir: FdId,
        /// A ControlFd of the directory of the new name.
        new_dir: FdId,
        /// The old name.
        old_name: &'a [u8],
        /// The new name.
        new_name: &'a [u8],
    }
    example RenameAtReq { old_dir: FdId(1), new_dir: FdId(2), old_name: b"a", new_name: b"b" }
        => b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0a\x01\0b"
}

record! {
    /// Reads directory entries.
    pub struct Getdents64Req {
        /// An OpenFd of a directory.
        dir_fd: FdId,
        /// How many bytes of the host's entries at the most; negative to start over first.
        count: i32 [+ 4],
    }
    example Getdents64Req { dir_fd: FdId(7), count: -4096 }
        => b"\x07\0\0\0\0\0\0\0\0\xf0\xff\xff\0\0\0\0"
}

record! {
    /// Reads an extended attribute.
    pub struct FGetXattrReq<'a> {
        /// A ControlFd.
        fd: FdId,
        /// The longest value that is welcome; 0 for any.
        buf_size: u32,
        /// The name of the attribute.
        name: &'a [u8],
    }
    example FGetXattrReq { fd: FdId(7), buf_size: 256, name: b"user.a" }
        => b"\x07\0\0\0\0\0\0\0\0\x01\0\0\x06\0user.a"
}

record! {
    /// Sets an extended attribute.
    pub struct FSetXattrReq<'a> {
        /// A ControlFd.
        fd: FdId,
        /// 0, XATTR_CREATE or XATTR_REPLACE.
        flags: u32,
        /// The name of the attribute.
        name: &'a [u8],
        /// The value.
        value: &'a [u8],
    }
    example FSetXattrReq { fd: FdId(7), flags: 1, name: b"user.a", value: b"b" }
        => b"\x07\0\0\0\0\0\0\0\x01\0\0\0\x06\0user.a\x01\0b"
}

record! {
    /// Lists the names of extended attributes.
    pub struct FListXattrReq {
        /// A ControlFd.
        fd: FdId,
        /// How many bytes of names are welcome, each with a NUL; 0 for any number.
        size: u64,
    }
    example FListXattrReq { fd: FdId(7), size: 256 } => b"\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0"
}

record! {
    /// Removes an extended attribute.
    pub struct FRemoveXattrReq<'a> {
        /// A ControlFd.
        fd: FdId,
        /// The name of the attribute.
        name: &'a [u8],
    }
    example FRemoveXattrReq { fd: FdId(7), name: b"user.a" } => b"\x07\0\0\0\0\0\0\0\x06\0user.a"
}

record! {
    /// Makes a Unix socket and binds it to a name.
    pub struct BindAtReq<'a> {
        /// Where and how.
        create: CreateCommon [flat],
        /// SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
        sock_type: u32,
        /// The name.
        name: &'a [u8],
    }
    example BindAtReq {
        create: CreateCommon { dir_fd: FdId(1), uid: Uid(10), gid: Gid(11), mode: 0o600 },
        sock_type: 1, name: b"s",
    }
        => b"\x01\0\0\0\0\0\0\0\x0a\0\0\0\x0b\0\0\0\x80\x01\0\0\0\0\0\0\x01\0\0\0\x01\0s"
}

record! {
    /// Makes a bound socket listen.
    pub struct ListenReq {
        /// A BoundSocketFd.
        fd: FdId,
        /// As listen(2) takes it.
        backlog: i32 [+ 4],
    }
    example ListenReq { fd: FdId(7), backlog: 16 } => b"\x07\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0"
}

record! {
    /// Takes a pending connection off a listening socket. Never waits.
    pub struct AcceptReq {
        /// A BoundSocketFd.
        fd: FdId,
    }
    example AcceptReq { fd: FdId(7) } => b"\x07\0\0\0\0\0\0\0"
}

record! {
    /// Connects to a Unix socket in the tree as somebody.
    pub struct ConnectWithCredsReq {
        /// A ControlFd of a socket.
        fd: FdId,
        /// As in [`ConnectReq`].
        sock_type: u32 [+ 4],
        /// The user id that the peer sees.
        uid: Uid,
        /// The group id that the peer sees.
        gid: Gid,
    }
    example ConnectWithCredsReq { fd: FdId(7), sock_type: 1, uid: Uid(10), gid: Gid(11) }
        => b"\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x0a\0\0\0\x0b\0\0\0"
}

record! {
    /// Renames a file with flags, see renameat2(2).
    pub struct RenameAt2Req<'a> {
        /// A ControlFd of the directory of the old name.
        old_dir: FdId,
        /// A ControlFd of the directory of the new name.
        new_dir: FdId,
        /// The old name.
        old_name: &'a [u8],
        /// The new name.
        new_name: &'a [u8],
        /// 0, RENAME_NOREPLACE, RENAME_EXCHANGE or RENAME_WHITEOUT.
        flags: u32,
    }
    example RenameAt2Req {
        old_dir: FdId(1), new_dir: FdId(2), old_name: b"a", new_name: b"b", flags: 1,
    }
        => b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0a\x01\0b\x01\0\0\0"
}
