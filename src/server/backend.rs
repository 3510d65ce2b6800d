//! What a back end implements: the file system behind a server.
//!
//! The runtime owns ids, nodes, locks and replies. A back end sees checked names, private copies of
//! what the client sent, and a *guarantee*: a value that only the runtime can make and that says
//! which lock is held on which node (see [`super::guarantee`]). Every method is one file operation;
//! whatever it returns as `Err` goes to the client as it is, and must have no side effect.
//! Closing is dropping.

use std::os::fd::{BorrowedFd, OwnedFd};

use bitflags::bitflags;
use flipcall::SharedBytes;

use super::guarantee::{Exclusive, FdExclusive, FdLocks, FdShared, Global, Shared};
use crate::Errno;
use crate::wire::{
    DEFAULT_MAX_MESSAGE_SIZE, DirentWriter, Gid, Mid, Name, SetStat, SetStatReq, SetStatResp,
    StatFs, Statx, StringArrayBuf, Uid, XattrName, messages,
};

/// A file system, as one connection sees it.
pub trait ServerImpl: Send + Sync + Sized + 'static {
    /// A position in the tree.
    type ControlFd: ControlFdImpl<Server = Self>;
    /// An open file description.
    type OpenFd: OpenFdImpl<Server = Self>;
    /// A Unix socket bound to a name.
    type BoundSocketFd: BoundSocketFdImpl<Server = Self>;
    /// [`Guarded`](super::Guarded) to have stat, read, write, sync, allocate, getdents, the xattr
    /// operations, connect and accept run under their node's lock;
    /// [`Unguarded`](super::Unguarded) to have them run with no lock held, which suits a back end
    /// whose descriptors synchronise themselves and keeps a slow one from blocking a rename.
    type FdLocks: FdLocks;

    /// Whether [`ControlFdImpl::renamed`] and [`OpenFdImpl::renamed`] are to be called. They cost
    /// a walk over the renamed subtree with the whole tree locked.
    const NOTIFY_RENAMED: bool = false;

    /// What holds for this connection.
    fn opts(&self) -> ServerOpts {
        ServerOpts::default()
    }

    /// The messages that this connection accepts. `Mount` is always among them.
    fn supported_messages(&self) -> Vec<Mid> {
        messages()
            .map(|message| message.mid)
            .filter(|mid| *mid != Mid::FLUSH)
            .collect()
    }

    /// The limit of a payload in bytes, both ways.
    fn max_message_size(&self) -> u32 {
        DEFAULT_MAX_MESSAGE_SIZE
    }

    /// Called once on every thread that will run this back end's operations, before the first.
    ///
    /// # Errors
    /// The thread then serves nothing: the connection or channel fails with this errno.
    fn thread_started(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Opens the root of the connection; `at` is its node, whose path is the mount path.
    ///
    /// # Errors
    /// As open(2); EPERM for a file of a type that is not served.
    fn mount(&self, at: Shared<'_, Self>) -> Result<Mounted<Self>, Errno>;
}

/// The root of a connection.
#[derive(Debug)]
pub struct Mounted<S: ServerImpl> {
    /// The root.
    pub control: S::ControlFd,
    /// Its attributes.
    pub stat: Statx,
    /// A descriptor of the root for the client, which gives it everything below the root.
    pub donation: Option<OwnedFd>,
}

/// What holds for a connection: which operations a deleted file still answers, and whether
/// WalkStat has a form of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerOpts {
    /// [`ControlFdImpl::walk_stat`] is implemented; otherwise the runtime walks and stats.
    pub walk_stat_supported: bool,
    /// SetStat works on deleted files.
    pub set_attr_on_deleted: bool,
    /// FAllocate works on deleted files.
    pub allocate_on_deleted: bool,
    /// OpenAt works on deleted files.
    pub open_on_deleted: bool,
}

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
    /// How many bytes of the host's `linux_dirent64` records at the most.
    pub count: u32,
}

