//! A request while it is being served, and its answer before it is sent.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use flipcall::SharedBytes;

use super::backend::{BoundSocketFdImpl, Donation, OpenFdImpl, ServerImpl};
use super::connection::Connection;
use super::fd::{BoundSocketFd, ControlFd, OpenFd};
use super::fd_locks::{FdExclusive, FdShared, TakeFdLocks};
use super::fds::Pending;
use super::guarantee::{Exclusive, Shared};
use super::tree::Node;
use crate::Errno;
use crate::wire::{Encode, FdId, Inode, Overflow, Request, Statx, StringArrayBuf, Writer};

/// A reply being written where it will be sent from: a packet window, or the socket thread's
/// private memory. It can be written to and not read from.
#[derive(Debug)]
pub(super) struct Payload<'w> {
    bytes: SharedBytes<'w>,
    len: usize,
}

impl<'w> Payload<'w> {
    /// An empty reply in `bytes`, whose length is the limit.
    pub(super) fn new(bytes: SharedBytes<'w>) -> Payload<'w> {
        Payload { bytes, len: 0 }
    }

    /// The length of the reply so far.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Starts over.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// `count` bytes behind what is written, for the back end to put data into.
    pub(super) fn region(&self, count: usize) -> Option<SharedBytes<'w>> {
        self.bytes.slice(self.len, count)
    }

    /// Counts `count` bytes of a [`region`](Self::region) as written.
    pub(super) fn advance(&mut self, count: usize) {
        self.len = self.len.saturating_add(count).min(self.bytes.len());
    }
}

impl Writer for Payload<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
        self.bytes
            .copy_from(self.len, bytes)
            .map_err(|_| Overflow)?;
        self.len += bytes.len();
        Ok(())
    }
}

/// Memory of a serving thread that requests use one after the other.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) inodes: Vec<Inode>,
    pub(super) stats: Vec<Statx>,
    pub(super) bytes: Vec<u8>,
    pub(super) names: StringArrayBuf,
    pub(super) ids: HashSet<FdId>,
}

impl Scratch {
    /// What of each kind is kept from request to request, in bytes: enough for what clients ask as
    /// a rule, such as 64 KiB of directory.
    const KEPT: usize = 128 << 10;

    /// Gives back what only a rare long request needed, so that a client cannot have every thread
    /// hold some messages of the greatest length.
    pub(super) fn trim(&mut self) {
        fn trim<T>(items: &mut Vec<T>) {
            if items.capacity().saturating_mul(size_of::<T>()) > Scratch::KEPT {
                items.clear();
                items.shrink_to(Scratch::KEPT / size_of::<T>());
            }
        }
        // The host bounds lists of names to half of this.
        trim(&mut self.inodes);
        trim(&mut self.stats);
        trim(&mut self.bytes);
        let most = Scratch::KEPT / size_of::<FdId>();
        if self.ids.capacity() > most {
            self.ids.clear();
            self.ids.shrink_to(most / 2);
        }
    }
}

/// A request being served.
///
/// A handler of one's own that says no to everything but the root:
/// ```
/// use lisafs::Errno;
/// use lisafs::server::{Answer, Call, RpcHandler, Server, ServerImpl};
/// use lisafs::wire::{Decode, FdId, Mid, StatReq};
///
/// fn stat<'c, S: ServerImpl>(call: &mut Call<'c, S>, body: &[u8]) -> Result<Answer<'c, S>, Errno> {
///     match StatReq::from_bytes(body) {
///         Ok(StatReq { fd: FdId(1) }) => {}
///         _ => return Err(Errno::EACCES),
///     }
///     let handlers = Server::<S>::default_handlers();
///     let serve = handlers[usize::from(Mid::FSTAT.0)].ok_or(Errno::EOPNOTSUPP)?;
///     serve(call, body)
/// }
///
/// fn handler<S: ServerImpl>() -> RpcHandler<S> {
///     stat
/// }
/// ```
#[derive(Debug)]
pub struct Call<'c, S: ServerImpl> {
    /// Who asks.
    pub(super) connection: &'c Arc<Connection<S>>,
    /// What follows the part of the request that was copied: the data of a PWrite. The client may
    /// be changing it.
    pub(super) data: SharedBytes<'c>,
    /// How many bytes followed the decoded request.
    pub(super) trailing: usize,
    pub(super) reply: Payload<'c>,
    pub(super) scratch: &'c mut Scratch,
}

