//! The communicators of a connection, and who uses which.

use std::sync::Arc;

use flipcall::{Closer, FrameSocket, SharedBytes, Spinners, WaitPolicy, WaitStats};
use parking_lot::{Mutex, MutexGuard};
use tracing::debug;

use super::{Channel, Communicator, Error, Reply, Socket, SupportedMids};
use crate::Errno;
use crate::observe::Observer;
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

/// A channel of the pool.
#[derive(Debug)]
struct Member {
    /// Boxed, because it changes hands with each request.
    line: Box<Line<Channel>>,
    /// Where its closer is.
    slot: usize,
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
    observer: Option<Arc<dyn Observer>>,
}

/// The channels, shared with the watchdog.
#[derive(Debug)]
pub(super) struct Channels {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: Vec<Member>,
    /// Of every channel that has not failed, whoever has it.
    closers: Vec<Option<Closer>>,
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
        observer: Option<Arc<dyn Observer>>,
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
            observer,
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
        let closers = state.closers.iter().flatten();
        closers.map(Closer::wait_stats).collect()
    }

    /// Takes a communicator until the lease is dropped.
    pub(super) fn lease(&self) -> Lease<'_> {
        let member = match self.channels.take() {
            Taken::Free(member) => Some(member),
            Taken::MayOpen => self.open(),
            Taken::None => None,
        };
        let line = match member {
            Some(member) => Held::Channel(Some(member)),
            None => Held::Socket(self.socket.lock()),
        };
        Lease { pool: self, line }
    }

    /// Opens a channel. If that fails, the ones that exist have to do.
    fn open(&self) -> Option<Member> {
        match self.try_open() {
            Ok(member) => Some(member),
            Err(why) => {
                debug!(%why, "no more channels");
                self.channels.state.lock().wanted = 0;
                None
            }
        }
    }

    fn try_open(&self) -> Result<Member, Error> {
        let pending = self
            .socket
            .lock()
            .on
            .request_channel(self.wait, &self.spinners)?;
        // Before the handshake: a server that leaves during it must not leave us waiting.
        let slot = self.channels.register(pending.closer())?;
        match pending.connect() {
            Ok(mut channel) => {
                if let Some(observer) = &self.observer {
                    channel.observe(&**observer, slot as u64);
                }
                Ok(Member {
                    line: Box::new(Line::new(channel)),
                    slot,
                })
            }
            Err(why) => {
                self.channels.forget(slot);
                Err(why)
            }
        }
    }
}

enum Taken {
    Free(Member),
    MayOpen,
    None,
}

impl Channels {
    fn take(&self) -> Taken {
        let mut state = self.state.lock();
        if state.over {
            return Taken::None;
        }
        if let Some(member) = state.free.pop() {
            return Taken::Free(member);
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
    fn put_back(&self, member: Member) {
        if member.line.on.is_broken() {
            self.forget(member.slot);
            return;
        }
        let mut state = self.state.lock();
        if !state.over {
            state.free.push(member);
        }
    }

    /// Makes the end of the connection the end of a channel, too.
    fn register(&self, closer: Closer) -> Result<usize, Error> {
        let mut state = self.state.lock();
        if state.over {
            return Err(Error::disconnected());
        }
        state.closers.push(Some(closer));
        Ok(state.closers.len() - 1)
    }

    /// Lets go of a channel that has ended, and with it of its window.
    fn forget(&self, slot: usize) {
        if let Some(closer) = self.state.lock().closers.get_mut(slot) {
            *closer = None;
        }
    }

    /// Ends the channels. Returns what it takes to wake those that use them.
    pub(super) fn end(&self) -> Vec<Closer> {
        let mut state = self.state.lock();
        state.over = true;
        let idle = std::mem::take(&mut state.free);
        let closers = std::mem::take(&mut state.closers);
        drop(state);
        drop(idle);
        closers.into_iter().flatten().collect()
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
    Channel(Option<Member>),
    Socket(MutexGuard<'p, Line<Socket>>),
}

/// Calls a method of whichever communicator is held, with its reply buffer.
macro_rules! on_line {
    ($lease:ident, |$on:ident, $reply:ident| $call:expr) => {
        match &mut $lease.line {
            Held::Channel(Some(Member { line, .. })) => {
                let Line {
                    on: $on,
                    reply: $reply,
                } = &mut **line;
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

    /// [`Communicator::pread_with`].
    pub(super) fn pread_with<T>(
        &mut self,
        fd: FdId,
        at: u64,
        len: usize,
        look: impl FnOnce(SharedBytes<'_>) -> T,
    ) -> Result<T, Error> {
        self.offers(PReadReq::MID)?;
        on_line!(self, |on, reply| on.pread_with(fd, at, len, reply, look))
    }

    /// [`Communicator::pwrite_with`].
    pub(super) fn pwrite_with(
        &mut self,
        fd: FdId,
        at: u64,
        len: usize,
        fill: impl FnOnce(SharedBytes<'_>) -> usize,
    ) -> Result<usize, Error> {
        self.offers(PWriteReq::MID)?;
        on_line!(self, |on, reply| on.pwrite_with(fd, at, len, reply, fill))
    }

    /// The limit of a payload in bytes.
    pub(super) fn max_message_size(&self) -> u32 {
        match &self.line {
            Held::Channel(Some(member)) => member.line.on.max_message_size(),
            Held::Channel(None) => 0,
            Held::Socket(line) => line.on.max_message_size(),
        }
    }

    /// The descriptor that came with the last reply.
    pub(super) fn take_fd(&mut self) -> Option<std::os::fd::OwnedFd> {
        match &mut self.line {
            Held::Channel(member) => member.as_mut()?.line.reply.take_fd(),
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
        if let Held::Channel(member) = &mut self.line
            && let Some(member) = member.take()
        {
            self.pool.channels.put_back(member);
        }
    }
}
