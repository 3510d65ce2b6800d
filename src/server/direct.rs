//! Connections without a transport: a request is a function call.

use std::marker::PhantomData;
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
/// A request passes all checks that one from another process passes. Descriptors lead nowhere: those
/// that a reply can do without are left out.
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
    /// A request that is pointless without a descriptor is taken back and refused: EOPNOTSUPP.
    pub fn serve(&mut self, mid: Mid, request: &mut [u8], reply: &mut [u8]) -> (Mid, usize) {
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
        match outgoing.answer.take() {
            Some(answer) if answer.requires_descriptors() => {
                answer.undo();
                outgoing = refuse(Errno::EOPNOTSUPP, &mut Payload::new(reply));
            }
            Some(mut answer) => answer.publish(),
            None => {}
        }
        let told = outgoing.told(0);
        self.watched.end(mid, body, request_len, reply, told);
        (told.mid, told.len)
    }
}
