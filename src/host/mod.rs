//! The back end that serves a directory of the host.
//!
//! The client is hostile, and the directory may be changed by others at any time. So no operation
//! names a file by a host path:
//!
//! - A name is looked up in the open directory it was asked for in, with O_PATH and without following
//!   it. What is found is looked at first (`handle/look.rs`); only then, and only if its type permits, it
//!   is opened, through the private `/proc/self/fd` of this process (`procfd.rs`).
//! - Whatever changes a file goes through its descriptor, also where the system call wants a path. A
//!   handle of a file that has lost its name keeps working, and never means the file that has the
//!   name now.
//! - A file that is only looked at is not opened: it is remembered by its name and directory, and by
//!   what tells it from every other file (`identity.rs`). When it is needed it is opened, and if it is
//!   another one by then, the answer is ESTALE.
//! - Nothing waits for another process: FIFOs and devices are opened, and sockets connected and
//!   accepted, without blocking.
//! - What is created has the owner and the mode that were asked for, or is removed again.
//!
//! # What remains with the host
//!
//! Between mkdir (or symlink, or bind) and the opening of what was made, a process that may rename in
//! the same directory can put another entry of the same type in its place; the owner and mode meant
//! for the new one then go to the other. Regular files are made and opened in one step. An open
//! description that is donated is shared: what the client sets on it (O_APPEND, O_DIRECT, locks)
//! holds for reads and writes through the server as well. A write beyond RLIMIT_FSIZE raises SIGXFSZ,
//! which the process should ignore. Space is limited by the host's quotas alone.
//!
//! The kernel may still wait where no flag forbids it: for a file system whose server is gone. Who
//! has a lease on a file is not waited for: opening it is answered EAGAIN until it is given up.
//! Directories that are mounted on demand (autofs(5)) are served as they are before that.
//!
//! # Requirements
//!
//! Linux 5.8 (mount ids in statx(2), whiteouts without CAP_MKNOD) with procfs mounted at `/proc` when
//! the [`HostFs`] is made. Later calls are used where they exist: open_tree(2) with CAP_SYS_ADMIN,
//! fchmodat2(2) from 6.6, listmount(2) and statmount(2) from 6.8. No capability is needed to serve
//! one's own files.
//!
//! Every thread that serves has a working directory and an umask of its own, so the process keeps
//! both; a thread that may not unshare(2) them serves nothing.

mod attributes;
mod control;
mod create;
mod creds;
mod dirents;
mod filesystem;
mod handle;
mod identity;
mod kernel;
mod mounts;
mod names;
mod open;
mod options;
mod procfd;
mod scratch;
mod socket;
mod sys;
#[cfg(test)]
mod tests;
mod xattr;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

pub use options::{CharacterDevices, HostFifo, HostOptions, HostUds, UnknownChoice, Xattrs};

use self::control::ControlFd;
use self::handle::place::NodeFiles;
use self::handle::{Descriptors, Handle};
use self::kernel::Kernel;
use self::open::OpenFd;
use self::procfd::ProcFd;
use self::socket::BoundSocketFd;
use crate::Errno;
use crate::server::{Mounted, Quota, ServerImpl, ServerOpts, Shared, Unguarded};
use crate::wire::{FileType, Mid, Name, messages};

/// A host directory, or a single file, to be served.
///
/// To be made by the process that serves, not by one that forks it: descriptors are reached through
/// the `/proc/self/fd` of the process that made it. Clones share that and the root, so each
/// connection can have one for next to nothing.
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// use lisafs::host::{HostFs, HostOptions};
/// use lisafs::server::{ConnectionOpts, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let served = lisafs_served::directory()?;
/// # let directory = served.path();
/// let host = HostFs::open(directory, HostOptions::default())?;
/// let server = Server::new(2);
/// let mut clients = Vec::new();
/// for _ in 0..2 {
///     let (client, stream) = UnixStream::pair()?;
///     server.start_connection(stream, host.clone(), ConnectionOpts::default())?;
///     clients.push(client);
/// }
/// assert_eq!(server.census().connections, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HostFs {
    root: Arc<Handle>,
    procfd: Arc<ProcFd>,
    options: HostOptions,
    kernel: Kernel,
    /// What the connection of this clone may have open.
    descriptors: Arc<Descriptors>,
    /// Threads of this process can take another identity on.
    takes_identities: bool,
}

