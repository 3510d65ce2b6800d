//! One channel: requests through a packet window.

use std::os::fd::OwnedFd;

use flipcall::{
    Active, ClientEndpoint, Closer, FdReceiver, PacketWindow, SharedBytes, Spinners, WaitPolicy,
    WaitStats, WindowDescriptor,
};

use super::communicator::{Bounds, Communicator, data_of, read_request, write_request, written};
use super::watched::Watched;
use super::{Error, FailureKind, Reply};
use crate::Errno;
use crate::channel_header::ChannelHeader;
use crate::observe::{Observer, Via};
use crate::wire::{ChannelResp, Encode, FdId, Mid, Overflow, PReadReq, PWriteReq, Request, Writer};

/// A channel of a connection: shared memory for requests and replies, a socket for descriptors.
///
/// ```
/// use flipcall::{Spinners, WaitPolicy};
/// use lisafs::client::{Communicator, Reply, Socket};
/// use lisafs::wire::StatReq;
///
/// # let served = lisafs_served::directory()?;
/// let mut socket = Socket::from(served.connect()?);
/// let root = socket.mount()?.root;
/// let mut channel = socket.open_channel(WaitPolicy::Park, &Spinners::new())?;
/// let stat = channel.call(&StatReq { fd: root.control_fd }, &mut Reply::new())?;
/// assert_eq!(stat, root.stat);
/// assert!(channel.wait_stats().wakes > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Channel {
    active: Active,
    fds: FdReceiver,
    max_message_size: u32,
    broken: bool,
    watched: Watched,
}

/// A channel whose server has not been spoken to yet.
///
/// Between asking for a channel and connecting it somebody may have to learn how to end it: the
/// handshake waits for the server without a timeout.
///
/// ```
/// use std::time::Duration;
/// use flipcall::{Spinners, WaitPolicy};
/// use lisafs::client::{Communicator, Socket};
///
/// # let served = lisafs_served::directory()?;
/// let mut socket = Socket::from(served.connect()?);
/// let pending = socket.request_channel(WaitPolicy::Park, &Spinners::new())?;
/// // Another thread may have decided that it takes too long.
/// pending.closer().shutdown(Duration::ZERO);
/// assert!(pending.connect().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PendingChannel {
    endpoint: ClientEndpoint,
    fds: FdReceiver,
    max_message_size: u32,
}

impl PendingChannel {
    /// Checks and maps the window at `place` in the first of `fds`.
    pub(super) fn new(
        place: &ChannelResp,
        fds: Vec<OwnedFd>,
        max_message_size: u32,
        wait: WaitPolicy,
        spinners: &Spinners,
    ) -> Result<PendingChannel, Error> {
        let Ok([memory, socket]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(Error::failed(FailureKind::MissingDescriptor));
        };
        let descriptor = WindowDescriptor {
            offset: u64::try_from(place.data_offset).map_err(|_| Error::malformed())?,
            length: place.data_length,
        };
        let window = PacketWindow::from_peer(memory, descriptor).map_err(Error::transport)?;
        Ok(PendingChannel {
            endpoint: ClientEndpoint::new(window, wait, spinners),
            fds: FdReceiver::from(socket),
            max_message_size,
        })
    }

    /// Exchanges handshakes with the server.
    ///
    /// # Errors
    /// [`Error::Failed`] when the server's is not acceptable, or the channel was shut down.
    pub fn connect(self) -> Result<Channel, Error> {
        Ok(Channel {
            active: self.endpoint.connect().map_err(Error::transport)?,
            fds: self.fds,
            max_message_size: self.max_message_size,
            broken: false,
            watched: Watched::default(),
        })
    }

    /// A handle that ends the channel from another thread.
    #[must_use]
    pub fn closer(&self) -> Closer {
        self.endpoint.closer()
    }
}

impl Channel {
    /// Has `observer` see the requests that go over this channel from here on. It is the one with
    /// this number.
    pub fn observe(&mut self, observer: &dyn Observer, number: u64) {
        self.watched = Watched::new(observer, Via::Channel(1, number));
    }

    /// A handle that ends the channel from another thread; a call that waits then fails with EIO.
    #[must_use]
    pub fn closer(&self) -> Closer {
        self.active.closer()
    }

    /// How the waits for replies went so far.
    #[must_use]
    pub fn wait_stats(&self) -> WaitStats {
        self.active.wait_stats()
    }

