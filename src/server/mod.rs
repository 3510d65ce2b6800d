//! The server runtime: connections, ids, the tree of nodes and its locks, over a back end.
//!
//! A [`Server`] is one tree of nodes and its locks. Each [connection](Server::start_connection) has
//! a back end of its own, ids of its own, one thread for its socket and one for each channel. One
//! thread more watches for clients that hang up while their requests hang (`hangups.rs`).
//!
//! # The way of a request
//!
//! 1. `flipcall` hands a worker thread the window (`channel.rs`), or the socket thread has read a
//!    frame (`connection.rs`).
//! 2. The header is copied once; `dispatch.rs` looks the message up and applies the checks that all
//!    messages share.
//! 3. The body, copied once into private memory, is decoded there.
//! 4. The handler in `handle/` looks ids up in the table (`fds.rs`).
//! 5. It takes the locks that the message needs (`guarantee/locks.rs`), which yields a proof.
//! 6. It calls the back end with that proof; the reply is written in place. Descriptors are queued,
//!    new ids published, and control goes back.
#![forbid(unsafe_code)]

mod accepting;
mod backend;
mod call;
mod channel;
mod channels;
mod connection;
mod direct;
mod dispatch;
mod fd;
mod fd_locks;
mod fds;
pub(crate) mod guarantee;
mod handle;
mod hangups;
mod opts;
mod place;
mod quota;
mod refusal;
mod rename_lock;
mod slack;
mod totals;
mod tree;
mod unwind;
mod waits;
mod watched;

use core::fmt;
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use flipcall::{FrameSocket, Spinners, WaitStats};
use parking_lot::{Condvar, Mutex};

pub use backend::{
    BoundSocketFdImpl, ControlFdImpl, Creation, DirentRequest, Donation, Mounted, NoSockets,
    NodeKind, OpenFdImpl, OpenFlags, RenameFlags, RenameOutcome, ServerImpl, ServerOpts,
};
pub use call::{Answer, Call};
pub use direct::{Direct, DirectWorker};
pub use dispatch::{RpcHandler, RpcHandlers};
pub use fd_locks::{FdExclusive, FdLocks, FdShared, Guarded, Unguarded};
pub use guarantee::{Below, Exclusive, Global, Shared, Unheld};
pub use opts::ConnectionOpts;
pub use quota::{Quota, Share};
pub use refusal::Refusal;
pub use totals::Totals;

use crate::Errno;
use crate::observe::Observer;
use connection::Connection;
use hangups::Waker;
use place::Places;
use totals::Pools;
use waits::Waits;

/// A tree of nodes, and the connections to it.
///
/// Cheap to clone; all clones are the same server.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
///
/// use lisafs::client::Client;
/// use lisafs::host::{HostFs, HostOptions};
/// use lisafs::server::{ConnectionOpts, Server};
///
/// # let served = lisafs_served::directory()?;
/// # let directory = served.path();
/// let server = Server::new(1);
/// let (ours, theirs) = UnixStream::pair()?;
/// let host = HostFs::open(directory, HostOptions::default())?;
/// server.start_connection(theirs, host, ConnectionOpts::default())?;
/// let client = Client::from_stream(ours)?;
/// assert!(client.exists("/")?);
///
/// assert!(server.shutdown(Duration::from_secs(5)));
/// assert!(client.ping().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server<S: ServerImpl> {
    inner: Arc<Inner<S>>,
}

struct Inner<S: ServerImpl> {
    shared: Arc<connection::Shared<S>>,
    connections: Mutex<Connections<S>>,
    /// Signalled when a connection ends, and when nobody watches any more.
    ended: Condvar,
}

struct Connections<S: ServerImpl> {
    next: u64,
    places: Places,
    pools: Pools,
    running: HashMap<u64, Entry<S>>,
    /// Those whose client has hung up and whose threads are in the host.
    stuck: HashMap<u64, Weak<Connection<S>>>,
    /// Of the thread that watches, which there is as long as there is something to watch.
    waker: Option<Waker>,
    /// No more connections are accepted.
    closed: bool,
}

/// A connection that has not ended.
struct Entry<S: ServerImpl> {
    /// Held by its threads.
    connection: Weak<Connection<S>>,
    /// If somebody is at the other end.
    socket: Option<Arc<FrameSocket>>,
    hung_up: Option<Instant>,
}

impl<S: ServerImpl> Connections<S> {
    /// # Errors
    /// ECONNRESET after the end.
    fn may_enter(&self) -> Result<(), Errno> {
        if self.closed {
            return Err(Errno::ECONNRESET);
        }
        Ok(())
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    fn connected(&self) -> impl Iterator<Item = Arc<Connection<S>>> {
        let entries = self.running.values();
        entries.filter_map(|entry| entry.connection.upgrade())
    }

    /// Whether there are connections, or somebody who has not seen yet that there are none.
    fn is_busy(&self) -> bool {
        !self.running.is_empty() || self.waker.is_some()
    }
}

/// How much a server holds at a moment.
///
/// ```
/// use lisafs::host::HostFs;
/// use lisafs::server::Server;
///
/// let server = Server::<HostFs>::new(1);
/// let census = server.census();
/// assert_eq!((census.connections, census.ids, census.descriptors), (0, 0, 0));
/// // The root is always there.
/// assert_eq!(server.count_nodes(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Connections that have not ended. What they hold is counted below, and what is held by threads
    /// that clients have left in the host when they hung up.
    pub connections: usize,
    /// Channels being served.
    pub channels: usize,
    /// Ids in use.
    pub ids: usize,
    /// Objects: what ids stand for, and what lives on without one.
    pub objects: usize,
    /// Descriptors that back ends have open for clients; for a back end that does
    /// [not count](ServerImpl::count_descriptors) them, the objects.
    pub descriptors: usize,
}