/// A directory cannot be served.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::host::{HostFs, HostOptions};
///
/// let error = HostFs::open("/no/such/directory".as_ref(), HostOptions::default()).unwrap_err();
/// assert_eq!(error.errno(), Errno::ENOENT);
/// assert_eq!(error.to_string(), "the root cannot be opened");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SetupError {
    what: &'static str,
    source: Errno,
}

impl SetupError {
    /// Why: the error of the system call.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.source
    }
}

/// What is wrong where files cannot be opened by their descriptors.
const PROCFD: &str = "/proc/self/fd cannot be opened";

fn cannot(what: &'static str) -> impl Fn(Errno) -> SetupError {
    move |source| SetupError { what, source }
}

impl HostFs {
    /// Serves the file at `path`, a directory as a rule. Symlinks along `path` are followed, this
    /// once.
    ///
    /// # Errors
    /// If `path` cannot be found or is a block device, or there is no `/proc/self/fd`.
    pub fn open(path: &Path, options: HostOptions) -> Result<HostFs, SetupError> {
        let root = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let root = root.map_err(|errno| cannot("the root cannot be opened")(errno.into()))?;
        HostFs::new(root, options)
    }

    /// Serves the file behind `root`, however that was opened.
    ///
    /// # Errors
    /// If it is a block device, or there is no `/proc/self/fd`.
    pub fn new(root: OwnedFd, options: HostOptions) -> Result<HostFs, SetupError> {
        HostFs::with_kernel(root, options, Kernel::probe())
    }

    /// As [`new`](Self::new), with a [`procfd`](Self::procfd) that somebody else has made: a mount of its
    /// own of `/proc/PID/fd`, as open_tree(2) makes it, where PID is this process. For processes that
    /// may make no mounts.
    ///
    /// # Errors
    /// If `root` is a block device, or `procfd` does not lead to the descriptors of this process.
    pub fn with_procfd(
        root: OwnedFd,
        procfd: OwnedFd,
        options: HostOptions,
    ) -> Result<HostFs, SetupError> {
        let kernel = Kernel::probe();
        let procfd = ProcFd::adopt(procfd, kernel).map_err(cannot(PROCFD))?;
        HostFs::build(root, procfd, options, kernel)
    }

    /// The same tree under other options, for connections that are to be treated in another way. Unlike
    /// one that is made anew, it has the same [`procfd`](Self::procfd).
    #[must_use]
    pub fn with_options(&self, options: HostOptions) -> HostFs {
        HostFs {
            options,
            ..self.clone()
        }
    }

