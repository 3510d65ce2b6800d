//! What a back end implements: the file system behind a server.
//!
//! The runtime owns ids, nodes, locks and replies. A back end sees checked names, private copies of
//! what the client sent, and a *guarantee*: a value that only the runtime can make and that says
//! which lock is held on which node (see [`super::guarantee`]). Every method is one file operation;
//! whatever it returns as `Err` goes to the client as it is, and must have no side effect.
//! Closing is dropping.

mod control_fd;
mod no_sockets;
mod open_fd;
mod operands;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use control_fd::ControlFdImpl;
pub use no_sockets::NoSockets;
pub use open_fd::{BoundSocketFdImpl, OpenFdImpl};
pub use operands::{
    Creation, DirentRequest, Donation, NodeKind, OpenFlags, RenameFlags, RenameOutcome,
};

use super::fd_locks::FdLocks;
use super::guarantee::Shared;
use super::quota::Quota;
use crate::Errno;
use crate::wire::{DEFAULT_MAX_MESSAGE_SIZE, Mid, Statx, messages};

/// A file system, as one connection sees it.
///
/// The smallest one there can be: a directory with the file `hello` in it.
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// use flipcall::SharedBytes;
/// use lisafs::Errno;
/// use lisafs::client::Client;
/// use lisafs::server::{
///     ConnectionOpts, ControlFdImpl, Mounted, NoSockets, OpenFdImpl, OpenFlags, Server, ServerImpl,
///     Shared, Unguarded, Unheld,
/// };
/// use lisafs::wire::{Name, Statx};
///
/// #[derive(Debug)]
/// struct Greeter;
///
/// /// A position and an open file alike: there is nothing to be kept but which file it is.
/// #[derive(Clone, Copy, Debug)]
/// enum File {
///     Root,
///     Hello,
/// }
///
/// impl File {
///     fn attributes(self) -> Statx {
///         let (mode, ino, size) = match self {
///             File::Root => (0o040_555, 1, 0),
///             File::Hello => (0o100_444, 2, 5),
///         };
///         let mask = libc::STATX_BASIC_STATS;
///         Statx { mask, mode, ino, size, nlink: 1, ..Statx::default() }
///     }
/// }
///
/// impl ServerImpl for Greeter {
///     type ControlFd = File;
///     type OpenFd = File;
///     type BoundSocketFd = NoSockets<Greeter>;
///     type NodeData = ();
///     type FdLocks = Unguarded;
///
///     fn mount(&self, _at: Shared<'_, Greeter>) -> Result<Mounted<Greeter>, Errno> {
///         let control = File::Root;
///         Ok(Mounted { control, stat: control.attributes(), donation: None })
///     }
/// }
///
/// impl ControlFdImpl for File {
///     type Server = Greeter;
///
///     fn stat(&self, _at: Unheld<'_, Greeter>) -> Result<Statx, Errno> {
///         Ok(self.attributes())
///     }
///
///     fn walk(&self, _at: Shared<'_, Greeter>, name: Name<'_>) -> Result<(File, Statx), Errno> {
///         match (self, name.as_bytes()) {
///             (File::Root, b"hello") => Ok((File::Hello, File::Hello.attributes())),
///             _ => Err(Errno::ENOENT),
///         }
///     }
///
///     fn open(&self, _at: Shared<'_, Greeter>, _flags: OpenFlags) -> Result<File, Errno> {
///         Ok(*self)
///     }
/// }
///
/// impl OpenFdImpl for File {
///     type Server = Greeter;
///
///     fn stat(&self, _at: Unheld<'_, Greeter>) -> Result<Statx, Errno> {
///         Ok(self.attributes())
///     }
///
///     fn read(
///         &self,
///         _at: Unheld<'_, Greeter>,
///         buffer: SharedBytes<'_>,
///         offset: u64,
///     ) -> Result<usize, Errno> {
///         let rest = usize::try_from(offset).ok().and_then(|start| b"world".get(start..));
///         let rest = rest.unwrap_or_default();
///         let part = rest.get(..buffer.len()).unwrap_or(rest);
///         buffer.copy_from(0, part).map_err(|_| Errno::EIO)?;
///         Ok(part.len())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, theirs) = UnixStream::pair()?;
/// let server = Server::new(1);
/// let opts = ConnectionOpts { readonly: true, ..ConnectionOpts::default() };
/// server.start_connection(theirs, Greeter, opts)?;
/// let client = Client::from_stream(ours)?;
/// assert_eq!(client.read("hello")?, b"world");
/// assert!(!client.exists("goodbye")?);
/// # Ok(())
/// # }
/// ```
///
/// `docs/backends.md` in the repository goes on from here.
pub trait ServerImpl: Send + Sync + Sized + 'static {
    /// A position in the tree.
    type ControlFd: ControlFdImpl<Server = Self>;
    /// An open file description.
    type OpenFd: OpenFdImpl<Server = Self>;
    /// A Unix socket bound to a name; [`NoSockets`] where there are none.
    type BoundSocketFd: BoundSocketFdImpl<Server = Self>;
    /// What the back end keeps with each node of the tree, for as long as the node lives; `()` for
    /// nothing. All connections of a server share the nodes.
    type NodeData: Default + Send + Sync + 'static;
    /// [`Guarded`](super::Guarded) to have stat, read, write, sync, allocate, getdents, the xattr
    /// operations, connect and accept run under their node's lock;
    /// [`Unguarded`](super::Unguarded) to have them run with no lock held, which suits a back end
    /// whose descriptors synchronise themselves and keeps a slow one from blocking a rename.
    type FdLocks: FdLocks;

    /// Whether [`ControlFdImpl::renamed`] and [`OpenFdImpl::renamed`] are to be called. They cost
    /// a walk over the renamed subtree with the whole tree locked.
    const NOTIFY_RENAMED: bool = false;

    /// What holds for this connection.
    fn opts(&self) -> ServerOpts {
        ServerOpts::default()
    }

    /// The messages that this connection accepts. `Mount` is always among them.
    fn supported_messages(&self) -> Vec<Mid> {
        messages()
            .map(|message| message.mid)
            .filter(|mid| *mid != Mid::FLUSH)
            .collect()
    }

    /// The limit of a payload in bytes, both ways.
    fn max_message_size(&self) -> u32 {
        DEFAULT_MAX_MESSAGE_SIZE
    }

    /// Offers the back end to count the descriptors of the connection itself, before anything else:
    /// it then takes a share of `quota` for each that it opens, and answers EMFILE when there is
    /// none. If it returns `false`, the runtime counts each object as one.
    fn count_descriptors(&mut self, quota: &Arc<Quota>) -> bool {
        let _ = quota;
        false
    }

    /// Called once on every thread that will run this back end's operations, before the first.
    ///
    /// # Errors
    /// The thread then serves nothing: the connection or channel fails with this errno.
    fn thread_started(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Opens the root of the connection; `at` is its node, whose path is the mount path.
    ///
    /// # Errors
    /// As open(2); EPERM for a file of a type that is not served.
    fn mount(&self, at: Shared<'_, Self>) -> Result<Mounted<Self>, Errno>;
}

/// The root of a connection.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::server::{Mounted, ServerImpl};
/// use lisafs::wire::FileType;
///
/// /// A root that clients can walk from, and of which they get no descriptor.
/// fn root<S: ServerImpl>(mounted: Mounted<S>) -> Result<Mounted<S>, Errno> {
///     match mounted.stat.file_type() {
///         FileType::Directory => Ok(Mounted { donation: None, ..mounted }),
///         _ => Err(Errno::ENOTDIR),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Mounted<S: ServerImpl> {
    /// The root.
    pub control: S::ControlFd,
    /// Its attributes.
    pub stat: Statx,
    /// A descriptor of the root for the client, which gives it everything below the root.
    pub donation: Option<OwnedFd>,
}

/// What holds for a connection: which operations a deleted file still answers, and whether
/// WalkStat has a form of its own.
///
/// ```
/// use lisafs::server::ServerOpts;
///
/// // A file system whose open files do not need their names.
/// let opts = ServerOpts {
///     set_attr_on_deleted: true,
///     allocate_on_deleted: true,
///     open_on_deleted: true,
///     ..ServerOpts::default()
/// };
/// assert!(!opts.walk_stat_supported);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerOpts {
    /// [`ControlFdImpl::walk_stat`] is implemented; otherwise the runtime walks and stats.
    pub walk_stat_supported: bool,
    /// SetStat works on deleted files.
    pub set_attr_on_deleted: bool,
    /// FAllocate works on deleted files.
    pub allocate_on_deleted: bool,
    /// OpenAt works on deleted files.
    pub open_on_deleted: bool,
}