impl<S: ServerImpl> Server<S> {
    /// A server without connections, which will accept up to `max_connections` at a time.
    #[must_use]
    pub fn new(max_connections: usize) -> Server<S> {
        Server::with_handlers(max_connections, dispatch::default_handlers())
    }

    /// As [`new`](Self::new), with somebody who sees each request.
    #[must_use]
    pub fn observed(max_connections: usize, observer: Arc<dyn Observer>) -> Server<S> {
        Server::with_spinners(max_connections, Spinners::new(), Some(observer))
    }

    /// As [`new`](Self::new), perhaps with somebody who sees each request, and with the right to spin of
    /// the caller's: for a process that has locked itself in, and has looked before
    /// [how many CPUs](Spinners::new) there are.
    #[must_use]
    pub fn with_spinners(
        max_connections: usize,
        spinners: Spinners,
        observer: Option<Arc<dyn Observer>>,
    ) -> Server<S> {
        let handlers = dispatch::default_handlers();
        Server::build(max_connections, handlers, spinners, observer)
    }

    /// The handlers that [`new`](Self::new) uses.
    #[must_use]
    pub fn default_handlers() -> RpcHandlers<S> {
        dispatch::default_handlers()
    }

    /// As [`new`](Self::new), with handlers of the caller's, who is a test.
    #[must_use]
    pub fn with_handlers(max_connections: usize, handlers: RpcHandlers<S>) -> Server<S> {
        Server::build(max_connections, handlers, Spinners::new(), None)
    }

    fn build(
        max_connections: usize,
        handlers: RpcHandlers<S>,
        spinners: Spinners,
        observer: Option<Arc<dyn Observer>>,
    ) -> Server<S> {
        let shared = connection::Shared {
            tree: tree::Tree::new(),
            handlers,
            spinners,
            observer,
            waits: Waits::default(),
        };
        let connections = Connections {
            next: 1,
            places: Places::new(max_connections),
            pools: Pools::new(Totals::default()),
            running: HashMap::new(),
            stuck: HashMap::new(),
            waker: None,
            closed: false,
        };
        Server {
            inner: Arc::new(Inner {
                shared: Arc::new(shared),
                connections: Mutex::new(connections),
                ended: Condvar::new(),
            }),
        }
    }

    /// With limits on what all connections hold together. For those that are made from now on.
    #[must_use]
    pub fn with_totals(self, totals: Totals) -> Server<S> {
        self.inner.connections.lock().pools = Pools::new(totals);
        self
    }

    /// Serves the client at the other end of `stream`, on threads of its own, until it hangs up.
    ///
    /// A client that hangs up while the host does not answer leaves threads behind. It takes no
    /// place then, until as many connections as there may be have left some, or what was set aside
    /// for those is a quarter of all descriptors that there may be. One can always.
    ///
    /// # Errors
    /// EMFILE when there are as many connections as there may be, or the [totals](Totals) permit no
    /// more, and which of them it is; EINVAL for options that make no sense; ECONNRESET after
    /// [`shutdown`](Self::shutdown); EAGAIN when there can be no thread.
    ///
    /// `stream` is closed then, by this thread: descriptors that the client has sent, unless they were
    /// [refused](flipcall::refuse_descriptors()), can have it hang for as long as the client likes. Who
    /// cannot afford that keeps a duplicate, and closes it elsewhere.
    pub fn start_connection(
        &self,
        stream: UnixStream,
        backend: S,
        opts: ConnectionOpts,
    ) -> Result<(), Refusal> {
        let connection = self.admit(stream, backend, opts)?;
        let id = connection.id();
        let inner = Arc::clone(&self.inner);
        let entry = Entry {
            connection: Arc::downgrade(&connection),
            socket: Some(connection.socket()),
            hung_up: None,
        };
        // Behind what has the socket: if there is no connection, that is dropped without the lock.
        let mut connections = self.inner.connections.lock();
        connections.may_enter()?;
        if connections.waker.is_none() {
            connections.waker = Some(hangups::start(&self.inner)?);
        }
        thread::Builder::new()
            .name(format!("connection {id}"))
            .stack_size(connection::STACK_SIZE)
            .spawn(move || {
                // Made here and not outside, where it would have to go if there is no thread: its
                // drop takes the lock that is held there. Dropped in the opposite order.
                let _ended = ConnectionEnd { inner, id };
                let connection = connection;
                connection.serve();
            })
            .map_err(Errno::from)?;
        connections.running.insert(id, entry);
        connections.wake();
        Ok(())
    }

