//! Servers of which no more is known than how to reach them.

use core::fmt;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use lisafs::wire::{Gid, MkdirAtReq, Uid};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::calls::{O_RDWR, STREAM, at};
use crate::line::Via;
use crate::session::Session;
use crate::target::{Need, Target};
use crate::verdict::{Stop, Verdict};

/// Somebody else, whom a server that may do so gives a directory.
const OTHER: (Uid, Gid) = (Uid(1), Gid(1));

/// A server that was asked what it can do.
///
/// Whether there is access to the host's directory, whether there are read-only connections, and
/// whether connections share a tree, is what the target that it wraps says.
pub struct Probed {
    target: Arc<dyn Target>,
    offered: Vec<Need>,
}

impl Probed {
    /// Asks `target`, over a connection of its own and in a directory that is removed again.
    ///
    /// Whether FIFOs are opened shows only where the host's directory can be reached, as no server
    /// makes one.
    ///
    /// # Errors
    /// If it cannot be reached, if nothing can be made in it, or if its directory is not what the
    /// target says that it is on the host.
    pub fn new(target: Arc<dyn Target>) -> Result<Probed, Stop> {
        let mut session = Session::open(&target, Via::Socket)?;
        let offered = probe(&mut session);
        session.clean()?;
        Ok(Probed {
            offered: offered?,
            target,
        })
    }
}

fn probe(session: &mut Session) -> Result<Vec<Need>, Stop> {
    let host = session.needs(Need::HostAccess).is_ok();
    if host {
        let own = session.host_path("")?;
        if !own.is_dir() {
            let dir = own.display();
            return Err(Stop::failed(format_args!("what is made is not at {dir}")));
        }
    }
    let mut offered = Vec::new();
    // A refusal is an answer, whatever it says.
    let mut note = |need, asked: Verdict| {
        if asked.is_ok() {
            offered.push(need);
        }
        asked.is_ok()
    };
    note(Need::Privileged, owner(session));
    note(Need::UserXattr, attribute(session));
    let bound = note(Need::UnixBind, bind(session));
    if bound {
        note(Need::UnixConnect, connect(session));
    } else if host {
        note(Need::UnixConnect, connect_to_host(session));
    }
    if host {
        note(Need::Fifo, fifo(session));
    }
    Ok(offered)
}

fn owner(session: &mut Session) -> Verdict {
    let mut create = at(session.scratch, 0o755);
    (create.uid, create.gid) = OTHER;
    let name = b"theirs";
    let made = session.call(&MkdirAtReq { create, name })?.child;
    if (made.stat.uid, made.stat.gid) == (OTHER.0.0, OTHER.1.0) {
        Ok(())
    } else {
        Err(Stop::failed("the owner was ignored"))
    }
}

fn attribute(session: &mut Session) -> Verdict {
    let scratch = session.scratch;
    let file = session.file(scratch, b"file", b"")?;
    Ok(session.set_xattr(file, b"user.a", b"value", 0)?)
}

fn bind(session: &mut Session) -> Verdict {
    let scratch = session.scratch;
    let bound = session.bind(scratch, b"bound", STREAM)?;
    Ok(session.listen(bound.id, 1)?)
}

fn connect(session: &mut Session) -> Verdict {
    let scratch = session.scratch;
    let socket = session.find(scratch, b"bound")?.control_fd;
    session.connect(socket, STREAM)?;
    Ok(())
}

fn connect_to_host(session: &mut Session) -> Verdict {
    let path = session.host_path("listener")?;
    let _listener = UnixListener::bind(path).map_err(Stop::failed)?;
    let scratch = session.scratch;
    let socket = session.find(scratch, b"listener")?.control_fd;
    session.connect(socket, STREAM)?;
    Ok(())
}

fn fifo(session: &mut Session) -> Verdict {
    let path = session.host_path("fifo")?;
    mkfifo(&path, Mode::S_IRWXU).map_err(Stop::failed)?;
    let scratch = session.scratch;
    let fifo = session.find(scratch, b"fifo")?.control_fd;
    // Both ends at once: nobody is waited for.
    session.open(fifo, O_RDWR)?;
    Ok(())
}

impl Target for Probed {
    fn name(&self) -> &str {
        self.target.name()
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        self.target.connect(readonly)
    }

    fn host_dir(&self) -> Option<&Path> {
        self.target.host_dir()
    }

    fn offers(&self, need: Need) -> bool {
        match need {
            Need::HostAccess | Need::ReadOnly | Need::SharedTree => self.target.offers(need),
            need => self.offered.contains(&need),
        }
    }
}

impl fmt::Debug for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probed")
            .field("target", &self.target.name())
            .field("offered", &self.offered)
            .finish()
    }
}
