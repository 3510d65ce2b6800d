//! Operations on a position in the tree.

use std::os::fd::OwnedFd;

use super::{Creation, NodeKind, OpenFlags, RenameFlags, RenameOutcome, ServerImpl};
use crate::Errno;
use crate::server::fd_locks::{FdExclusive, FdShared};
use crate::server::guarantee::{Exclusive, Global, Shared};
use crate::wire::{
    Gid, Name, SetStat, SetStatReq, SetStatResp, StatFs, Statx, StringArrayBuf, Uid, XattrName,
};

/// A position in the tree. Symlinks are never followed.
///
/// What a back end leaves out answers EOPNOTSUPP.
///
/// ```
/// use std::marker::PhantomData;
///
/// use lisafs::Errno;
/// use lisafs::server::{ControlFdImpl, FdShared, OpenFlags, ServerImpl, Shared};
/// use lisafs::wire::{Name, Statx};
///
/// /// A directory with nothing in it, which cannot be opened.
/// struct Empty<S>(PhantomData<fn() -> S>);
///
/// impl<S: ServerImpl<ControlFd = Self>> ControlFdImpl for Empty<S> {
///     type Server = S;
///
///     fn stat(&self, _at: FdShared<'_, S>) -> Result<Statx, Errno> {
///         let mask = libc::STATX_BASIC_STATS;
///         Ok(Statx { mask, mode: 0o040_555, ino: 1, nlink: 2, ..Statx::default() })
///     }
///
///     fn walk(&self, _at: Shared<'_, S>, _name: Name<'_>) -> Result<(Self, Statx), Errno> {
///         Err(Errno::ENOENT)
///     }
///
///     fn open(&self, _at: Shared<'_, S>, _flags: OpenFlags) -> Result<S::OpenFd, Errno> {
///         Err(Errno::EACCES)
///     }
/// }
/// ```
#[allow(unused_variables)] // in the defaults
pub trait ControlFdImpl: Send + Sync + Sized + 'static {
    /// The back end.
    type Server: ServerImpl<ControlFd = Self>;

    /// The position has got its node, to which `data` belongs. No request that unlinks or renames
    /// the file has run since this position was made. It may become what another position on the node
    /// is, so that a file that is walked to again and again is kept once.
    fn placed(&mut self, data: &<Self::Server as ServerImpl>::NodeData) {}

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

    /// As [`walk`](Self::walk), and unless it is a symlink, a name is going to be looked up in the file
    /// next.
    ///
    /// # Errors
    /// As `walk`.
    fn walk_through(
        &self,
        at: Shared<'_, Self::Server>,
        name: Name<'_>,
    ) -> Result<(Self, Statx), Errno> {
        self.walk(at, name)
    }

    /// Tells the attributes of the files along `path` to `record`, up to the first missing one and
    /// up to and including the first symlink. Called only if
    /// [`walk_stat_supported`](super::ServerOpts::walk_stat_supported).
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

    /// unlinkat(2); `directory` for AT_REMOVEDIR. Positions that clients hold at `name` keep working
    /// as [`ServerOpts`](super::ServerOpts) says; [`at.child()`](Exclusive::child) is their node's data.
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

    /// renameat(2) from `old_name` in this directory to `new_name` in `new_dir`. Positions that
    /// clients hold at the names keep working: [`at.moved()`](Global::moved) and
    /// [`at.replaced()`](Global::replaced) are their nodes' data. If it takes long, it is not alone any
    /// more, see [`Global`].
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
        self.rename_at2(at, old_name, new_dir, new_name, RenameFlags::empty())
    }

    /// renameat2(2). `flags` is empty only for a back end that leaves [`rename_at`](Self::rename_at)
    /// out.
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
        Err(if flags.is_empty() {
            Errno::EOPNOTSUPP
        } else {
            Errno::EINVAL
        })
    }

    /// The file, or a directory above it, has been renamed: [`at.path()`](Shared::path) is another.
    /// Called only if [`NOTIFY_RENAMED`](ServerImpl::NOTIFY_RENAMED). Nothing else runs on the tree until
    /// it returns, so it must not wait.
    fn renamed(&self, at: Shared<'_, Self::Server>) {}

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