    /// Connects this process, without a transport and without threads.
    ///
    /// # Errors
    /// As for [`start_connection`](Self::start_connection); what socketpair(2) says.
    pub fn connect_directly(&self, backend: S, opts: ConnectionOpts) -> Result<Direct<S>, Refusal> {
        // Nobody is at the other end, and nothing is sent.
        let (stream, _) = UnixStream::pair().map_err(Errno::from)?;
        let connection = self.admit(stream, backend, opts)?;
        let id = connection.id();
        let entry = Entry {
            connection: Arc::downgrade(&connection),
            socket: None,
            hung_up: None,
        };
        let mut connections = self.inner.connections.lock();
        connections.may_enter()?;
        connections.running.insert(id, entry);
        drop(connections);
        let inner = Arc::clone(&self.inner);
        Ok(Direct::new(connection, ConnectionEnd { inner, id }))
    }

    /// Makes the next connection, if there may be one more.
    fn admit(
        &self,
        stream: UnixStream,
        backend: S,
        opts: ConnectionOpts,
    ) -> Result<Arc<Connection<S>>, Refusal> {
        let mut connections = self.inner.connections.lock();
        connections.may_enter()?;
        let places = &connections.places;
        let place = places.take().map_err(|_| Refusal::Connections)?;
        let allowance = connections.pools.allow(&opts)?;
        let id = connections.next;
        connections.next += 1;
        drop(connections);
        let shared = Arc::clone(&self.inner.shared);
        let connection = Connection::new(id, shared, stream, backend, opts, place, allowance)?;
        Ok(Arc::new(connection))
    }

    /// Waits until there is no connection. One whose client has hung up while the host does not answer
    /// is none, half a second later.
    pub fn wait(&self) {
        let mut connections = self.inner.connections.lock();
        let busy = |connections: &mut Connections<S>| connections.is_busy();
        self.inner.ended.wait_while(&mut connections, busy);
    }

    /// Ends all connections and accepts no more. A request that is running is answered, if that
    /// takes no longer than `deadline`, and on a channel no longer than two seconds; also one on the
    /// socket of a client that has hung up is waited for. Returns whether all connections have
    /// ended; those that have not go on ending, unless somebody [`abort`](Self::abort)s them.
    #[must_use]
    pub fn shutdown(&self, deadline: Duration) -> bool {
        self.close().iter().for_each(|connection| connection.stop());
        let mut connections = self.inner.connections.lock();
        let busy = |connections: &mut Connections<S>| {
            connections.is_busy() || !connections.stuck.is_empty()
        };
        let ended = &self.inner.ended;
        ended.wait_while_for(&mut connections, busy, deadline);
        connections.running.is_empty() && connections.stuck.is_empty()
    }

    /// Cuts all connections off, whatever they are at, and accepts no more. What is left of them is
    /// what hangs in the host. For clients that do not even take their last answer.
    pub fn abort(&self) {
        self.close().iter().for_each(|connection| connection.cut());
    }

    /// Accepts no more connections, and returns those that there are.
    fn close(&self) -> Vec<Arc<Connection<S>>> {
        let mut connections = self.inner.connections.lock();
        connections.closed = true;
        connections.connected().collect()
    }

    /// Counts the nodes of the tree, the root included. Walks the tree, so it is not for a busy loop.
    #[must_use]
    pub fn count_nodes(&self) -> usize {
        self.inner.shared.tree.count()
    }

    /// How the waits for requests went, on all channels that there are and have been.
    #[must_use]
    pub fn wait_stats(&self) -> WaitStats {
        self.inner.shared.waits.sum()
    }

    /// Counts what the server holds.
    #[must_use]
    pub fn census(&self) -> Census {
        let connections = self.inner.connections.lock();
        let mut census = Census {
            connections: connections.running.len(),
            channels: 0,
            ids: 0,
            objects: 0,
            descriptors: 0,
        };
        let stuck = connections.stuck.values().filter_map(Weak::upgrade);
        let all: Vec<_> = connections.connected().chain(stuck).collect();
        // What ends with the last of a connection is the back end's, which may ask the server.
        drop(connections);
        for connection in all {
            census.channels += connection.channels().len();
            census.ids += connection.fds().len();
            census.objects += connection.fds().object_count();
            census.descriptors += connection.descriptor_count();
        }
        census
    }
}

impl<S: ServerImpl> Clone for Server<S> {
    fn clone(&self) -> Server<S> {
        Server {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S: ServerImpl> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("census", &self.census())
            .finish()
    }
}

/// Tells the server that a connection has ended, however it did.
struct ConnectionEnd<S: ServerImpl> {
    inner: Arc<Inner<S>>,
    id: u64,
}

impl<S: ServerImpl> Drop for ConnectionEnd<S> {
    fn drop(&mut self) {
        let mut connections = self.inner.connections.lock();
        let ended = connections.running.remove(&self.id);
        connections.stuck.remove(&self.id);
        connections.wake();
        drop(connections);
        self.inner.ended.notify_all();
        // Without the lock, as it may be the last that has the socket.
        drop(ended);
    }
}
