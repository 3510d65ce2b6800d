//! Every message, asked for an object in every state.

mod rows;
mod stage;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::schema;
use lisafs::wire::{FdId, Mid, Reader, messages};

use self::rows::ROWS;
use crate::case::Plain;
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::target::Need;
use crate::verdict::{Stop, Verdict, ensure, same};

/// What is special about the object that the request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Ok,
    /// It has lost its name.
    Deleted,
    /// The connection can only be read from.
    ReadOnly,
    /// It is of a kind that the message is not for.
    WrongKind,
    /// There is none.
    UnknownId,
    /// There was one.
    ClosedId,
    /// It is a bound socket, which few messages are for.
    BoundSocket,
}

impl State {
    const ALL: [State; 7] = [
        State::Ok,
        State::Deleted,
        State::ReadOnly,
        State::WrongKind,
        State::UnknownId,
        State::ClosedId,
        State::BoundSocket,
    ];

    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Deleted => "deleted",
            State::ReadOnly => "read_only",
            State::WrongKind => "wrong_kind",
            State::UnknownId => "unknown_id",
            State::ClosedId => "closed_id",
            State::BoundSocket => "bound_socket",
        }
    }
}

/// What the server must answer.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// A reply that decodes.
    Success,
    /// This error.
    Refusal(Errno),
    /// The question makes no sense, for this reason.
    NotApplicable(&'static str),
}

/// The kinds of objects that ids name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// The message names none.
    None,
    Directory,
    File,
    Symlink,
    /// A listening socket.
    Socket,
    OpenFile,
    OpenDirectory,
    /// A listening one with a connection pending.
    BoundSocket,
    /// A File, for a message that takes OpenFds as well.
    FileOrOpenFile,
}

/// The ids that a request can name.
#[derive(Clone, Copy, Debug)]
struct Ids {
    /// The one that the cell is about.
    subject: FdId,
    /// A directory in which all is well. It holds `file`.
    directory: FdId,
    /// A regular file in which all is well.
    file: FdId,
    /// An owner whom the server may act as.
    owner: (u32, u32),
}

/// A message, or one of the ids that it takes.
#[derive(Debug)]
struct Row {
    mid: Mid,
    /// Which of several ids or forms of the message the row is about.
    part: &'static str,
    subject: Subject,
    needs: &'static [Need],
    request: fn(&Ids) -> Result<Vec<u8>, Error>,
    ok: Expected,
    deleted: Expected,
    read_only: Expected,
    wrong_kind: Expected,
    unknown_id: Expected,
}

impl Row {
    fn expected(&self, state: State) -> Expected {
        match state {
            State::Ok => self.ok,
            State::Deleted => self.deleted,
            State::ReadOnly => self.read_only,
            State::WrongKind => self.wrong_kind,
            // An id means nothing after its end, and is not used again.
            State::UnknownId | State::ClosedId => self.unknown_id,
            State::BoundSocket => match self.subject {
                Subject::BoundSocket => Expected::NotApplicable("it is what the message is for"),
                Subject::FileOrOpenFile => Expected::NotApplicable("it is the wrong kind here"),
                _ => self.wrong_kind,
            },
        }
    }
}

/// A row in one state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    row: &'static Row,
    state: State,
}

/// The cells in which there is something to ask.
pub(crate) fn cells() -> impl Iterator<Item = Cell> {
    ROWS.iter()
        .flat_map(|row| State::ALL.map(|state| Cell { row, state }))
        .filter(|cell| !matches!(cell.expected(), Expected::NotApplicable(_)))
}

pub(crate) const CASES: &[Plain] = &[Plain::new(
    "matrix.every_message_has_a_row",
    every_message_has_a_row,
)];

fn every_message_has_a_row(_: &mut Session, _: FdId) -> Verdict {
    for message in messages() {
        ensure!(
            ROWS.iter().any(|row| row.mid == message.mid),
            "no row for {}",
            message.name
        );
    }
    Ok(())
}

