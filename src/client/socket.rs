//! The main connection.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use flipcall::{FrameSocket, Received, SendError, SharedBytes};

use super::communicator::{Bounds, Communicator, data_of, read_request, write_request, written};
use super::watched::Watched;
use super::{Error, MountReply, Reply};
use crate::Errno;
use crate::observe::{Observer, Via};
use crate::wire::{
    Encode, FdId, MAX_MESSAGE_SIZE_BEFORE_MOUNT, Mid, MountReq, Overflow, PReadReq, PWriteReq,
    Request, Writer,
};

/// How much memory for requests is kept from call to call: more than the usual ones need.
const KEPT: usize = 64 << 10;

/// The socket of a connection. It carries every message, more slowly than a
/// [`Channel`](super::Channel).
///
/// ```
/// use lisafs::client::{Communicator, Reply, Socket};
/// use lisafs::wire::StatReq;
///
/// # let served = lisafs_served::directory()?;
/// let mut socket = Socket::from(served.connect()?);
/// let root = socket.mount()?.root;
/// let stat = socket.call(&StatReq { fd: root.control_fd }, &mut Reply::new())?;
/// assert_eq!(stat.ino, root.stat.ino);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Socket {
    frames: Arc<FrameSocket>,
    request: Vec<u8>,
    max_message_size: u32,
    broken: bool,
    watched: Watched,
}

impl Socket {
    /// Has `observer` see the requests that go over this socket from here on.
    pub fn observe(&mut self, observer: &dyn Observer) {
        self.watched = Watched::new(observer, Via::Socket(1));
    }

    /// Mounts: asks for the root and the server's limits, which hold from then on.
    ///
    /// # Errors
    /// As for [`call`](Communicator::call); EIO when the server's limit is too small for any
    /// message.
    pub fn mount(&mut self) -> Result<MountReply, Error> {
        let mut reply = Reply::new();
        let mount = self.call(&MountReq {}, &mut reply)?;
        let mut mount = MountReply::new(&mount)?;
        mount.root_fd = reply.take_fd();
        self.max_message_size = mount.max_message_size;
        Ok(mount)
    }

    /// The socket, for watching it and for ending it from another thread.
    pub(super) fn frames(&self) -> Arc<FrameSocket> {
        Arc::clone(&self.frames)
    }

    /// Forgets the last reply and the last request, and memory that only a rare long one needs.
    fn begin(&mut self, reply: &mut Reply) -> Result<(), Error> {
        reply.clear();
        self.request.clear();
        self.request.shrink_to(KEPT);
        if self.broken {
            return Err(Error::disconnected());
        }
        Ok(())
    }

    fn send(&mut self, mid: Mid) -> Result<(), Error> {
        let body = SharedBytes::from(self.request.as_mut_slice());
        self.watched.begin(mid, body);
        let sent = match self.frames.send(mid.0, body, &[]) {
            Ok(()) => Ok(()),
            // Nothing has left, so the next request may well do.
            Err(SendError::Unsent(errno)) => Err(Error::Local(errno.into())),
            Err(SendError::Broken(why)) => {
                self.broken = true;
                Err(Error::transport(why))
            }
        };
        sent.inspect_err(|why| self.watched.fail(why))
    }

    fn receive(&mut self, max_fds: usize, reply: &mut Reply) -> Result<Mid, Error> {
        let (body, fds) = reply.frame();
        let received = self.frames.recv(body, self.max_message_size, fds, max_fds);
        let why = match received {
            Ok(Received::Frame { mid, .. }) => {
                let got = Mid(mid);
                let descriptors = reply.fds().len();
                self.watched
                    .end(got, reply.frame().0.as_shared(), descriptors);
                return Ok(got);
            }
            Ok(Received::TooLong { .. }) => Error::malformed(),
            Ok(Received::Closed) => {
                self.broken = true;
                Error::disconnected()
            }
            Err(why) => {
                self.broken = true;
                Error::transport(why)
            }
        };
        self.watched.fail(&why);
        reply.clear();
        Err(why)
    }
}

/// A connection that has not mounted yet.
impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Socket {
        Socket {
            frames: Arc::new(FrameSocket::from(stream)),
            request: Vec::new(),
            max_message_size: MAX_MESSAGE_SIZE_BEFORE_MOUNT,
            broken: false,
            watched: Watched::default(),
        }
    }
}

/// For polling, and for asking who the peer is. Bytes that are read or written here are missing
/// from the frames.
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.frames.as_fd()
    }
}

impl Communicator for Socket {
    fn max_message_size(&self) -> u32 {
        self.max_message_size
    }

    fn exchange<E: Encode>(
        &mut self,
        mid: Mid,
        request: &E,
        bounds: Bounds,
        reply: &mut Reply,
    ) -> Result<Mid, Error> {
        self.begin(reply)?;
        request.encode(&mut Bounded {
            bytes: &mut self.request,
            limit: bounds.max_request as usize,
        })?;
        self.send(mid)?;
        self.receive(bounds.max_fds, reply)
    }

    fn pread_with<T>(
        &mut self,
        fd: FdId,
        offset: u64,
        len: usize,
        reply: &mut Reply,
        look: impl FnOnce(SharedBytes<'_>) -> T,
    ) -> Result<T, Error> {
        let bounds = Bounds::of::<PReadReq>(self.max_message_size);
        let request = read_request(fd, offset, len)?;
        let got = self.exchange(PReadReq::MID, &request, bounds, reply)?;
        reply.expect(PReadReq::MID, got)?;
        let (frame, _) = reply.frame();
        Ok(look(data_of(frame.as_shared(), len)?))
    }

    fn pwrite_with(
        &mut self,
        fd: FdId,
        offset: u64,
        len: usize,
        reply: &mut Reply,
        fill: impl FnOnce(SharedBytes<'_>) -> usize,
    ) -> Result<usize, Error> {
        let request = write_request(fd, offset, len, self.max_message_size)?;
        self.begin(reply)?;
        request.encode(&mut self.request)?;
        let before = self.request.len();
        self.request.resize(before.saturating_add(len), 0);
        let (head, room) = self.request.split_at_mut(before);
        let filled = fill(SharedBytes::from(room)).min(len);
        let num_bytes = u32::try_from(filled).map_err(|_| Error::Local(Errno::EIO))?;
        // The last field in front of the data.
        if let Some(field) = head.last_chunk_mut() {
            *field = num_bytes.to_le_bytes();
        }
        self.request.truncate(before.saturating_add(filled));
        self.send(PWriteReq::MID)?;
        let got = self.receive(PWriteReq::MAX_FDS, reply)?;
        written(reply, got, filled)
    }
}

/// A vector with a limit.
struct Bounded<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
}

impl Writer for Bounded<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
        if bytes.len() > self.limit.saturating_sub(self.bytes.len()) {
            return Err(Overflow);
        }
        self.bytes.put(bytes)
    }
}
