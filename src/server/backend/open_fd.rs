//! Operations on an open file and on a bound socket.

use std::os::fd::{BorrowedFd, OwnedFd};

use flipcall::SharedBytes;

use super::{DirentRequest, Donation, ServerImpl};
use crate::Errno;
use crate::server::fd_locks::{FdExclusive, FdShared};
use crate::server::guarantee::Shared;
use crate::wire::{DirentWriter, Statx};

/// An open file description.
///
/// The runtime has checked that it is readable or writable where that is needed.
///
/// ```
/// use std::marker::PhantomData;
///
/// use flipcall::SharedBytes;
/// use lisafs::Errno;
/// use lisafs::server::{FdShared, OpenFdImpl, ServerImpl};
/// use lisafs::wire::Statx;
///
/// /// A file without an end, of zeros.
/// struct Zero<S>(PhantomData<fn() -> S>);
///
/// impl<S: ServerImpl<OpenFd = Self>> OpenFdImpl for Zero<S> {
///     type Server = S;
///
///     fn stat(&self, _at: FdShared<'_, S>) -> Result<Statx, Errno> {
///         let mask = libc::STATX_BASIC_STATS;
///         Ok(Statx { mask, mode: 0o100_444, ino: 2, nlink: 1, ..Statx::default() })
///     }
///
///     fn read(
///         &self,
///         _at: FdShared<'_, S>,
///         buffer: SharedBytes<'_>,
///         _offset: u64,
///     ) -> Result<usize, Errno> {
///         let zeros = vec![0; buffer.len()];
///         buffer.copy_from(0, &zeros).map_err(|_| Errno::EIO)?;
///         Ok(zeros.len())
///     }
/// }
/// ```
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

    /// getdents64(2) into `entries`, without `.` and `..`. An entry that `entries` refuses comes with
    /// the next call.
    ///
    /// No entries and none refused means the end of the directory. Where even the first one is refused
    /// the client is told EINVAL.
    ///
    /// # Errors
    /// As the system call.
    fn getdents64(
        &self,
        at: FdShared<'_, Self::Server>,
        request: DirentRequest,
        entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// As [`ControlFdImpl::renamed`](super::ControlFdImpl::renamed).
    fn renamed(&self, at: Shared<'_, Self::Server>) {}
}

/// A Unix socket bound to a name in the tree.
///
/// ```
/// use std::marker::PhantomData;
/// use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
/// use std::os::unix::net::UnixListener;
///
/// use lisafs::Errno;
/// use lisafs::server::{BoundSocketFdImpl, FdShared, ServerImpl, Shared};
///
/// /// A socket that has listened from the beginning.
/// struct Listening<S> {
///     socket: UnixListener,
///     server: PhantomData<fn() -> S>,
/// }
///
/// impl<S: ServerImpl<BoundSocketFd = Self>> BoundSocketFdImpl for Listening<S> {
///     type Server = S;
///
///     fn socket(&self) -> BorrowedFd<'_> {
///         self.socket.as_fd()
///     }
///
///     fn listen(&self, _at: Shared<'_, S>, _backlog: i32) -> Result<(), Errno> {
///         Ok(())
///     }
///
///     fn accept(&self, _at: FdShared<'_, S>) -> Result<(OwnedFd, Vec<u8>), Errno> {
///         // Non-blocking: the client shares the flags of the socket.
///         self.socket.set_nonblocking(true).map_err(Errno::from)?;
///         let (stream, _) = self.socket.accept().map_err(Errno::from)?;
///         stream.set_nonblocking(true).map_err(Errno::from)?;
///         Ok((stream.into(), Vec::new()))
///     }
/// }
/// ```
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
