//! `mount`: a server's tree as a directory of this machine, over FUSE.
//!
//! | | |
//! |---|---|
//! | `mount_point`, `ending` | the mount and what ends it |
//! | `requests`, `replies` | what the kernel asks for, and is told |
//! | `tree`, `names`, `content`, `listing`, `xattrs` | how the server is asked |
//! | `inodes`, `handles`, `backing` | what the kernel has numbers for |
//! | `policy`, `attributes`, `refusal` | how things are said to the kernel |

mod attributes;
mod backing;
mod content;
mod ending;
mod handles;
mod inodes;
mod listing;
mod mount_point;
mod names;
mod policy;
mod refusal;
mod replies;
mod requests;
mod tree;
mod xattrs;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use fuser::{Config, Session as FuseSession, SessionACL};
use lisafs::wire::FileType;
use nix::errno::Errno;

use self::ending::{Event, Line};
use self::mount_point::{MountPoint, Options};
use self::policy::{Caching, Io, Policy};
use self::tree::Tree;
use crate::console::Console;
use crate::failure::{Stop, Why};
use crate::json::Object;
use crate::session::Session;

pub(crate) use self::ending::Signals;

/// How often to try to unmount, and how long to wait in between: the kernel lets go of a file a moment
/// after it was closed.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// How long those who use a mount have to come to an end when it ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// Mount the tree as a directory, for any program to use
///
/// Needs root, or fusermount3 (package fuse3). Stays in the foreground until ^C, SIGTERM or umount(8)
/// end it. Who still uses it then has ten seconds, or until a second signal; the exit status is 1 if
/// that was too short. If the server dies, all that uses it fails, it is unmounted, and the exit
/// status is 2.
///
/// Permissions are checked by this machine, by mode and owner. Locks are known to this mount alone.
/// Set-id bits and devices have no effect. With --json, a line says when it is mounted, and one at
/// the end why it is not any more.
#[derive(Debug, clap::Args)]
pub(crate) struct Mount {
    /// The directory to mount on
    #[arg(value_name = "MOUNTPOINT")]
    path: PathBuf,

    /// Let nobody change anything
    #[arg(long)]
    read_only: bool,

    /// Let other users in as well, as far as modes and owners let them
    #[arg(long)]
    allow_other: bool,

    /// How long to remember names and attributes: none, auto, or a number of seconds
    ///
    /// `auto` is one second: what others change shows after that. `none` asks each time. With a number
    /// of seconds, names that do not exist are remembered too, and contents from one opening to the
    /// next, for trees that nobody else changes.
    #[arg(long, value_name = "HOW LONG", default_value_t = Caching::Auto)]
    cache: Caching,

    /// Who reads and writes files of which the server donates descriptors
    #[arg(long, value_name = "WHO", value_enum, default_value_t = Io::Passthrough)]
    io: Io,

    /// Collect what is written in memory, for trees that nobody else changes
    ///
    /// Many small writes are faster then, and the kernel does no I/O by itself.
    #[arg(long)]
    writeback: bool,
}

impl Mount {
    pub(crate) fn run(
        &self,
        session: &Session,
        console: &mut Console,
        signals: Signals,
    ) -> Result<(), Stop> {
        let trouble =
            |why: &dyn std::fmt::Display| Stop::Trouble(format!("{}: {why}", self.path.display()));
        // The first to be made is the last to be dropped: a private server waits for its end, and the
        // kernel may keep the tree, with a handle on the connection, for longer.
        let (client, socket) = session.client_and_socket()?;
        let line = Line::new(socket);
        let root = client.root();
        if root.file_type() != FileType::Directory {
            return Err(trouble(&"what is served is no directory"));
        }
        if mount_point::is_within(&self.path, &root) {
            return Err(trouble(
                &"it lies in what is served, and would be in itself: mount elsewhere",
            ));
        }
        let tree = Tree::new(client, self.policy());
        let passthrough = tree.passthrough();
        let options = Options {
            source: session.name().to_owned(),
            read_only: self.read_only,
            allow_other: self.allow_other,
        };
        let (fuse, point) = MountPoint::mount(&self.path, &options).map_err(|why| trouble(&why))?;
        let fuse = FuseSession::from_fd(tree, fuse, self.acl(), self.config(session))
            .map_err(|why| trouble(&why))?;
        let (sender, events) = channel();
        let serve = {
            let sender = sender.clone();
            move || {
                // How it ended makes no difference: the kernel asks no more.
                let _ = fuse.run();
                let _ = sender.send(Event::Ended);
            }
        };
        ending::spawn("fuse", serve)
            .and_then(|()| signals.report(sender.clone()))
            .and_then(|()| line.report(sender.clone()))
            .map_err(|why| trouble(&why))?;
        self.announce(console, &point, passthrough.load(Relaxed))?;
        let point = Arc::new(point);
        let ended = Ending {
            point: &point,
            sender,
            events,
        }
        .wait(console);
        self.conclude(console, &point, ended)
    }

