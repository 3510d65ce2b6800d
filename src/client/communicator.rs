//! What the socket and the channels have in common: one request, one reply.

use flipcall::{Spinners, WaitPolicy};

use super::{Channel, Error, PendingChannel, Reply};
use crate::Errno;
use crate::wire::{
    ChannelReq, Encode, FdId, Mid, Overflow, PReadReq, PWriteReq, PWriteResp, Request, Writer,
};

/// How large a request may be and how many descriptors of its reply are kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest payload, in bytes, that is sent; a longer one is EIO.
    pub max_request: u32,
    /// The most descriptors that are kept; others are closed.
    pub max_fds: usize,
}

/// A way to send requests, one at a time: the [`Socket`](super::Socket) or a [`Channel`].
///
/// ```no_run
/// use lisafs::client::{Communicator, Error, Reply};
/// use lisafs::wire::{FdId, StatReq, Statx};
///
/// fn stat(on: &mut impl Communicator, fd: FdId) -> Result<Statx, Error> {
///     on.call(&StatReq { fd }, &mut Reply::new())
/// }
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

    /// PRead: reads up to `buf.len()` bytes at `offset` into `buf`, and returns how many came; 0 is
    /// the end of the file. The server answers ENOBUFS for more than the limit minus 8.
    ///
    /// # Errors
    /// [`Error::Remote`] with the server's errno, [`Error::Failed`], and [`Error::Local`] EINVAL
    /// for a buffer above 4 GiB.
    fn pread(
        &mut self,
        fd: FdId,
        offset: u64,
        buf: &mut [u8],
        reply: &mut Reply,
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
        let request = PWrite {
            fixed: PWriteReq {
                offset,
                fd,
                num_bytes: u32::try_from(data.len()).map_err(|_| Error::Local(Errno::EIO))?,
            },
            data,
        };
        let PWriteResp { count } = call::<PWriteReq, PWrite<'_>>(self, &request, reply)?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= data.len())
            .ok_or_else(Error::malformed)
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
        call::<R, R>(self, request, reply)
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

/// Sends `payload` as the request `R` and decodes the reply to it.
fn call<'b, R: Request, E: Encode>(
    on: &mut (impl Communicator + ?Sized),
    payload: &E,
    reply: &'b mut Reply,
) -> Result<R::Reply<'b>, Error> {
    let bounds = Bounds {
        max_request: on.max_message_size(),
        max_fds: R::MAX_FDS,
    };
    let got = on.exchange(R::MID, payload, bounds, reply)?;
    reply.expect(R::MID, got)?;
    reply.decode()
}

/// A payload that is bytes already.
struct Raw<'a>(&'a [u8]);

impl Encode for Raw<'_> {
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow> {
        out.put(self.0)
    }
}

/// A PWrite with its data, which goes from the caller's memory to where it is sent from.
struct PWrite<'a> {
    fixed: PWriteReq,
    data: &'a [u8],
}

impl Encode for PWrite<'_> {
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow> {
        self.fixed.encode(out)?;
        out.put(self.data)
    }
}

/// A PRead for as much as `buf` holds.
pub(super) fn read_request(fd: FdId, offset: u64, buf: &[u8]) -> Result<PReadReq, Error> {
    let count = u32::try_from(buf.len()).map_err(|_| Error::Local(Errno::EINVAL))?;
    Ok(PReadReq { offset, fd, count })
}