impl<'c, S: ServerImpl> Call<'c, S> {
    pub(super) fn control(&self, id: FdId) -> Result<Arc<ControlFd<S>>, Errno> {
        self.connection.fds().control(id)
    }

    pub(super) fn open(&self, id: FdId) -> Result<Arc<OpenFd<S>>, Errno> {
        self.connection.fds().open(id)
    }

    pub(super) fn bound(&self, id: FdId) -> Result<Arc<BoundSocketFd<S>>, Errno> {
        self.connection.fds().bound(id)
    }

    /// Runs `operation` with the read guarantee on `node`.
    pub(super) fn shared<R>(
        &self,
        node: &Node<S>,
        operation: impl FnOnce(Shared<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let mut stable = self.connection.locks().stable();
        stable.read(self.connection.backend(), node, operation)
    }

    /// Runs `operation` with the write guarantee on `node`.
    pub(super) fn exclusive<R>(
        &self,
        node: &Node<S>,
        operation: impl FnOnce(Exclusive<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let mut stable = self.connection.locks().stable();
        stable.write(self.connection.backend(), node, operation)
    }

    /// Runs `operation` with what looking at a descriptor of `node` comes with.
    pub(super) fn fd_shared<R>(
        &self,
        node: &Node<S>,
        operation: impl FnOnce(FdShared<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let (server, locks) = (self.connection.backend(), self.connection.locks());
        S::FdLocks::shared(locks, server, node, operation)
    }

    /// Runs `operation` with what changing the file behind a descriptor of `node` comes with.
    pub(super) fn fd_exclusive<R>(
        &self,
        node: &Node<S>,
        operation: impl FnOnce(FdExclusive<'_, S>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let (server, locks) = (self.connection.backend(), self.connection.locks());
        S::FdLocks::exclusive(locks, server, node, operation)
    }

    /// Writes the reply to a request of type `R`.
    ///
    /// # Errors
    /// EIO if it is longer than a message may be.
    pub(super) fn reply<R: Request>(
        &mut self,
        reply: &R::Reply<'_>,
    ) -> Result<Answer<'c, S>, Errno> {
        reply
            .encode(&mut self.reply)
            .map_err(|Overflow| Errno::EIO)?;
        Ok(self.written())
    }

    /// The answer that the handler has written into `reply` itself.
    pub(super) fn written(&self) -> Answer<'c, S> {
        Answer {
            pending: None,
            gift: Gift::None,
            undo: None,
        }
    }
}

/// What goes to the client besides the bytes of the reply: ids to be published and descriptors to
/// be donated. Nothing of it has happened yet.
///
/// A handler that lets the runtime answer and counts what it did:
/// ```
/// use std::os::unix::net::UnixStream;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// use lisafs::Errno;
/// use lisafs::client::Client;
/// use lisafs::host::{HostFs, HostOptions};
/// use lisafs::server::{Answer, Call, ConnectionOpts, Server};
/// use lisafs::wire::Mid;
///
/// static MADE: AtomicU64 = AtomicU64::new(0);
///
/// fn mkdir<'c>(call: &mut Call<'c, HostFs>, body: &[u8]) -> Result<Answer<'c, HostFs>, Errno> {
///     let handlers = Server::default_handlers();
///     let serve = handlers[usize::from(Mid::MKDIR_AT.0)].ok_or(Errno::EOPNOTSUPP)?;
///     let answer: Answer<'c, HostFs> = serve(call, body)?;
///     MADE.fetch_add(1, Relaxed);
///     Ok(answer)
/// }
///
/// # let served = lisafs_served::directory()?;
/// # let directory = served.path();
/// let mut handlers = Server::<HostFs>::default_handlers();
/// handlers[usize::from(Mid::MKDIR_AT.0)] = Some(mkdir);
/// let server = Server::with_handlers(1, handlers);
/// let (ours, theirs) = UnixStream::pair()?;
/// let host = HostFs::open(directory, HostOptions::default())?;
/// server.start_connection(theirs, host, ConnectionOpts::default())?;
/// let client = Client::from_stream(ours)?;
/// client.create_dir("a")?;
/// assert!(client.create_dir("a").is_err());
/// assert_eq!(MADE.load(Relaxed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Answer<'c, S: ServerImpl> {
    pending: Option<Pending<'c, S>>,
    gift: Gift<S>,
    undo: Option<Box<dyn FnOnce() + 'c>>,
}

impl<S: ServerImpl> core::fmt::Debug for Answer<'_, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

/// Descriptors that go to the client. What is lent stays with its object, which is kept alive.
pub(super) enum Gift<S: ServerImpl> {
    None,
    /// The descriptor that an open file lends, if it does.
    Open(Arc<OpenFd<S>>),
    /// The socket of a bound socket; the reply is pointless without.
    Bound(Arc<BoundSocketFd<S>>),
    /// A descriptor that the client can do without.
    Optional(OwnedFd),
    /// Descriptors without which the reply is pointless, in this order.
    Required(Vec<OwnedFd>),
}

impl<'c, S: ServerImpl> Answer<'c, S> {
    /// Adds ids to be published.
    pub(super) fn publishing(mut self, pending: Pending<'c, S>) -> Self {
        self.pending = Some(pending);
        self
    }

