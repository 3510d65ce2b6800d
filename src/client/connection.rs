//! A connection, as everybody who uses it shares it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use flipcall::{WaitPolicy, WaitStats};

use super::closes::Closes;
use super::control_file::ControlFile;
use super::pool::{Lease, Pool};
use super::watchdog::Watchdog;
use super::{Error, Socket, SupportedMids};
use crate::observe::Observer;
use crate::wire::{Array, CloseReq, FdId, Inode, Mid};

/// How to use a connection.
///
/// ```
/// use flipcall::WaitPolicy;
/// use lisafs::client::ClientOptions;
///
/// # let served = lisafs_served::directory()?;
/// # let socket = served.listen()?;
/// let client = ClientOptions::new()
///     .channels(1)
///     .wait(WaitPolicy::Park)
///     .donations(false)
///     .connect(socket)?;
/// client.ping()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientOptions {
    channels: usize,
    wait: WaitPolicy,
    donations: bool,
    observer: Option<Arc<dyn Observer>>,
}

impl ClientOptions {
    /// As many channels as there are CPUs, at least 2 and at most 4; callers wait as experience says
    /// that it pays ([`WaitPolicy::Adaptive`]); donated descriptors are used.
    #[must_use]
    pub fn new() -> ClientOptions {
        let cpus = thread::available_parallelism().map_or(2, usize::from);
        ClientOptions {
            channels: cpus.clamp(2, 4),
            wait: WaitPolicy::Adaptive,
            donations: true,
            observer: None,
        }
    }

    /// How many channels to have at the most. Each is opened when it is first needed; with none, or
    /// when the server refuses, requests go over the socket.
    #[must_use]
    pub fn channels(mut self, channels: usize) -> ClientOptions {
        self.channels = channels;
        self
    }

    /// How to wait for replies on channels.
    #[must_use]
    pub fn wait(mut self, wait: WaitPolicy) -> ClientOptions {
        self.wait = wait;
        self
    }

    /// Whether to read and write donated descriptors directly. Without them all I/O goes through
    /// the server.
    #[must_use]
    pub fn donations(mut self, donations: bool) -> ClientOptions {
        self.donations = donations;
        self
    }

    /// Has `observer` see each request.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> ClientOptions {
        self.observer = Some(observer);
        self
    }

    /// Connects to the server that listens at `path`, and mounts.
    ///
    /// # Errors
    /// That of connect(2), and as for [`from_stream`](Self::from_stream).
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        Ok(self.from_stream(stream)?)
    }

    /// Mounts over a connected socket.
    ///
    /// # Errors
    /// The server's errno; EIO when it is gone or its answer makes no sense; EAGAIN when there can
    /// be no more threads.
    pub fn from_stream(&self, stream: UnixStream) -> Result<Client, Error> {
        let mut socket = Socket::from(stream);
        if let Some(observer) = &self.observer {
            socket.observe(&**observer);
        }
        let mount = socket.mount()?;
        let pool = Pool::new(
            socket,
            mount.supported,
            self.channels,
            self.wait,
            self.observer.clone(),
        );
        let watchdog = Watchdog::start(pool.frames(), pool.channels())
            .map_err(|why| Error::Local(why.into()))?;
        let client = Client {
            connection: Arc::new(Connection {
                root: mount.root,
                root_fd: mount.root_fd,
                max_message_size: mount.max_message_size,
                donations: self.donations,
                closes: Closes::default(),
                pool,
                _watchdog: watchdog,
            }),
        };
        // Looks at the root as at any other file.
        ControlFile::root(&client)?;
        Ok(client)
    }
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions::new()
    }
}

/// A connection to a server: its tree, as [`std::fs`] would show it.
///
/// Cheap to clone, and fine to use from any number of threads. Paths start at the root of what the
/// connection serves, whether they begin with `/` or not; `..` stops there. Symbolic links are
/// followed by this side, as the server follows none, and so they cannot lead out of the tree
/// either.
///
/// When the server goes away every call, also one that waits, fails with EIO.
///
/// ```
/// use lisafs::client::Client;
///
/// # let served = lisafs_served::directory()?;
/// # let socket = served.listen()?;
/// let client = Client::connect(socket)?;
/// client.create_dir_all("var/log")?;
/// client.write("var/log/hello", b"hello\n")?;
/// for entry in client.read_dir("var/log")? {
///     assert_eq!(entry?.name, "hello");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
}

#[derive(Debug)]
struct Connection {
    root: Inode,
    root_fd: Option<OwnedFd>,
    max_message_size: u32,
    donations: bool,
    closes: Closes,
    pool: Pool,
    // The last field: it ends the connection.
    _watchdog: Watchdog,
}

impl Client {
    /// Connects to the server that listens at `path`, with the default options.
    ///
    /// # Errors
    /// As for [`ClientOptions::connect`].
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Client> {
        ClientOptions::new().connect(path)
    }

    /// Mounts over a connected socket, with the default options.
    ///
    /// # Errors
    /// As for [`ClientOptions::from_stream`].
    pub fn from_stream(stream: UnixStream) -> Result<Client, Error> {
        ClientOptions::new().from_stream(stream)
    }

    /// How to connect otherwise.
    #[must_use]
    pub fn options() -> ClientOptions {
        ClientOptions::new()
    }

    /// The root of the connection.
    #[must_use]
    pub fn root(&self) -> ControlFile {
        ControlFile::of_root(self)
    }

    /// The host's directory behind the root, if the server gives it away.
    #[must_use]
    pub fn root_fd(&self) -> Option<BorrowedFd<'_>> {
        self.connection.root_fd.as_ref().map(AsFd::as_fd)
    }

    /// The limit of a payload in bytes, both ways: the server's, but at most 16 MiB.
    #[must_use]
    pub fn max_message_size(&self) -> u32 {
        self.connection.max_message_size
    }

    /// Whether the server accepts `mid`.
    #[must_use]
    pub fn supports(&self, mid: Mid) -> bool {
        self.connection.pool.supported().contains(mid)
    }

    /// The messages that the server accepts.
    #[must_use]
    pub fn supported(&self) -> &SupportedMids {
        self.connection.pool.supported()
    }

    /// How the waits on each open channel went so far.
    #[must_use]
    pub fn wait_stats(&self) -> Vec<WaitStats> {
        self.connection.pool.wait_stats()
    }

    /// Sends the smallest request there is, a Close of nothing, and waits for the answer.
    ///
    /// # Errors
    /// EIO when the server is gone.
    pub fn ping(&self) -> Result<(), Error> {
        self.lease().call(&CloseReq {
            fds: Array::new(&[]),
        })
    }

    /// Tells the server now about handles that were dropped. Without it, control handles are
    /// given up by the hundred, or along with the next open file.
    pub fn flush_closes(&self) {
        self.connection.closes.flush(&self.connection.pool);
    }

    pub(super) fn root_inode(&self) -> Inode {
        self.connection.root
    }

    pub(super) fn uses_donations(&self) -> bool {
        self.connection.donations
    }

    pub(super) fn lease(&self) -> Lease<'_> {
        self.connection.pool.lease()
    }

    pub(super) fn close_later(&self, id: FdId) {
        self.connection.closes.later(id, &self.connection.pool);
    }

    pub(super) fn close_now(&self, id: FdId) {
        self.connection.closes.now(id, &self.connection.pool);
    }
}
