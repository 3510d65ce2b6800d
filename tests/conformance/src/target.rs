//! Servers to ask.

use core::fmt;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A server that serves a directory which the suite may fill.
pub trait Target: Send + Sync {
    /// What the server is called in the names of the tests.
    fn name(&self) -> &str;

    /// A new connection to the root of the directory.
    ///
    /// # Errors
    /// Whatever keeps the server from being reached.
    fn connect(&self, readonly: bool) -> io::Result<UnixStream>;

    /// The directory as the suite's own process sees it, if it does.
    fn host_dir(&self) -> Option<&Path>;

    /// Whether the server, as it was started, can do what some cases need.
    fn offers(&self, need: Need) -> bool;
}

/// What a case needs beyond regular files, directories and symlinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// Access to the served directory besides the server.
    HostAccess,
    /// Connections that can only be read from.
    ReadOnly,
    /// A server that can give files to others, which takes CAP_CHOWN.
    Privileged,
    /// A server that connects to Unix sockets.
    UnixConnect,
    /// A server that binds Unix sockets.
    UnixBind,
    /// A server that opens FIFOs.
    Fifo,
    /// A file system with `user.` attributes.
    UserXattr,
    /// Connections that share one server, and with it the tree of nodes.
    SharedTree,
}

/// The reason of a skipped case.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::HostAccess => "the served directory is out of reach",
            Need::ReadOnly => "no read-only connections",
            Need::Privileged => "the server may not change owners",
            Need::UnixConnect => "the server does not connect to sockets",
            Need::UnixBind => "the server does not bind sockets",
            Need::Fifo => "the server does not open FIFOs",
            Need::UserXattr => "no extended attributes",
            Need::SharedTree => "each connection has a server of its own",
        })
    }
}

/// A server program that is started for each connection, which is its standard input.
#[derive(Debug)]
pub struct Spawned {
    name: String,
    writable: Vec<OsString>,
    readonly: Option<Vec<OsString>>,
    host_dir: Option<PathBuf>,
    offered: Vec<Need>,
    stderr: Option<File>,
    running: Mutex<Vec<Child>>,
}

impl Spawned {
    /// A server called `name` that is started with the words `command`.
    #[must_use]
    pub fn new(name: &str, command: Vec<OsString>) -> Spawned {
        Spawned {
            name: name.to_owned(),
            writable: command,
            readonly: None,
            host_dir: None,
            offered: Vec::new(),
            stderr: None,
            running: Mutex::default(),
        }
    }

    /// Adds the command for read-only connections.
    #[must_use]
    pub fn readonly(mut self, command: Vec<OsString>) -> Spawned {
        self.readonly = Some(command);
        self
    }

    /// Adds the served directory as this process sees it.
    #[must_use]
    pub fn host_dir(mut self, dir: PathBuf) -> Spawned {
        self.host_dir = Some(dir);
        self
    }

    /// Adds what the server can do.
    #[must_use]
    pub fn offering(mut self, needs: &[Need]) -> Spawned {
        self.offered.extend(needs);
        self
    }

    /// Gives the servers a standard error. Otherwise nobody hears what they say.
    #[must_use]
    pub fn stderr(mut self, file: File) -> Spawned {
        self.stderr = Some(file);
        self
    }

    /// Ends all servers that are still running, and what they have started in their process groups.
    ///
    /// For one caller that runs one case after the other: a server that hangs does not see that its
    /// connection is over.
    pub fn end(&self) {
        let mut running = self.running();
        for mut child in running.drain(..) {
            // It may be gone already. Its number is its own until it is waited for.
            if let Some(group) = i32::try_from(child.id()).ok().map(Pid::from_raw) {
                let _ = killpg(group, Signal::SIGKILL);
            }
            let _ = child.wait();
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for Spawned {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        let command = if readonly {
            self.readonly.as_ref()
        } else {
            Some(&self.writable)
        };
        let Some((program, arguments)) = command.and_then(|words| words.split_first()) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let (ours, theirs) = UnixStream::pair()?;
        // A group of its own keeps a ^C away from it, so that what the case has made can still be
        // removed.
        let child = Command::new(program)
            .args(arguments)
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(match &self.stderr {
                Some(file) => Stdio::from(file.try_clone()?),
                None => Stdio::null(),
            })
            .spawn()?;
        let mut running = self.running();
        running.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        running.push(child);
        Ok(ours)
    }

    fn host_dir(&self) -> Option<&Path> {
        self.host_dir.as_deref()
    }

    fn offers(&self, need: Need) -> bool {
        match need {
            Need::HostAccess => self.host_dir.is_some(),
            Need::ReadOnly => self.readonly.is_some(),
            Need::SharedTree => false,
            need => self.offered.contains(&need),
        }
    }
}

/// Ends what a server that hangs would leave behind.
impl Drop for Spawned {
    fn drop(&mut self) {
        self.end();
    }
}
