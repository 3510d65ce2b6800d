//! The communicators of a connection, and who uses which.

use std::sync::Arc;

use flipcall::{Closer, FrameSocket, Spinners, WaitPolicy, WaitStats};
use parking_lot::{Mutex, MutexGuard};
use tracing::debug;

use super::{Channel, Communicator, Error, Reply, Socket, SupportedMids};
use crate::Errno;
use crate::wire::{FdId, Mid, PReadReq, PWriteReq, Request};

/// A communicator and the memory for its replies.
#[derive(Debug)]
struct Line<C> {
    on: C,
    reply: Reply,
}

impl<C> Line<C> {
    fn new(on: C) -> Line<C> {
        Line {
            on,
            reply: Reply::new(),
        }
    }
}

/// All communicators of a connection.
///
/// A request takes the channel that was freed last, whose memory is the warmest. If none is free it
/// opens another, as long as the server and the limit let it, and else it takes its turn on the
/// socket.
#[derive(Debug)]
pub(super) struct Pool {
    socket: Mutex<Line<Socket>>,
    channels: Arc<Channels>,
    supported: SupportedMids,
    wait: WaitPolicy,
    spinners: Spinners,
}

/// The channels, shared with the watchdog.
#[derive(Debug)]
pub(super) struct Channels {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: Vec<Line<Channel>>,
    /// Of every channel, whoever has it.
    closers: Vec<Closer>,
    /// How many more channels to ask for.
    wanted: usize,
    /// The connection has ended.
    over: bool,
}

impl Pool {
    pub(super) fn new(
        socket: Socket,
        supported: SupportedMids,
        channels: usize,
        wait: WaitPolicy,
    ) -> Pool {
        let wanted = if supported.contains(Mid::CHANNEL) {
            channels
        } else {
            0
        };
        Pool {
            socket: Mutex::new(Line::new(socket)),
            channels: Arc::new(Channels {
                state: Mutex::new(State {
                    free: Vec::new(),
                    closers: Vec::new(),
                    wanted,
                    over: false,
                }),
            }),
            supported,
            wait,
            spinners: Spinners::new(),
        }
    }

    pub(super) fn supported(&self) -> &SupportedMids {
        &self.supported
    }

    pub(super) fn channels(&self) -> Arc<Channels> {
        Arc::clone(&self.channels)
    }

    pub(super) fn frames(&self) -> Arc<FrameSocket> {
        self.socket.lock().on.frames()
    }

    /// How the waits on each channel went so far.
    pub(super) fn wait_stats(&self) -> Vec<WaitStats> {
        let state = self.channels.state.lock();
        state.closers.iter().map(Closer::wait_stats).collect()
    }

    /// Takes a communicator until the lease is dropped.
    pub(super) fn lease(&self) -> Lease<'_> {
        let line = match self.channels.take() {
            Taken::Free(line) => Some(line),
            Taken::MayOpen => self.open(),
            Taken::None => None,
        };
        let line = match line {
            Some(line) => Held::Channel(Some(line)),
            None => Held::Socket(self.socket.lock()),
        };
        Lease { pool: self, line }
    }

    /// Opens a channel. If that fails, the ones that exist have to do.
    fn open(&self) -> Option<Line<Channel>> {
        match self.try_open() {
            Ok(channel) => Some(Line::new(channel)),
            Err(why) => {
                debug!(%why, "no more channels");
                self.channels.state.lock().wanted = 0;
                None
            }
        }
    }

    fn try_open(&self) -> Result<Channel, Error> {
        let pending = self
            .socket
            .lock()
            .on
            .request_channel(self.wait, &self.spinners)?;
        let closer = pending.closer();
        {
            let mut state = self.channels.state.lock();
            if state.over {
                return Err(Error::disconnected());
            }
            // Before the handshake: a server that leaves during it must not leave us waiting.
            state.closers.push(closer);
        }
        pending.connect()
    }
}

enum Taken {
    Free(Line<Channel>),
    MayOpen,
    None,
}

