//! The communicators as one type.

use core::fmt;

use flipcall::SharedBytes;
use lisafs::client::{Bounds, Channel, Communicator, Error, Reply, Socket};
use lisafs::wire::{Encode, FdId, Mid};

/// The kind of communicator that a case runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// The main connection.
    Socket,
    /// Shared memory.
    Channel,
}

impl Via {
    /// Both.
    pub const ALL: &[Via] = &[Via::Socket, Via::Channel];
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Via::Socket => "socket",
            Via::Channel => "channel",
        })
    }
}

/// A communicator of either kind.
#[derive(Debug)]
pub(crate) enum Line {
    Socket(Socket),
    Channel(Box<Channel>),
}

impl Communicator for Line {
    fn max_message_size(&self) -> u32 {
        match self {
            Line::Socket(socket) => socket.max_message_size(),
            Line::Channel(channel) => channel.max_message_size(),
        }
    }

    fn exchange<E: Encode>(
        &mut self,
        mid: Mid,
        request: &E,
        bounds: Bounds,
        reply: &mut Reply,
    ) -> Result<Mid, Error> {
        match self {
            Line::Socket(socket) => socket.exchange(mid, request, bounds, reply),
            Line::Channel(channel) => channel.exchange(mid, request, bounds, reply),
        }
    }

    fn pread_with<T>(
        &mut self,
        fd: FdId,
        offset: u64,
        len: usize,
        reply: &mut Reply,
        look: impl FnOnce(SharedBytes<'_>) -> T,
    ) -> Result<T, Error> {
        match self {
            Line::Socket(socket) => socket.pread_with(fd, offset, len, reply, look),
            Line::Channel(channel) => channel.pread_with(fd, offset, len, reply, look),
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
        match self {
            Line::Socket(socket) => socket.pwrite_with(fd, offset, len, reply, fill),
            Line::Channel(channel) => channel.pwrite_with(fd, offset, len, reply, fill),
        }
    }
}