    /// The directory of this process's descriptors, through which files are opened once more. It is open
    /// as long as this is, or a clone of it: a system call filter can permit openat(2) without
    /// O_NOFOLLOW for its number alone.
    #[must_use]
    pub fn procfd(&self) -> BorrowedFd<'_> {
        self.procfd.as_fd()
    }

    /// Whether the [`procfd`](Self::procfd) is a mount of its own: `..` in it leads nowhere. Otherwise it
    /// is a directory of the host's procfs, with all of that around it, since CAP_SYS_ADMIN was missing
    /// or the kernel is older than 5.2.
    #[must_use]
    pub fn procfd_is_detached(&self) -> bool {
        self.procfd.is_detached()
    }

    /// Whether clients can have sockets connected as somebody else: it takes CAP_SETUID and CAP_SETGID
    /// when this is made, and afterwards.
    #[must_use]
    pub fn connects_with_creds(&self) -> bool {
        self.takes_identities && self.options.host_uds.opens()
    }

    fn with_kernel(
        root: OwnedFd,
        options: HostOptions,
        kernel: Kernel,
    ) -> Result<HostFs, SetupError> {
        let procfd = ProcFd::open(kernel).map_err(cannot(PROCFD))?;
        HostFs::build(root, procfd, options, kernel)
    }

    fn build(
        root: OwnedFd,
        procfd: ProcFd,
        options: HostOptions,
        kernel: Kernel,
    ) -> Result<HostFs, SetupError> {
        let descriptors = Descriptors::new(Quota::new(usize::MAX));
        let root = procfd
            .reopen(root.as_fd(), OFlag::O_PATH)
            .and_then(|root| Handle::root(root, &descriptors))
            .map_err(cannot("the root cannot be opened"))?;
        let takes_identities = creds::can_be_assumed();
        Ok(HostFs {
            root: Arc::new(root),
            procfd: Arc::new(procfd),
            options,
            kernel,
            descriptors,
            takes_identities,
        })
    }

    /// Opens what the node `path` stands for, below the root.
    fn mount_at(&self, path: &[u8]) -> Result<Mounted<HostFs>, Errno> {
        let mut handle = self.root.duplicate(&self.descriptors)?;
        let mut stat = handle.stat()?;
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            (handle, stat) = handle.walk_open(Name::new(name)?)?;
            // No node knows the directories on the way, so nobody would say if they were renamed.
            handle.hold()?;
        }
        let donation = self.root_donation(&handle)?;
        Ok(Mounted {
            control: ControlFd::root(handle, donation.is_some()),
            stat,
            donation,
        })
    }

    fn root_donation(&self, root: &Handle) -> Result<Option<OwnedFd>, Errno> {
        if !self.options.donate_root {
            return Ok(None);
        }
        let flags = match root.file_type() {
            FileType::Directory => OFlag::O_RDONLY | OFlag::O_DIRECTORY,
            FileType::Regular => OFlag::O_RDONLY | OFlag::O_NONBLOCK,
            // Opening another one does something to it, or to somebody.
            _ => OFlag::O_PATH,
        };
        root.with_fd(|fd| {
            // One that can be read does more for the client, but a directory that this process may
            // only search must work as well.
            match self.procfd.reopen(fd, flags) {
                Err(Errno::EACCES) => self.procfd.reopen(fd, OFlag::O_PATH),
                opened => opened,
            }
        })
        .map(Some)
    }
}

impl ServerImpl for HostFs {
    type ControlFd = ControlFd;
    type OpenFd = OpenFd;
    type BoundSocketFd = BoundSocketFd;
    type NodeData = NodeFiles;
    /// The kernel locks inodes itself, and a host call that takes its time must not hold the tree.
    type FdLocks = Unguarded;

    fn opts(&self) -> ServerOpts {
        ServerOpts {
            walk_stat_supported: true,
            set_attr_on_deleted: true,
            allocate_on_deleted: true,
            open_on_deleted: true,
        }
    }

    /// All, but ConnectWithCreds only if it can be honoured.
    fn supported_messages(&self) -> Vec<Mid> {
        messages()
            .map(|message| message.mid)
            .filter(|mid| *mid != Mid::FLUSH)
            .filter(|mid| *mid != Mid::CONNECT_WITH_CREDS || self.connects_with_creds())
            .collect()
    }

    fn count_descriptors(&mut self, quota: &Arc<Quota>) -> bool {
        self.descriptors = Descriptors::new(Arc::clone(quota));
        true
    }

    fn thread_started(&self) -> Result<(), Errno> {
        self.procfd.enter()
    }

    fn mount(&self, at: Shared<'_, HostFs>) -> Result<Mounted<HostFs>, Errno> {
        self.mount_at(&at.path())
    }
}
