//! What the socket and the channels have in common: one request, one reply.

use flipcall::{SharedBytes, Spinners, WaitPolicy};

use super::{Channel, Error, PendingChannel, Reply};
use crate::Errno;
use crate::wire::{
    ChannelReq, Encode, FdId, Mid, Overflow, PReadReq, PReadResp, PWriteReq, PWriteResp, Request,
    Writer,
};

/// How large a request may be and how many descriptors of its reply are kept.
///
/// ```
/// use lisafs::client::{Bounds, Communicator, Error, Reply, Socket};
/// use lisafs::wire::{Array, CloseReq, FdId, Mid};
///
/// # let served = lisafs_served::directory()?;
/// let mut socket = Socket::from(served.connect()?);
/// let tight = Bounds { max_request: 8, max_fds: 0 };
/// let close = CloseReq { fds: Array::new(&[FdId(1)]) };
/// let refused = socket.exchange(Mid::CLOSE, &close, tight, &mut Reply::new());
/// assert!(matches!(refused, Err(Error::Local(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest payload, in bytes, that is sent; a longer one is EIO.
    pub max_request: u32,
    /// The most descriptors that are kept; others are closed.
    pub max_fds: usize,
}

impl Bounds {
    /// Those of a request of type `R`.
    pub(super) fn of<R: Request>(max_request: u32) -> Bounds {
        Bounds {
            max_request,
            max_fds: R::MAX_FDS,
        }
    }
}

/// A way to send requests, one at a time: the [`Socket`](super::Socket) or a [`Channel`].
///
/// ```
/// use lisafs::client::{Communicator, Error, Reply, Socket};
/// use lisafs::wire::{FdId, StatReq, Statx};
///
/// fn stat(on: &mut impl Communicator, fd: FdId) -> Result<Statx, Error> {
///     on.call(&StatReq { fd }, &mut Reply::new())
/// }
///
/// # let served = lisafs_served::directory()?;
/// let mut socket = Socket::from(served.connect()?);
/// let root = socket.mount()?.root;
/// assert_eq!(stat(&mut socket, root.control_fd)?, root.stat);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Communicator {
    /// The limit of a payload in bytes, both ways: the server's, but at most 16 MiB.
    fn max_message_size(&self) -> u32;

    /// Sends `request` as message `mid`, waits, and leaves the payload of whatever comes back in
    /// `reply`. Returns the number of that message.
    ///
    /// # Errors
    /// [`Error::Local`] EIO for a request above the bounds, which is then not sent;
    /// [`Error::Failed`] when the transport failed or the reply exceeds the limit.
    fn exchange<E: Encode>(
        &mut self,
        mid: Mid,
        request: &E,
        bounds: Bounds,
        reply: &mut Reply,
    ) -> Result<Mid, Error>;

    /// PRead of up to `len` bytes at `offset`: hands what came to `look`, in the memory in which it
    /// came, and returns what that returns. No bytes are the end of the file. The server answers
    /// ENOBUFS for more than the limit minus 8.
    ///
    /// On a channel the server can still change the bytes.
    ///
    /// # Errors
    /// [`Error::Remote`] with the server's errno, [`Error::Failed`], and [`Error::Local`] EINVAL
    /// for more than 4 GiB.
    fn pread_with<T>(
        &mut self,
        fd: FdId,
        offset: u64,
        len: usize,
        reply: &mut Reply,
        look: impl FnOnce(SharedBytes<'_>) -> T,
    ) -> Result<T, Error>;

    /// PRead: reads up to `buf.len()` bytes at `offset` into `buf`, and returns how many came; 0 is
    /// the end of the file.
    ///
    /// # Errors
    /// As for [`pread_with`](Self::pread_with).
    fn pread(
        &mut self,
        fd: FdId,
        offset: u64,
        buf: &mut [u8],
        reply: &mut Reply,
    ) -> Result<usize, Error> {
        self.pread_with(fd, offset, buf.len(), reply, |data| {
            let len = data.len();
            let read = buf.get_mut(..len)?;
            data.copy_to(0, read).ok().map(|()| len)
        })?
        .ok_or_else(Error::malformed)
    }

    /// PWrite of up to `len` bytes at `offset`, which `fill` puts where they are sent from: it gets
    /// `len` bytes of anything, and returns how many from the start are data. Returns how many of
    /// these were written.
    ///
    /// # Errors
    /// As for [`pwrite`](Self::pwrite).
    fn pwrite_with(
        &mut self,
        fd: FdId,
        offset: u64,
        len: usize,
        reply: &mut Reply,
        fill: impl FnOnce(SharedBytes<'_>) -> usize,
    ) -> Result<usize, Error>;

    /// PWrite: writes `data` at `offset`, and returns how much was written.
    ///
    /// # Errors
    /// [`Error::Remote`] with the server's errno; [`Error::Local`] EIO for more than the limit
    /// minus 20; [`Error::Failed`], also when the server claims to have written more than it got.
    fn pwrite(
        &mut self,
        fd: FdId,
        offset: u64,
        data: &[u8],
        reply: &mut Reply,
    ) -> Result<usize, Error> {
        self.pwrite_with(fd, offset, data.len(), reply, |room| {
            room.copy_from(0, data).map_or(0, |()| data.len())
        })
    }

    /// Sends `request` and decodes the reply to it. Descriptors that came along are in `reply`.
    ///
    /// # Errors
    /// [`Error::Remote`] with the server's errno, otherwise as for [`exchange`](Self::exchange);
    /// EIO for a reply that cannot be decoded, EINVAL for one to another message. No descriptor
    /// is kept then.
    fn call<'b, R: Request>(
        &mut self,
        request: &R,
        reply: &'b mut Reply,
    ) -> Result<R::Reply<'b>, Error> {
        let bounds = Bounds::of::<R>(self.max_message_size());
        let got = self.exchange(R::MID, request, bounds, reply)?;
        reply.expect(R::MID, got)?;
        reply.decode()
    }

    /// Sends any bytes as message `mid`, and leaves whatever comes back in `reply`, error replies
    /// and their descriptors included. Returns the number of the reply.
    ///
    /// The request may exceed the limit, as far as the communicator can carry it.
    ///
    /// # Errors
    /// [`Error::Failed`] when there is no reply, or one above the limit.
    fn call_raw(&mut self, mid: Mid, body: &[u8], reply: &mut Reply) -> Result<Mid, Error> {
        let bounds = Bounds {
            max_request: u32::MAX,
            max_fds: mid.message().map_or(0, |message| message.max_fds),
        };
        self.exchange(mid, &Raw(body), bounds, reply)
    }

    /// Asks for another channel, which this or another communicator of the connection may do, and
    /// connects it.
    ///
    /// There is no timeout for the handshake; a [`Client`](super::Client) ends it when the server
    /// goes.
    ///
    /// # Errors
    /// [`Error::Remote`] ENOMEM when the server's limit is reached; [`Error::Failed`] when the
    /// window or the handshake are not as they have to be, or a descriptor is missing.
    fn open_channel(&mut self, wait: WaitPolicy, spinners: &Spinners) -> Result<Channel, Error> {
        self.request_channel(wait, spinners)?.connect()
    }

    /// The first half of [`open_channel`](Self::open_channel): the window is checked and mapped,
    /// but the server has not been spoken to over it.
    ///
    /// # Errors
    /// As for [`open_channel`](Self::open_channel).
    fn request_channel(
        &mut self,
        wait: WaitPolicy,
        spinners: &Spinners,
    ) -> Result<PendingChannel, Error> {
        let mut reply = Reply::new();
        let place = self.call(&ChannelReq {}, &mut reply)?;
        PendingChannel::new(
            &place,
            reply.take_fds(),
            self.max_message_size(),
            wait,
            spinners,
        )
    }
}

