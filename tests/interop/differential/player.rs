//! Plays steps to a server, and says what it answered in words that hold for any server.

use std::rc::Rc;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{FdId, FileType, Mid, SetStat};
use lisafs_conformance::{Stop, Via};

use super::seat::{Seat, Table};
use super::servers::Served;
use super::step::{Choice, Kind, Step, Turn};

/// What a step came to: the reply in words, or the name of the error.
pub(super) type Seen = Result<String, String>;

/// How many connections a sequence is played over.
pub(super) const SEATS: usize = 2;

/// The connections to one server.
pub(super) struct Player {
    seats: Vec<Seat>,
    /// A file was given a second name.
    linked: bool,
}

impl Player {
    pub(super) fn new(server: &dyn Served, via: Via) -> Result<Player, String> {
        let table = Rc::<Table>::default();
        let sit = || {
            let stream = server.connect()?;
            Seat::new(stream, via, &table).map_err(|stop: Stop| format!("{stop:?}"))
        };
        Ok(Player {
            seats: (0..SEATS).map(|_| sit()).collect::<Result<_, _>>()?,
            linked: false,
        })
    }

    /// Whether the server says that it has the message.
    pub(super) fn offers(&self, mid: Mid) -> bool {
        self.seats.iter().all(|seat| seat.supported.contains(mid))
    }

    /// Whether a turn goes over a channel that a step has opened.
    pub(super) fn goes_over_added(&self, turn: &Turn) -> bool {
        self.seats[turn.by % SEATS].is_added(turn.over)
    }

    pub(super) fn play(&mut self, turn: &Turn) -> Seen {
        let seat = &mut self.seats[turn.by % SEATS];
        let seen = seat.ask(turn.over, &turn.step);
        self.linked |= seen.is_ok() && turn.step.mid() == Mid::LINK_AT;
        seen.map_err(|error| match error {
            Error::Remote(errno) => format!("{errno:?}"),
            // A reply that says so of the one attribute that was to be set.
            Error::Local(errno) => format!("{errno:?} in part"),
            other if seat.timed_out() => format!("no answer in time: {other:?}"),
            other => format!("no answer: {other:?}"),
        })
    }

    /// Whether gVisor's server would part with this one for good, though all answers are equal. This
    /// one has to be ours, which is asked about the files.
    pub(super) fn would_part(&mut self, turn: &Turn) -> bool {
        let linked = self.linked;
        let seat = &mut self.seats[turn.by % SEATS];
        match turn.step {
            // A rename between two names of one file changes nothing, but its target counts as deleted
            // from then on.
            Step::Rename(from, old, to, new) | Step::RenameWith(from, old, to, new, _) => {
                seat.are_links((from, old), (to, new))
            }
            // The mode of a socket is set by host path, whatever is there now.
            Step::SetStat(fd, mask, ..) if mask & SetStat::MODE.bits() != 0 => {
                let fd = seat.control(fd);
                seat.is_socket(fd) && seat.is_deleted(fd)
            }
            // The release of a node that was deleted takes the one along that has its name now.
            Step::Close(ref which) => seat.releases_deleted(which, linked),
            _ => false,
        }
    }
}

impl Seat {
    fn are_links(&mut self, old: (Choice, &str), new: (Choice, &str)) -> bool {
        let mut ino = |(dir, name): (Choice, &str)| {
            let dir = self.control(dir);
            let found = self.line().walk_stat(dir, &[name.as_bytes()]).ok()?;
            found.first().map(|stat| stat.ino)
        };
        let old = ino(old);
        old.is_some() && old == ino(new)
    }

    fn is_socket(&mut self, control: FdId) -> bool {
        let stat = self.line().stat(control);
        stat.is_ok_and(|stat| stat.file_type() == FileType::Socket)
    }

    /// Our server says so when it is asked for an attribute with a name that could exist.
    fn is_deleted(&mut self, control: FdId) -> bool {
        let refused = self.line().get_xattr(control, b"user.a", 0);
        matches!(refused, Err(Error::Remote(Errno::EINVAL)))
    }

    /// Whether a Close may be the last of what a deleted node is held by. An OpenFd holds its own, and
    /// only its count of links can tell then, as long as that was never above one.
    fn releases_deleted(&mut self, which: &[(Kind, Choice)], linked: bool) -> bool {
        self.chosen(which).into_iter().any(|fd| {
            if self.is_control(fd) {
                self.is_deleted(fd)
            } else if self.outlives_its_control(fd) {
                let stat = self.line().stat(fd);
                linked || stat.is_ok_and(|stat| stat.nlink == 0)
            } else {
                false
            }
        })
    }
}
