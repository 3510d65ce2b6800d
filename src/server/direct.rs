//! Connections without a transport: a request is a function call.

use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use flipcall::SharedBytes;

use super::ConnectionEnd;
use super::backend::ServerImpl;
use super::call::{Payload, Scratch};
use super::connection::Connection;
use super::dispatch::{Incoming, dispatch, parsed_len, refuse};
use super::watched::Watched;
use crate::Errno;
use crate::observe::Via;
use crate::wire::Mid;

/// A connection from within this process, for whoever wants to know what the server does with a
/// request and what that costs, and nothing else: tests, fuzzers, benchmarks.
///
/// A request passes all checks that one from another process passes. The descriptors that go along with
/// a reply are for who [asks for them](DirectWorker::serve_with_fds).
///
/// ```
/// use lisafs::host::{HostFs, HostOptions};
/// use lisafs::server::{ConnectionOpts, Server};
/// use lisafs::wire::Mid;
///
/// # let served = lisafs_served::directory()?;
/// # let directory = served.path();
/// let host = HostFs::open(directory, HostOptions::default())?;
/// let connection = Server::new(1).connect_directly(host, ConnectionOpts::default())?;
/// let mut worker = connection.worker()?;
/// let mut reply = [0; 512];
/// let (mid, len) = worker.serve(Mid::MOUNT, &mut [], &mut reply);
/// assert_eq!(mid, Mid::MOUNT);
/// assert!(len > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Direct<S: ServerImpl> {
    connection: Arc<Connection<S>>,
    // Dropped last: the server hears of the end when all is over.
    _end: ConnectionEnd<S>,
}

impl<S: ServerImpl> core::fmt::Debug for Direct<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.connection.fmt(f)
    }
}

impl<S: ServerImpl> Direct<S> {
    pub(super) fn new(connection: Arc<Connection<S>>, end: ConnectionEnd<S>) -> Direct<S> {
        Direct {
            connection,
            _end: end,
        }
    }

    /// Makes this thread one that serves. There can be any number of them.
    ///
    /// # Errors
    /// What the [set-up](ServerImpl::thread_started) of the back end says, which stays in effect
    /// for this thread: the host back end takes its working directory.
    pub fn worker(&self) -> Result<DirectWorker<'_, S>, Errno> {
        self.connection.backend().thread_started()?;
        Ok(DirectWorker {
            connection: &self.connection,
            scratch: Scratch::default(),
            watched: self.connection.watch(Via::Socket(self.connection.id())),
            thread: PhantomData,
        })
    }
}

impl<S: ServerImpl> Drop for Direct<S> {
    fn drop(&mut self) {
        self.connection.close();
    }
}

/// A thread that serves the requests of a [`Direct`] connection.
///
/// ```
/// use lisafs::host::{HostFs, HostOptions};
/// use lisafs::server::{ConnectionOpts, Server};
/// use lisafs::wire::Mid;
///
/// # let served = lisafs_served::directory()?;
/// # let directory = served.path();
/// let host = HostFs::open(directory, HostOptions::default())?;
/// let connection = Server::new(1).connect_directly(host, ConnectionOpts::default())?;
/// let mut worker = connection.worker()?;
/// // An FStat that ends before its id does: EIO.
/// let mut reply = [0; 64];
/// let answer = worker.serve(Mid::FSTAT, &mut [1, 0, 0], &mut reply);
/// assert_eq!(answer, (Mid::ERROR, 4));
/// assert_eq!(reply.first(), Some(&5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DirectWorker<'d, S: ServerImpl> {
    connection: &'d Arc<Connection<S>>,
    scratch: Scratch,
    watched: Watched,
    /// It is this thread that was set up.
    thread: PhantomData<*const ()>,
}

impl<S: ServerImpl> DirectWorker<'_, S> {
    /// Serves message `mid` with the payload `request`. Returns the number of the reply, and the
    /// length of its payload, which is at the start of `reply`. What does not fit there is EIO.
    ///
    /// The reply comes without descriptors, as to a client that cannot be sent any: a request that is
    /// pointless without one is taken back and refused, EOPNOTSUPP.
    pub fn serve(&mut self, mid: Mid, request: &mut [u8], reply: &mut [u8]) -> (Mid, usize) {
        self.answer(mid, request, reply, |_| Err(Errno::EOPNOTSUPP))
    }

    /// As [`serve`](Self::serve), with the descriptors that go along with the reply, which are added to
    /// `fds`: each a duplicate of its own, as the client at the other end of a socket would get it.
    ///
    /// A request whose descriptor cannot be duplicated is answered as when it cannot be sent: without
    /// it, or else with the errno of fcntl(2).
    ///
    /// ```
    /// use std::os::fd::OwnedFd;
    ///
    /// use lisafs::host::{HostFs, HostOptions};
    /// use lisafs::server::{ConnectionOpts, Server};
    /// use lisafs::wire::{Encode, Gid, Mid, OpenCreateAtReq, Uid};
    /// # use lisafs::wire::{CreateCommon, FdId};
    ///
    /// # let served = lisafs_served::directory()?;
    /// # let directory = served.path();
    /// let host = HostFs::open(directory, HostOptions::default())?;
    /// let connection = Server::new(1).connect_directly(host, ConnectionOpts::default())?;
    /// let mut worker = connection.worker()?;
    /// let mut reply = [0; 512];
    /// worker.serve(Mid::MOUNT, &mut [], &mut reply);
    ///
    /// let mut request = Vec::new();
    /// let (dir_fd, uid, gid) = (FdId(1), Uid::NONE, Gid::NONE);
    /// let create = CreateCommon { dir_fd, uid, gid, mode: 0o644 };
    /// OpenCreateAtReq { create, flags: 2, name: b"new" }.encode(&mut request)?;
    /// let mut fds: Vec<OwnedFd> = Vec::new();
    /// worker.serve_with_fds(Mid::OPEN_CREATE_AT, &mut request, &mut reply, &mut fds);
    /// assert_eq!(fds.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn serve_with_fds(
        &mut self,
        mid: Mid,
        request: &mut [u8],
        reply: &mut [u8],
        fds: &mut Vec<OwnedFd>,
    ) -> (Mid, usize) {
        let before = fds.len();
        let answer = self.answer(mid, request, reply, |fd| {
            fds.push(fd.try_clone_to_owned()?);
            Ok(())
        });
        if answer.0 == Mid::ERROR {
            fds.truncate(before);
        }
        answer
    }

    fn answer(
        &mut self,
        mid: Mid,
        request: &mut [u8],
        reply: &mut [u8],
        give: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> (Mid, usize) {
        self.watched.begin(mid);
        let request_len = request.len();
        let parsed = parsed_len(mid, request_len).min(request_len);
        let (body, data) = request.split_at_mut(parsed);
        let reply = SharedBytes::from(reply);
        let incoming = Incoming {
            mid,
            body,
            data: SharedBytes::from(data),
            reply,
            scratch: &mut self.scratch,
        };
        let mut outgoing = dispatch(self.connection, incoming);
        let mut num_fds = 0;
        if let Some(mut answer) = outgoing.answer.take() {
            match answer.queue(give) {
                Ok(given) => {
                    num_fds = given;
                    answer.publish();
                }
                Err((errno, _)) => {
                    answer.undo();
                    outgoing = refuse(errno, &mut Payload::new(reply));
                }
            }
        }
        let told = outgoing.told(num_fds);
        self.watched.end(mid, body, request_len, reply, told);
        (told.mid, told.len)
    }
}
