//! One connection of a player: its communicators, and the ids that it has been given.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use lisafs::client::{Error, SupportedMids};
use lisafs::wire::{
    Array, CloseReq, CreateCommon, FdId, FileType, Gid, Inode, MountReq, Request, Statx, Uid,
};
use lisafs_conformance::{Caller, Stop, Via};

use super::step::{CLOSED, Choice, Kind, Step, UNKNOWN, WRONG_KIND};

/// No server ever gives it.
const NOTHING: FdId = FdId(1 << 40);

/// What the connections of a player have in common.
#[derive(Default)]
pub(super) struct Table {
    /// The files in the order they were met: inode numbers differ from tree to tree.
    files: RefCell<HashMap<u64, usize>>,
    /// How many connections to sockets there were.
    pub(super) connections: Cell<u8>,
}

pub(super) struct Seat {
    lines: Vec<Caller>,
    /// How many there were at first.
    first: usize,
    /// Which of them the step goes over.
    line: usize,
    pub(super) supported: SupportedMids,
    pub(super) controls: Vec<FdId>,
    opens: Vec<FdId>,
    pub(super) bounds: Vec<FdId>,
    /// The ControlFds of the bound sockets, which are good for connecting alone: with gVisor's server
    /// they are the socket, which is not the file, and have one descriptor with the BoundSocketFd.
    pub(super) sockets: Vec<FdId>,
    closed: Vec<FdId>,
    /// What each OpenFd was opened from.
    opened_from: HashMap<FdId, FdId>,
    /// Sockets that were donated. As long as there are others, the server's own can be closed without a
    /// difference: gVisor's closes one that has listened only when memory is short.
    pub(super) donated: Vec<OwnedFd>,
    pub(super) table: Rc<Table>,
}

impl Seat {
    pub(super) fn new(stream: UnixStream, via: Via, table: &Rc<Table>) -> Result<Seat, Stop> {
        let mut socket = Caller::new(stream)?;
        let mount = socket.mount()?;
        let lines = match via {
            Via::Socket => vec![socket],
            Via::Channel => vec![socket.channel()?, socket],
        };
        let seat = Seat {
            first: lines.len(),
            lines,
            line: 0,
            supported: mount.supported,
            controls: vec![mount.root.control_fd],
            opens: Vec::new(),
            bounds: Vec::new(),
            sockets: Vec::new(),
            closed: Vec::new(),
            opened_from: HashMap::new(),
            donated: Vec::new(),
            table: Rc::clone(table),
        };
        seat.described(&mount.root.stat);
        Ok(seat)
    }

    pub(super) fn line(&mut self) -> &mut Caller {
        &mut self.lines[self.line]
    }

    pub(super) fn call<R: Request>(&mut self, request: &R) -> Result<R::Reply<'_>, Error> {
        self.line().call(request)
    }

    pub(super) fn is_added(&self, over: usize) -> bool {
        over % self.lines.len() >= self.first
    }

    /// Plays `step` over one of the communicators.
    pub(super) fn ask(&mut self, over: usize, step: &Step) -> Result<String, Error> {
        self.line = over % self.lines.len();
        let seen = match step {
            Step::Mount => {
                let root = self.call(&MountReq {})?.root;
                self.made(root)
            }
            Step::Channel => {
                let channel = self.line().channel()?;
                self.lines.push(channel);
                format!("{} communicators", self.lines.len())
            }
            Step::Close(which) => {
                let fds = self.chosen(which);
                let request = CloseReq {
                    fds: Array::new(&fds),
                };
                self.call(&request)?;
                self.forget(&fds);
                String::new()
            }
            _ => self.ask_about_names(step)?,
        };
        let donated = self.line().take_fds().len();
        Ok(format!("{seen} with {donated} descriptors"))
    }

    pub(super) fn id(&self, kind: Kind, choice: Choice) -> FdId {
        let [right, one, other] = match kind {
            Kind::Control => [&self.controls, &self.opens, &self.bounds],
            Kind::Open => [&self.opens, &self.controls, &self.bounds],
            Kind::Bound => [&self.bounds, &self.controls, &self.opens],
        };
        let from = match choice {
            UNKNOWN => return NOTHING,
            WRONG_KIND.. if choice.is_multiple_of(2) => one,
            WRONG_KIND.. => other,
            CLOSED.. => &self.closed,
            _ => right,
        };
        match from.len() {
            0 => NOTHING,
            len => from[usize::from(choice) % len],
        }
    }

    pub(super) fn control(&self, choice: Choice) -> FdId {
        self.id(Kind::Control, choice)
    }

    pub(super) fn open(&self, choice: Choice) -> FdId {
        self.id(Kind::Open, choice)
    }

    /// What a Close is about. The last ControlFd stays: nothing could be done without.
    pub(super) fn chosen(&self, which: &[(Kind, Choice)]) -> Vec<FdId> {
        let ids = which.iter().map(|&(kind, choice)| self.id(kind, choice));
        ids.filter(|id| self.controls != [*id]).collect()
    }

    fn forget(&mut self, fds: &[FdId]) {
        for ids in [&mut self.controls, &mut self.opens, &mut self.bounds] {
            self.closed
                .extend(ids.extract_if(.., |id| fds.contains(id)));
        }
    }

    pub(super) fn is_control(&self, fd: FdId) -> bool {
        self.controls.contains(&fd)
    }

    /// Whether `fd` is an OpenFd whose ControlFd is closed.
    pub(super) fn outlives_its_control(&self, fd: FdId) -> bool {
        let from = self.opened_from.get(&fd);
        self.opens.contains(&fd) && from.is_some_and(|from| !self.is_control(*from))
    }

    pub(super) fn create(&self, dir: Choice, mode: u16) -> CreateCommon {
        CreateCommon {
            dir_fd: self.control(dir),
            uid: Uid::NONE,
            gid: Gid::NONE,
            mode,
        }
    }

    /// Takes over a file's id and describes the file.
    pub(super) fn made(&mut self, inode: Inode) -> String {
        self.controls.push(inode.control_fd);
        self.described(&inode.stat)
    }

    pub(super) fn opened(&mut self, open: FdId, from: FdId) {
        self.opens.push(open);
        self.opened_from.insert(open, from);
    }

    pub(super) fn number(&self, ino: u64) -> usize {
        let mut files = self.table.files.borrow_mut();
        let next = files.len();
        *files.entry(ino).or_insert(next)
    }

    /// What of a file's attributes depends on the steps alone. The size of a directory is its file
    /// system's business.
    pub(super) fn described(&self, stat: &Statx) -> String {
        let file = self.number(stat.ino);
        let size = match stat.file_type() {
            FileType::Directory => 0,
            _ => stat.size,
        };
        let owner = (stat.uid, stat.gid);
        format!("#{file} {:o} {} {owner:?} {size}", stat.mode, stat.nlink)
    }

    pub(super) fn timed_out(&self) -> bool {
        self.lines.iter().any(Caller::timed_out)
    }
}
