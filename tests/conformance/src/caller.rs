//! One communicator with what it takes to call over it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use flipcall::{
    Active, ClientEndpoint, Closer, PacketWindow, SharedBytes, Spinners, WaitPolicy,
    WindowDescriptor,
};
use lisafs::Errno;
use lisafs::client::{Communicator, Error, MountReply, Reply, Socket};
use lisafs::wire::{ChannelReq, Decode, Encode, ErrorResp, FdId, Mid, Request};

use crate::line::Line;
use crate::verdict::{Stop, Verdict};
use crate::watchdog::{Clock, Watchdog};

/// A communicator, the memory for its replies, and the clock of its calls.
///
/// The shorthands for single messages are in `calls.rs`; they return what the reply holds as
/// owned values.
#[derive(Debug)]
pub struct Caller {
    line: Line,
    reply: Reply,
    clock: Arc<Clock>,
    watchdog: Arc<Watchdog>,
}

/// A reply of any kind, as it came.
#[derive(Debug)]
pub struct Answer {
    /// The number of the reply, 0 for an error.
    pub mid: Mid,
    /// The payload.
    pub body: Vec<u8>,
    /// The descriptors that came along.
    pub fds: Vec<OwnedFd>,
}

impl Answer {
    /// The error number, if it is an error reply and nothing else is in it.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        let error = ErrorResp::from_bytes(&self.body).ok()?;
        let plain = self.mid == Mid::ERROR && self.body.len() == 4 && self.fds.is_empty();
        plain.then(|| Errno::new(error.errno)).flatten()
    }

    /// Fails the case unless this is an error reply with `errno`.
    #[track_caller]
    pub(crate) fn refused(&self, errno: Errno) -> Verdict {
        if self.errno() == Some(errno) {
            return Ok(());
        }
        let bytes = self.body.get(..self.body.len().min(16)).unwrap_or_default();
        Err(match self.errno() {
            Some(got) => Stop::failed(format_args!("{got:?}, not {errno:?}")),
            None => Stop::failed(format_args!(
                "{} with {} bytes {bytes:02x?}, not {errno:?}",
                self.mid,
                self.body.len(),
            )),
        })
    }
}

impl Caller {
    /// The socket of a connection that has not mounted.
    ///
    /// # Errors
    /// Whatever keeps a thread from being started that cuts the connection when a call takes too
    /// long.
    pub fn new(stream: UnixStream) -> Result<Caller, Stop> {
        let watchdog = Watchdog::new(&stream)?;
        Ok(Caller {
            line: Line::Socket(Socket::from(stream)),
            reply: Reply::new(),
            clock: watchdog.clock(),
            watchdog,
        })
    }

    /// Opens a channel over this communicator.
    ///
    /// # Errors
    /// As for [`Communicator::open_channel`].
    pub fn channel(&mut self) -> Result<Caller, Error> {
        let _running = self.watchdog.running(&self.clock);
        let pending = self
            .line
            .request_channel(WaitPolicy::Park, &Spinners::new())?;
        self.watchdog.watch_channel(pending.closer());
        Ok(Caller {
            line: Line::Channel(Box::new(pending.connect()?)),
            reply: Reply::new(),
            clock: self.watchdog.clock(),
            watchdog: Arc::clone(&self.watchdog),
        })
    }

    /// Opens a channel that speaks without messages.
    pub(crate) fn raw_channel(&mut self) -> Result<RawChannel, Stop> {
        let place = self.call(&ChannelReq {})?;
        let memory = self.take_fds().into_iter().next().ok_or(Errno::EBADF)?;
        let descriptor = WindowDescriptor {
            offset: u64::try_from(place.data_offset).map_err(|_| Errno::EINVAL)?,
            length: place.data_length,
        };
        let window = PacketWindow::from_peer(memory, descriptor)?;
        let endpoint = ClientEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
        Ok(self.adopt(endpoint)?)
    }

    /// Connects `endpoint`, which is of this connection, as a channel that speaks without messages.
    ///
    /// # Errors
    /// As for [`ClientEndpoint::connect`].
    pub fn adopt(&self, endpoint: ClientEndpoint) -> Result<RawChannel, flipcall::Error> {
        self.watchdog.watch_channel(endpoint.closer());
        let clock = self.watchdog.clock();
        let watchdog = Arc::clone(&self.watchdog);
        let running = watchdog.running(&clock);
        let active = endpoint.connect()?;
        drop(running);
        Ok(RawChannel {
            active,
            clock,
            watchdog,
        })
    }