/// A payload that is bytes already.
struct Raw<'a>(&'a [u8]);

impl Encode for Raw<'_> {
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow> {
        out.put(self.0)
    }
}

/// A PRead of up to `len` bytes.
pub(super) fn read_request(fd: FdId, offset: u64, len: usize) -> Result<PReadReq, Error> {
    let count = u32::try_from(len).map_err(|_| Error::Local(Errno::EINVAL))?;
    Ok(PReadReq { offset, fd, count })
}

/// The data in the reply to a PRead of up to `len` bytes.
pub(super) fn data_of(reply: SharedBytes<'_>, len: usize) -> Result<SharedBytes<'_>, Error> {
    let (count, data) = reply
        .split_at(PReadResp::DATA_OFFSET as usize)
        .ok_or_else(Error::malformed)?;
    let mut bytes = [0; PReadResp::DATA_OFFSET as usize];
    count
        .copy_to(0, &mut bytes)
        .map_err(|_| Error::malformed())?;
    usize::try_from(u64::from_le_bytes(bytes))
        .ok()
        .filter(|count| *count <= len)
        .and_then(|count| data.slice(0, count))
        .ok_or_else(Error::malformed)
}

/// A PWrite of `len` bytes, if so many fit behind it.
pub(super) fn write_request(
    fd: FdId,
    offset: u64,
    len: usize,
    max_message_size: u32,
) -> Result<PWriteReq, Error> {
    let room = max_message_size.checked_sub(PWriteReq::DATA_OFFSET);
    let num_bytes = u32::try_from(len).ok().filter(|len| Some(*len) <= room);
    Ok(PWriteReq {
        offset,
        fd,
        num_bytes: num_bytes.ok_or(Error::Local(Errno::EIO))?,
    })
}

/// How much the server says it has written of `len` bytes, if `got` is the reply to a PWrite.
pub(super) fn written(reply: &mut Reply, got: Mid, len: usize) -> Result<usize, Error> {
    reply.expect(PWriteReq::MID, got)?;
    let PWriteResp { count } = reply.decode()?;
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= len)
        .ok_or_else(Error::malformed)
}