/// A position in the tree. Symlinks are never followed.
///
/// What a back end leaves out answers EOPNOTSUPP.
#[allow(unused_variables)] // in the defaults
pub trait ControlFdImpl: Send + Sync + Sized + 'static {
    /// The back end.
    type Server: ServerImpl<ControlFd = Self>;

    /// statx(2) of the file itself. Works on deleted files.
    ///
    /// # Errors
    /// As the system call.
    fn stat(&self, at: FdShared<'_, Self::Server>) -> Result<Statx, Errno>;

    /// Changes the attributes in `mask`, which are fields of `request`. What cannot be changed is
    /// told in the reply; the rest is changed all the same.
    fn set_stat(
        &self,
        at: Exclusive<'_, Self::Server>,
        mask: SetStat,
        request: &SetStatReq,
    ) -> SetStatResp {
        SetStatResp {
            failure_mask: mask.bits(),
            failure_errno: u32::from(Errno::EOPNOTSUPP.raw()),
        }
    }

    /// Opens `name` in this directory, `O_PATH | O_NOFOLLOW` in spirit: without side effects on
    /// the file.
    ///
    /// # Errors
    /// ENOENT if there is none; EPERM for a file of a type that is not served.
    fn walk(&self, at: Shared<'_, Self::Server>, name: Name<'_>) -> Result<(Self, Statx), Errno>;

    /// Tells the attributes of the files along `path` to `record`, up to the first missing one and
    /// up to and including the first symlink. Called only if
    /// [`walk_stat_supported`](ServerOpts::walk_stat_supported).
    ///
    /// # Errors
    /// Any but ENOENT, which ends the walk with success.
    fn walk_stat<'n>(
        &self,
        at: Shared<'_, Self::Server>,
        path: &mut dyn Iterator<Item = Name<'n>>,
        record: &mut dyn FnMut(Statx),
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// open(2) of the file itself; never a symlink, for a directory never for writing.
    ///
    /// # Errors
    /// As the system call; EPERM for a file of a type that is not opened. ENXIO, at once, for a
    /// FIFO opened for writing that nobody reads.
    fn open(
        &self,
        at: Shared<'_, Self::Server>,
        flags: OpenFlags,
    ) -> Result<<Self::Server as ServerImpl>::OpenFd, Errno>;

    /// Creates the regular file `name` in this directory, which must not exist, and opens it.
    ///
    /// # Errors
    /// EEXIST, and as open(2).
    fn open_create(
        &self,
        at: Exclusive<'_, Self::Server>,
        name: Name<'_>,
        creation: Creation,
        flags: OpenFlags,
    ) -> Result<(Self, Statx, <Self::Server as ServerImpl>::OpenFd), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// mkdirat(2).
    ///
    /// # Errors
    /// As the system call.
    fn mkdir(
        &self,
        at: Exclusive<'_, Self::Server>,
        name: Name<'_>,
        creation: Creation,
    ) -> Result<(Self, Statx), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// mknodat(2).
    ///
    /// # Errors
    /// EPERM for a type that is not made; otherwise as the system call.
    fn mknod(
        &self,
        at: Exclusive<'_, Self::Server>,
        name: Name<'_>,
        creation: Creation,
        kind: NodeKind,
    ) -> Result<(Self, Statx), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// symlinkat(2). `target` is any bytes.
    ///
    /// # Errors
    /// As the system call; EINVAL for a NUL in `target`.
    fn symlink(
        &self,
        at: Exclusive<'_, Self::Server>,
        name: Name<'_>,
        target: &[u8],
        uid: Uid,
        gid: Gid,
    ) -> Result<(Self, Statx), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// linkat(2): gives the file `target` the name `name` in this directory as well.
    ///
    /// # Errors
    /// As the system call.
    fn link(
        &self,
        at: Exclusive<'_, Self::Server>,
        name: Name<'_>,
        target: &Self,
        target_at: Shared<'_, Self::Server>,
    ) -> Result<(Self, Statx), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// fstatfs(2).
    ///
    /// # Errors
    /// As the system call.
    fn stat_fs(&self, at: Shared<'_, Self::Server>) -> Result<StatFs, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// readlinkat(2) of this symlink, into `target` from its current end.
    ///
    /// # Errors
    /// As the system call.
    fn readlink(&self, at: Shared<'_, Self::Server>, target: &mut Vec<u8>) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Connects to this socket and returns the connected, non-blocking socket. Never waits.
    /// `sock_type` is SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET or 0 for whichever it is.
    ///
    /// # Errors
    /// EPERM where policy forbids it, ENXIO for another type, EAGAIN when its backlog is full.
    fn connect(&self, at: FdShared<'_, Self::Server>, sock_type: u32) -> Result<OwnedFd, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// As [`connect`](Self::connect), with the peer seeing `uid` and `gid`.
    ///
    /// # Errors
    /// EPERM, and nothing done, when the identity cannot be taken on.
    fn connect_with_creds(
        &self,
        at: FdShared<'_, Self::Server>,
        sock_type: u32,
        uid: Uid,
        gid: Gid,
    ) -> Result<OwnedFd, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a socket and binds it to `name` in this directory.
    ///
    /// # Errors
    /// EPERM where policy forbids it, ENXIO for another type, EEXIST, and as bind(2).
    fn bind_at(
        &self,
        at: Exclusive<'_, Self::Server>,
        name: Name<'_>,
        creation: Creation,
        sock_type: u32,
    ) -> Result<(Self, Statx, <Self::Server as ServerImpl>::BoundSocketFd), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// unlinkat(2); `directory` for AT_REMOVEDIR.
    ///
    /// # Errors
    /// As the system call.
    fn unlink(
        &self,
        at: Exclusive<'_, Self::Server>,
        name: Name<'_>,
        directory: bool,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// renameat(2) from `old_name` in this directory to `new_name` in `new_dir`.
    ///
    /// # Errors
    /// As the system call.
    fn rename_at(
        &self,
        at: Global<'_, Self::Server>,
        old_name: Name<'_>,
        new_dir: &Self,
        new_name: Name<'_>,
    ) -> Result<RenameOutcome, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// renameat2(2); `flags` is not empty.
    ///
    /// # Errors
    /// As the system call; EINVAL for flags that are not supported.
    fn rename_at2(
        &self,
        at: Global<'_, Self::Server>,
        old_name: Name<'_>,
        new_dir: &Self,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<RenameOutcome, Errno> {
        Err(Errno::EINVAL)
    }

    /// The file, or a directory above it, has been renamed. Called only if
    /// [`NOTIFY_RENAMED`](ServerImpl::NOTIFY_RENAMED).
    fn renamed(&self, at: Global<'_, Self::Server>, path: &[u8]) {}

    /// lgetxattr(2), the whole value into `value` from its current end, which is empty. `limit`
    /// bytes of it are welcome.
    ///
    /// # Errors
    /// ENODATA if there is none, ERANGE if the value is longer than `limit`.
    fn get_xattr(
        &self,
        at: FdShared<'_, Self::Server>,
        name: XattrName<'_>,
        limit: usize,
        value: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// lsetxattr(2). `flags` is 0, XATTR_CREATE or XATTR_REPLACE.
    ///
    /// # Errors
    /// As the system call.
    fn set_xattr(
        &self,
        at: FdExclusive<'_, Self::Server>,
        name: XattrName<'_>,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// llistxattr(2). `limit` bytes of names, each with a NUL, are welcome.
    ///
    /// # Errors
    /// ERANGE if the names are longer than `limit`.
    fn list_xattr(
        &self,
        at: FdShared<'_, Self::Server>,
        limit: usize,
        names: &mut StringArrayBuf,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// lremovexattr(2).
    ///
    /// # Errors
    /// ENODATA if there is none; otherwise as the system call.
    fn remove_xattr(
        &self,
        at: FdExclusive<'_, Self::Server>,
        name: XattrName<'_>,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// An open file description.
///
/// The runtime has checked that it is readable or writable where that is needed.
#[allow(unused_variables)] // in the defaults
pub trait OpenFdImpl: Send + Sync + Sized + 'static {
    /// The back end.
    type Server: ServerImpl<OpenFd = Self>;

    /// The host descriptor that the client gets with the id.
    fn donation(&self) -> Donation<'_> {
        Donation::None
    }

    /// statx(2) of the open file.
    ///
    /// # Errors
    /// As the system call.
    fn stat(&self, at: FdShared<'_, Self::Server>) -> Result<Statx, Errno>;

    /// fsync(2).
    ///
    /// # Errors
    /// As the system call.
    fn sync(&self, at: FdShared<'_, Self::Server>) -> Result<(), Errno> {
        Ok(())
    }

    /// pwrite(2) of `data`, which may be memory that the client changes meanwhile. Returns the
    /// bytes written; fewer than there are, but not none, after an error later on.
    ///
    /// # Errors
    /// As the system call.
    fn write(
        &self,
        at: FdExclusive<'_, Self::Server>,
        data: SharedBytes<'_>,
        offset: u64,
    ) -> Result<usize, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// pread(2) into `buffer`, which may be memory that the client reads meanwhile. Returns the
    /// bytes read; fewer than fit only at the end of the file or after an error later on.
    ///
    /// # Errors
    /// As the system call.
    fn read(
        &self,
        at: FdShared<'_, Self::Server>,
        buffer: SharedBytes<'_>,
        offset: u64,
    ) -> Result<usize, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// EOPNOTSUPP for mode bits that are not supported; otherwise as the system call.
    fn allocate(
        &self,
        at: FdExclusive<'_, Self::Server>,
        mode: u64,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Called when the client closes a descriptor of the file.
    ///
    /// # Errors
    /// What a close(2) of the file would say.
    fn flush(&self, at: FdShared<'_, Self::Server>) -> Result<(), Errno> {
        Ok(())
    }

    /// getdents64(2) into `entries`, without `.` and `..`. An entry that does not fit comes with
    /// the next call.
    ///
    /// # Errors
    /// EINVAL if the next entry does not fit into `request.count`: no entries means the end of
    /// the directory and nothing else.
    fn getdents64(
        &self,
        at: FdShared<'_, Self::Server>,
        request: DirentRequest,
        entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// As [`ControlFdImpl::renamed`].
    fn renamed(&self, at: Global<'_, Self::Server>, path: &[u8]) {}
}

/// A Unix socket bound to a name in the tree.
pub trait BoundSocketFdImpl: Send + Sync + Sized + 'static {
    /// The back end.
    type Server: ServerImpl<BoundSocketFd = Self>;

    /// The socket, which goes to the client with the id.
    fn socket(&self) -> BorrowedFd<'_>;

    /// listen(2).
    ///
    /// # Errors
    /// As the system call.
    fn listen(&self, at: Shared<'_, Self::Server>, backlog: i32) -> Result<(), Errno>;

    /// accept(2): the non-blocking socket and the peer's address, which may be hidden. Never
    /// waits.
    ///
    /// # Errors
    /// EAGAIN if nobody waits to be accepted.
    fn accept(&self, at: FdShared<'_, Self::Server>) -> Result<(OwnedFd, Vec<u8>), Errno>;
}