impl Channels {
    fn take(&self) -> Taken {
        let mut state = self.state.lock();
        if state.over {
            return Taken::None;
        }
        if let Some(line) = state.free.pop() {
            return Taken::Free(line);
        }
        match state.wanted.checked_sub(1) {
            Some(rest) => {
                state.wanted = rest;
                Taken::MayOpen
            }
            None => Taken::None,
        }
    }

    /// Takes a channel back. One that failed is not used again, nor replaced: the server counts it
    /// for as long as the connection lasts.
    fn put_back(&self, line: Line<Channel>) {
        let mut state = self.state.lock();
        if line.on.is_broken() || state.over {
            // Unmapping is not for under the lock.
            drop(state);
            drop(line);
        } else {
            state.free.push(line);
        }
    }

    /// Ends the channels. Returns handles on those that were in use.
    pub(super) fn end(&self) -> Vec<Closer> {
        let mut state = self.state.lock();
        state.over = true;
        let idle = std::mem::take(&mut state.free);
        let closers = std::mem::take(&mut state.closers);
        drop(state);
        drop(idle);
        closers
    }
}

/// A communicator for a request or a few. Goes back to the pool when dropped.
#[derive(Debug)]
pub(super) struct Lease<'p> {
    pool: &'p Pool,
    line: Held<'p>,
}

#[derive(Debug)]
enum Held<'p> {
    /// Always there until the drop.
    Channel(Option<Line<Channel>>),
    Socket(MutexGuard<'p, Line<Socket>>),
}

/// Calls a method of whichever communicator is held, with its reply buffer.
macro_rules! on_line {
    ($lease:ident, |$on:ident, $reply:ident| $call:expr) => {
        match &mut $lease.line {
            Held::Channel(Some(line)) => {
                let Line {
                    on: $on,
                    reply: $reply,
                } = line;
                $call
            }
            Held::Channel(None) => Err(Error::disconnected()),
            Held::Socket(line) => {
                let Line {
                    on: $on,
                    reply: $reply,
                } = &mut **line;
                $call
            }
        }
    };
}

impl Lease<'_> {
    /// [`Communicator::call`]; EOPNOTSUPP for a message that the server does not offer.
    pub(super) fn call<R: Request>(&mut self, request: &R) -> Result<R::Reply<'_>, Error> {
        self.offers(R::MID)?;
        on_line!(self, |on, reply| on.call(request, reply))
    }

    /// [`Communicator::pread`].
    pub(super) fn pread(&mut self, fd: FdId, at: u64, buf: &mut [u8]) -> Result<usize, Error> {
        self.offers(PReadReq::MID)?;
        on_line!(self, |on, reply| on.pread(fd, at, buf, reply))
    }

    /// [`Communicator::pwrite`].
    pub(super) fn pwrite(&mut self, fd: FdId, at: u64, data: &[u8]) -> Result<usize, Error> {
        self.offers(PWriteReq::MID)?;
        on_line!(self, |on, reply| on.pwrite(fd, at, data, reply))
    }

    /// The limit of a payload in bytes.
    pub(super) fn max_message_size(&self) -> u32 {
        match &self.line {
            Held::Channel(Some(line)) => line.on.max_message_size(),
            Held::Channel(None) => 0,
            Held::Socket(line) => line.on.max_message_size(),
        }
    }

    /// The descriptor that came with the last reply.
    pub(super) fn take_fd(&mut self) -> Option<std::os::fd::OwnedFd> {
        match &mut self.line {
            Held::Channel(line) => line.as_mut()?.reply.take_fd(),
            Held::Socket(line) => line.reply.take_fd(),
        }
    }

    fn offers(&self, mid: Mid) -> Result<(), Error> {
        if self.pool.supported.contains(mid) {
            Ok(())
        } else {
            Err(Error::Local(Errno::EOPNOTSUPP))
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Held::Channel(line) = &mut self.line
            && let Some(line) = line.take()
        {
            self.pool.channels.put_back(line);
        }
    }
}