    /// Whether the transport failed; no call can succeed then.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Encodes the request into the window, hands it over, with `data_len` bytes that are behind it
    /// already, and waits. Returns the number of the reply and its payload, still in the window.
    fn round_trip<E: Encode>(
        &mut self,
        mid: Mid,
        request: &E,
        data_len: usize,
        bounds: Bounds,
        reply: &mut Reply,
    ) -> Result<(Mid, SharedBytes<'_>), Error> {
        reply.clear();
        if self.broken {
            return Err(Error::disconnected());
        }
        let header = ChannelHeader {
            mid,
            num_fds: 0,
            pad: 0,
        };
        let mut out = WindowWriter::new(self.active.payload(), bounds.max_request);
        out.put_header(header)?;
        request.encode(&mut out)?;
        let len = out.len.saturating_add(data_len);
        if let Some(payload) = payload_of(self.active.payload(), len) {
            self.watched.begin(mid, payload);
        }
        let len = match self.active.send_recv(len) {
            Ok(len) => len,
            Err(why) => {
                self.broken = true;
                let why = Error::transport(why);
                self.watched.fail(&why);
                return Err(why);
            }
        };

        let datagram = self.active.payload();
        let mut header = [0; ChannelHeader::SIZE];
        let (Some(payload), Ok(())) = (payload_of(datagram, len), datagram.copy_to(0, &mut header))
        else {
            let why = Error::malformed();
            self.watched.fail(&why);
            return Err(why);
        };
        let header: ChannelHeader = bytemuck::pod_read_unaligned(&header);
        receive_fds(&self.fds, header.num_fds, bounds.max_fds, reply);
        if payload.len() > self.max_message_size as usize {
            reply.clear();
            let why = Error::malformed();
            self.watched.fail(&why);
            return Err(why);
        }
        self.watched.end(header.mid, payload, reply.fds().len());
        Ok((header.mid, payload))
    }
}

/// What is behind the header in a datagram of `len` bytes.
fn payload_of(datagram: SharedBytes<'_>, len: usize) -> Option<SharedBytes<'_>> {
    datagram.slice(ChannelHeader::SIZE, len.checked_sub(ChannelHeader::SIZE)?)
}

/// Takes `count` descriptors off the channel and keeps `keep` of them. All have to be taken,
/// because their order is all that says which reply they belong to. A missing one is no failure
/// here: most are optional.
fn receive_fds(fds: &FdReceiver, count: u8, keep: usize, reply: &mut Reply) {
    for index in 0..usize::from(count) {
        match fds.recv() {
            Ok(Some(fd)) if index < keep => reply.push_fd(fd),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
}

impl Communicator for Channel {
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
        let (got, payload) = self.round_trip(mid, request, 0, bounds, reply)?;
        reply.copy_from(payload);
        Ok(got)
    }

    fn pread_with<T>(
        &mut self,
        fd: FdId,
        offset: u64,
        len: usize,
        reply: &mut Reply,
        look: impl FnOnce(SharedBytes<'_>) -> T,
    ) -> Result<T, Error> {
        let request = read_request(fd, offset, len)?;
        let bounds = Bounds::of::<PReadReq>(self.max_message_size);
        let (got, payload) = self.round_trip(PReadReq::MID, &request, 0, bounds, reply)?;
        if got == PReadReq::MID {
            Ok(look(data_of(payload, len)?))
        } else {
            reply.copy_from(payload);
            reply.expect(PReadReq::MID, got)?;
            Err(Error::malformed())
        }
    }

    fn pwrite_with(
        &mut self,
        fd: FdId,
        offset: u64,
        len: usize,
        reply: &mut Reply,
        fill: impl FnOnce(SharedBytes<'_>) -> usize,
    ) -> Result<usize, Error> {
        let mut request = write_request(fd, offset, len, self.max_message_size)?;
        if self.broken {
            return Err(Error::disconnected());
        }
        let before = ChannelHeader::SIZE + PWriteReq::DATA_OFFSET as usize;
        let room = self.active.payload().slice(before, len);
        let filled = fill(room.ok_or(Error::Local(Errno::EIO))?).min(len);
        request.num_bytes = u32::try_from(filled).map_err(|_| Error::Local(Errno::EIO))?;
        let bounds = Bounds::of::<PWriteReq>(self.max_message_size);
        let (got, payload) = self.round_trip(PWriteReq::MID, &request, filled, bounds, reply)?;
        reply.copy_from(payload);
        written(reply, got, filled)
    }
}

/// Writes a message into a window, bounded by the window and by the limit of the payload.
struct WindowWriter<'a> {
    window: SharedBytes<'a>,
    len: usize,
    limit: usize,
}

impl<'a> WindowWriter<'a> {
    fn new(window: SharedBytes<'a>, max_request: u32) -> WindowWriter<'a> {
        WindowWriter {
            window,
            len: 0,
            limit: ChannelHeader::SIZE.saturating_add(max_request as usize),
        }
    }

    fn put_header(&mut self, header: ChannelHeader) -> Result<(), Overflow> {
        self.put(bytemuck::bytes_of(&header))
    }
}

impl Writer for WindowWriter<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
        let end = self
            .len
            .checked_add(bytes.len())
            .filter(|end| *end <= self.limit)
            .ok_or(Overflow)?;
        self.window
            .copy_from(self.len, bytes)
            .map_err(|_| Overflow)?;
        self.len = end;
        Ok(())
    }
}