    /// Mounts over a socket.
    ///
    /// # Errors
    /// As for [`Socket::mount`]; EINVAL over a channel.
    pub fn mount(&mut self) -> Result<MountReply, Error> {
        let _running = self.watchdog.running(&self.clock);
        match &mut self.line {
            Line::Socket(socket) => socket.mount(),
            Line::Channel(_) => Err(Error::Local(Errno::EINVAL)),
        }
    }

    /// Sends `request` and decodes the reply to it.
    ///
    /// # Errors
    /// As for [`Communicator::call`].
    pub fn call<R: Request>(&mut self, request: &R) -> Result<R::Reply<'_>, Error> {
        let _running = self.watchdog.running(&self.clock);
        self.line.call(request, &mut self.reply)
    }

    /// The descriptors of the last reply.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.reply.take_fds()
    }

    /// Sends any bytes as message `mid`.
    ///
    /// # Errors
    /// As for [`Communicator::call_raw`]; an error reply is an answer.
    pub fn raw(&mut self, mid: Mid, body: &[u8]) -> Result<Answer, Error> {
        let _running = self.watchdog.running(&self.clock);
        let got = self.line.call_raw(mid, body, &mut self.reply)?;
        Ok(Answer {
            mid: got,
            body: self.reply.body().to_vec(),
            fds: self.reply.take_fds(),
        })
    }

    /// As [`raw`](Self::raw), with the bytes of a request.
    ///
    /// # Errors
    /// As for [`raw`](Self::raw).
    pub fn send<R: Request>(&mut self, request: &R) -> Result<Answer, Error> {
        self.raw(R::MID, &encoded(request)?)
    }

    /// One PRead into `buf`; returns how many bytes came.
    ///
    /// # Errors
    /// As for [`Communicator::pread`].
    pub fn pread(&mut self, fd: FdId, offset: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let _running = self.watchdog.running(&self.clock);
        self.line.pread(fd, offset, buf, &mut self.reply)
    }

    /// One PWrite of `data`; returns how many bytes were written.
    ///
    /// # Errors
    /// As for [`Communicator::pwrite`].
    pub fn pwrite(&mut self, fd: FdId, offset: u64, data: &[u8]) -> Result<usize, Error> {
        let _running = self.watchdog.running(&self.clock);
        self.line.pwrite(fd, offset, data, &mut self.reply)
    }

    /// The limit of a payload in bytes.
    #[must_use]
    pub fn max_message_size(&self) -> u32 {
        self.line.max_message_size()
    }

    /// How many calls have been made over this connection, all its communicators taken together,
    /// however they ended. The counter outlives the connection.
    #[must_use]
    pub fn calls(&self) -> Arc<AtomicU64> {
        self.watchdog.calls()
    }

    /// Whether the connection was cut because a call took too long.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.watchdog.has_cut()
    }
}

/// A channel whose datagrams need not be messages.
#[derive(Debug)]
pub struct RawChannel {
    active: Active,
    clock: Arc<Clock>,
    watchdog: Arc<Watchdog>,
}

impl RawChannel {
    /// Where the next datagram is put, and the last one is.
    #[must_use]
    pub fn payload(&self) -> SharedBytes<'_> {
        self.active.payload()
    }

    /// A handle that can end the channel while it waits.
    #[must_use]
    pub fn closer(&self) -> Closer {
        self.active.closer()
    }

    /// Sends `len` bytes, whatever is there, and waits for an answer, whose length it returns.
    ///
    /// # Errors
    /// As for [`Active::send_recv`]; a channel that is cut for taking too long is shut down.
    pub fn send_recv(&mut self, len: usize) -> Result<usize, flipcall::Error> {
        let _running = self.watchdog.running(&self.clock);
        self.active.send_recv(len)
    }
}

/// The bytes of a request or of a part of one.
///
/// # Errors
/// [`Error::Local`] if it is longer than any message.
pub fn encoded(message: &impl Encode) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes)?;
    Ok(bytes)
}