impl Cell {
    fn expected(self) -> Expected {
        self.row.expected(self.state)
    }

    pub(crate) fn name(self) -> String {
        let part = if self.row.part.is_empty() {
            String::new()
        } else {
            format!(".{}", self.row.part)
        };
        format!("matrix.{}{part}.{}", self.row.mid, self.state.name())
    }

    pub(crate) fn needs(self) -> Vec<Need> {
        let mut needs = self.row.needs.to_vec();
        if self.state == State::ReadOnly {
            needs.push(Need::ReadOnly);
        }
        let binds = self.state == State::BoundSocket
            || (self.state == State::WrongKind && self.row.subject == Subject::FileOrOpenFile);
        if binds {
            needs.push(Need::UnixBind);
        }
        needs
    }

    pub(crate) fn ask(self, session: &mut Session) -> Verdict {
        // Whether it is offered or not, a client may take it to be there.
        if self.row.mid != Mid::FLUSH {
            session.needs_message(self.row.mid)?;
        }
        let mut readonly = match self.state {
            State::ReadOnly => Some(session.attach(true)?),
            _ => None,
        };
        let stage = stage::set(session, readonly.as_mut(), self.row.subject, self.state)?;
        let body = (self.row.request)(&stage.ids)?;
        // A refusal has no effect, whatever it is that is refused.
        let before = match self.expected() {
            Expected::Refusal(_) => Some(Snapshot::take(session, stage.nameless.as_ref())?),
            _ => None,
        };
        let caller = match &mut readonly {
            Some(mount) => &mut **mount,
            None => &mut ***session,
        };
        let answer = caller.raw(self.row.mid, &body)?;
        match self.expected() {
            Expected::Refusal(errno) => {
                answer.refused(errno)?;
                if let Some(before) = before {
                    let after = Snapshot::take(session, stage.nameless.as_ref())?;
                    after.unchanged_since(&before)?;
                }
                Ok(())
            }
            Expected::Success => {
                if let Some(errno) = answer.errno() {
                    return Err(Stop::failed(format_args!("{errno:?}, not success")));
                }
                same!(answer.mid, self.row.mid, "the number of the reply");
                let message = self.row.mid.message().ok_or(Errno::EINVAL)?;
                let mut reply = Reader::new(&answer.body);
                schema::decode(message.reply, &mut reply)?;
                ensure!(reply.rest().is_empty(), "bytes behind the reply");
                ensure!(answer.fds.len() <= message.max_fds, "too many descriptors");
                Ok(())
            }
            Expected::NotApplicable(why) => Err(Stop::skipped(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Expected, ROWS, State, cells, messages};

    #[test]
    fn every_message_has_a_row_and_every_row_another_name() {
        for message in messages() {
            assert!(
                ROWS.iter().any(|row| row.mid == message.mid),
                "{}",
                message.name
            );
        }
        let names: HashSet<String> = cells().map(super::Cell::name).collect();
        assert_eq!(names.len(), cells().count());
    }

    /// The table of messages says which of them a read-only connection refuses.
    #[test]
    fn read_only_cells_agree_with_the_table_of_messages() {
        for row in ROWS {
            let refused = matches!(row.read_only, Expected::Refusal(_));
            // OpenAt depends on the flags, and there are no bound sockets to ask for.
            let depends =
                row.part == "for_writing" || matches!(row.read_only, Expected::NotApplicable(_));
            let mutates = row.mid.message().unwrap().mutates;
            assert!(refused == mutates || depends, "{} {}", row.mid, row.part);
        }
    }

    #[test]
    fn what_cannot_be_asked_has_a_reason() {
        for row in ROWS {
            for state in State::ALL {
                if let Expected::NotApplicable(why) = row.expected(state) {
                    assert!(!why.is_empty(), "{} {}", row.mid, state.name());
                }
            }
        }
    }
}