    fn policy(&self) -> Policy {
        Policy {
            caching: self.cache,
            io: self.io,
            writeback: self.writeback,
        }
    }

    fn acl(&self) -> SessionACL {
        if self.allow_other {
            SessionACL::All
        } else {
            SessionACL::Owner
        }
    }

    /// One thread more than can talk to the server at once: it has the next request ready.
    fn config(&self, session: &Session) -> Config {
        let mut config = Config::default();
        config.acl = self.acl();
        config.n_threads = Some(session.channels().max(1) + 1);
        config
    }

    fn announce(
        &self,
        console: &mut Console,
        point: &MountPoint,
        passthrough: bool,
    ) -> Result<(), Stop> {
        let path = point.path();
        if console.is_json() {
            let object = Object::new()
                .bytes("mounted", path)
                .set("read_only", self.read_only)
                .set("cache", self.cache.to_string())
                .set("passthrough", passthrough);
            console.object(object)?;
        } else {
            console.line_with("mounted; to end it: ^C, or umount ", path.as_os_str())?;
        }
        console.flush()
    }

    fn conclude(
        &self,
        console: &mut Console,
        point: &MountPoint,
        why: Conclusion,
    ) -> Result<(), Stop> {
        if console.is_json() {
            let object = Object::new()
                .bytes("unmounted", point.path())
                .set("by", why.name());
            console.object(object)?;
        }
        match why {
            Conclusion::Signal | Conclusion::Unmounted => Ok(()),
            Conclusion::InUse => console.complain(
                point.path(),
                Why::Said("it was still in use: what uses it fails from now on"),
            ),
            Conclusion::ServerGone => Err(Stop::Trouble(format!(
                "{}: the server is gone: unmounted",
                point.path().display()
            ))),
        }
    }
}

/// Why nothing is mounted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conclusion {
    Signal,
    Unmounted,
    InUse,
    ServerGone,
}

impl Conclusion {
    fn name(self) -> &'static str {
        match self {
            Conclusion::Signal => "signal",
            Conclusion::Unmounted => "umount",
            Conclusion::InUse => "signal, in use",
            Conclusion::ServerGone => "server",
        }
    }
}

/// A mount until its end.
struct Ending<'p> {
    point: &'p Arc<MountPoint>,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

impl Ending<'_> {
    fn wait(&self, console: &Console) -> Conclusion {
        let mut deadline: Option<Instant> = None;
        loop {
            let event = match deadline {
                Some(deadline) => self
                    .events
                    .recv_timeout(deadline.saturating_duration_since(Instant::now())),
                None => self.events.recv().map_err(RecvTimeoutError::from),
            };
            match event {
                Ok(Event::Signal) if deadline.is_none() => {
                    deadline = Some(Instant::now() + PATIENCE);
                    self.unmount();
                }
                Ok(Event::Unmounted(Err(Errno::EBUSY))) => {
                    console.note("it is in use, waiting: end it with another ^C");
                    self.detach();
                }
                Ok(Event::Unmounted(_)) => {}
                Ok(Event::Ended) if deadline.is_some() => return Conclusion::Signal,
                Ok(Event::Ended) => return Conclusion::Unmounted,
                Ok(Event::ServerGone) => {
                    self.detach();
                    return Conclusion::ServerGone;
                }
                Ok(Event::Signal) | Err(_) => {
                    self.detach();
                    return Conclusion::InUse;
                }
            }
        }
    }

    /// Unmounts in another thread, as the kernel writes out first what was changed in memory, which
    /// can take long.
    fn unmount(&self) {
        let (point, sender) = (Arc::clone(self.point), self.sender.clone());
        let unmount = move || {
            let mut unmounted = point.unmount();
            for _ in 1..ATTEMPTS {
                if unmounted != Err(Errno::EBUSY) {
                    break;
                }
                thread::sleep(PAUSE);
                unmounted = point.unmount();
            }
            // Nobody waits for it any more if that fails.
            let _ = sender.send(Event::Unmounted(unmounted));
        };
        if ending::spawn("unmount", unmount).is_err() {
            self.detach();
        }
    }

    fn detach(&self) {
        // If that fails, the end of the process has the same effect on those who use it.
        let _ = self.point.detach();
    }
}