    /// Adds descriptors to be donated.
    pub(super) fn donating(mut self, gift: Gift<S>) -> Self {
        self.gift = gift;
        self
    }

    /// Says what to take back if a required descriptor cannot be donated.
    pub(super) fn or_undo(mut self, undo: impl FnOnce() + 'c) -> Self {
        self.undo = Some(Box::new(undo));
        self
    }

    /// Hands the descriptors to `queue` one by one and returns how many there are. Called before
    /// [`publish`](Self::publish) by a channel, whose descriptors travel ahead of the reply.
    ///
    /// # Errors
    /// What `queue` said of a required descriptor, and how many had been queued: the request has
    /// failed, but they are on their way.
    pub(super) fn queue(
        &self,
        mut queue: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<u8, (Errno, u8)> {
        let required = self.requires_descriptors();
        self.with_descriptors(|fds| {
            for (queued, fd) in (0..).zip(fds) {
                match queue(*fd) {
                    Ok(()) => {}
                    Err(errno) if required => return Err((errno, queued)),
                    // The order of descriptors has a meaning, so none follows one that is missing.
                    Err(_) => return Ok(queued),
                }
            }
            Ok(u8::try_from(fds.len()).unwrap_or(u8::MAX))
        })
    }

    /// Runs `send` with the descriptors, for a socket, whose descriptors travel with the reply.
    pub(super) fn with_descriptors<R>(&self, send: impl FnOnce(&[BorrowedFd<'_>]) -> R) -> R {
        match &self.gift {
            Gift::None => send(&[]),
            Gift::Open(fd) => match fd.file().donation() {
                Donation::None => send(&[]),
                Donation::Optional(fd) | Donation::Required(fd) => send(&[fd]),
            },
            Gift::Bound(fd) => send(&[fd.socket().socket()]),
            Gift::Optional(fd) => send(&[fd.as_fd()]),
            Gift::Required(fds) => {
                let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                send(&fds)
            }
        }
    }

    /// Whether the reply is pointless without its descriptors.
    pub(super) fn requires_descriptors(&self) -> bool {
        match &self.gift {
            Gift::None | Gift::Optional(_) => false,
            Gift::Bound(_) | Gift::Required(_) => true,
            Gift::Open(fd) => matches!(fd.file().donation(), Donation::Required(_)),
        }
    }

    /// Makes the new ids known.
    pub(super) fn publish(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.publish();
        }
    }

    /// Takes everything back: the client is told that the request has failed.
    pub(super) fn undo(mut self) {
        if let Some(pending) = &mut self.pending {
            pending.withdraw();
        }
        if let Some(undo) = self.undo.take() {
            undo();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_memory_is_kept_up_to_a_limit() {
        let mut scratch = Scratch::default();
        scratch.bytes.reserve_exact(Scratch::KEPT);
        scratch.stats.reserve_exact(14_000);
        let kept = scratch.bytes.as_ptr();
        scratch.trim();
        assert_eq!(scratch.bytes.as_ptr(), kept);
        let stats = scratch.stats.capacity() * size_of::<Statx>();
        assert!((1..=Scratch::KEPT).contains(&stats), "{stats} bytes");
    }
}
