//! A connection for one case, with a directory of its own.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lisafs::Errno;
use lisafs::client::{Error, SupportedMids};
use lisafs::wire::{FdId, Inode, Mid, MkdirAtReq};

use crate::caller::Caller;
use crate::calls::at;
use crate::cleanup;
use crate::line::Via;
use crate::target::{Need, Target};
use crate::verdict::{Stop, Verdict};

/// A mounted connection, called over the communicator that the case is about.
#[derive(Debug)]
pub struct Mount {
    line: Caller,
    /// The socket, when the communicator is a channel.
    socket: Option<Caller>,
    /// What the server mounted.
    pub root: Inode,
    /// The messages that it offers.
    pub supported: SupportedMids,
    /// The directory of the case; the root where the server is read-only.
    pub scratch: FdId,
}

/// What a case works with: a connection, and a way to more of them.
pub struct Session {
    mount: Mount,
    target: Arc<dyn Target>,
    via: Via,
    name: Vec<u8>,
    /// The directory of the case could be made.
    writable: bool,
}

impl Mount {
    fn new(target: &dyn Target, via: Via, readonly: bool) -> Result<Mount, Stop> {
        if readonly && !target.offers(Need::ReadOnly) {
            return Err(Stop::skipped(Need::ReadOnly.to_string()));
        }
        let mut socket = Caller::new(target.connect(readonly)?)?;
        let mount = socket.mount()?;
        let root = mount.root;
        let (line, socket) = match via {
            Via::Socket => (socket, None),
            Via::Channel => (socket.channel()?, Some(socket)),
        };
        Ok(Mount {
            line,
            socket,
            root,
            supported: mount.supported,
            scratch: root.control_fd,
        })
    }

    /// The socket of the connection.
    pub(crate) fn socket(&mut self) -> &mut Caller {
        self.socket.as_mut().unwrap_or(&mut self.line)
    }

    /// Both communicators, if there are two.
    pub(crate) fn both(&mut self) -> impl Iterator<Item = &mut Caller> {
        std::iter::once(&mut self.line).chain(&mut self.socket)
    }

    /// Whether the server offers `mid`.
    pub(crate) fn offers(&self, mid: Mid) -> bool {
        self.supported.contains(mid)
    }

    /// Skips the case if the server does not offer `mid`.
    pub(crate) fn needs_message(&self, mid: Mid) -> Verdict {
        if self.offers(mid) {
            Ok(())
        } else {
            Err(Stop::skipped(format!("the server does not offer {mid}")))
        }
    }
}

impl Deref for Mount {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.line
    }
}

impl DerefMut for Mount {
    fn deref_mut(&mut self) -> &mut Caller {
        &mut self.line
    }
}

impl Session {
    /// Connects and makes the directory.
    ///
    /// # Errors
    /// If the server cannot be reached, or makes no directory.
    pub fn open(target: &Arc<dyn Target>, via: Via) -> Result<Session, Stop> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut mount = Mount::new(&**target, via, false)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".conformance-{}-{number}", std::process::id()).into_bytes();
        let request = MkdirAtReq {
            create: at(mount.root.control_fd, 0o755),
            name: &name,
        };
        let writable = match mount.call(&request) {
            Ok(reply) => {
                mount.scratch = reply.child.control_fd;
                true
            }
            Err(Error::Remote(Errno::EROFS)) => false,
            Err(other) => return Err(other.into()),
        };
        Ok(Session {
            mount,
            target: Arc::clone(target),
            via,
            name,
            writable,
        })
    }

    /// The communicator that the case runs over.
    #[must_use]
    pub fn via(&self) -> Via {
        self.via
    }

    /// Whether the case has a directory of its own, which is empty.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The name of the case's directory, which no other case ever has.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Skips the case if the server does not offer something.
    pub(crate) fn needs(&self, need: Need) -> Verdict {
        if self.target.offers(need) {
            Ok(())
        } else {
            Err(Stop::skipped(need.to_string()))
        }
    }

    /// Another connection, at the same directory.
    pub(crate) fn attach(&self, readonly: bool) -> Result<Mount, Stop> {
        let mut mount = Mount::new(&*self.target, self.via, readonly)?;
        let root = mount.root.control_fd;
        mount.scratch = mount.find(root, &self.name)?.control_fd;
        Ok(mount)
    }

    /// A connection that has not mounted.
    pub(crate) fn unmounted(&self) -> Result<Caller, Stop> {
        Caller::new(self.stream()?)
    }

    /// A connection that nothing has been said on.
    pub(crate) fn stream(&self) -> Result<UnixStream, Stop> {
        Ok(self.target.connect(false)?)
    }

    /// A file of the case's directory as this process sees it.
    pub(crate) fn host_path(&self, name: &str) -> Result<PathBuf, Stop> {
        let dir = self
            .target
            .host_dir()
            .ok_or_else(|| Stop::skipped(Need::HostAccess.to_string()))?;
        let own = String::from_utf8_lossy(&self.name);
        Ok(dir.join(&*own).join(name))
    }

    /// Removes the directory, over another connection: the case may have ended its own.
    ///
    /// # Errors
    /// If something of it is left.
    pub fn clean(self) -> Verdict {
        let Session {
            mount,
            target,
            name,
            writable,
            ..
        } = self;
        drop(mount);
        if !writable {
            return Ok(());
        }
        let own = target
            .host_dir()
            .map(|dir| dir.join(&*String::from_utf8_lossy(&name)));
        if own.is_some_and(|own| std::fs::remove_dir_all(own).is_ok()) {
            return Ok(());
        }
        let mut mount = Mount::new(&*target, Via::Socket, false)?;
        let root = mount.root.control_fd;
        cleanup::remove(&mut mount, root, &name)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("target", &self.target.name())
            .field("via", &self.via)
            .field("mount", &self.mount)
            .finish_non_exhaustive()
    }
}

impl Deref for Session {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.mount
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Mount {
        &mut self.mount
    }
}
