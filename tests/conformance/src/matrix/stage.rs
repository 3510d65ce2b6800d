//! Objects in the states that the matrix asks about.

use lisafs::wire::FdId;

use super::{Ids, State, Subject};
use crate::calls::{O_RDONLY, O_RDWR, STREAM, at};
use crate::session::{Mount, Session};
use crate::snapshot::{self, Nameless};
use crate::target::Need;
use crate::verdict::{Stop, Verdict};

/// An id that no server has given out.
const UNKNOWN: FdId = FdId(0x7fff_dead_beef);

/// The name of the subject in the case's directory.
const SUBJECT: &str = "subject";
const NAME: &[u8] = SUBJECT.as_bytes();

/// What a request of the cell can name, and what is in no directory any more.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) ids: Ids,
    pub(super) nameless: Option<Nameless>,
}

/// Makes a subject of a kind, in a state, and what else a request can name.
pub(super) fn set(
    session: &mut Session,
    readonly: Option<&mut Mount>,
    subject: Subject,
    state: State,
) -> Result<Stage, Stop> {
    let scratch = session.scratch;
    let mut nameless = None;
    let mut ids = Ids {
        subject: UNKNOWN,
        directory: scratch,
        file: session.file(scratch, b"file", b"content")?,
        owner: (session.root.stat.uid, session.root.stat.gid),
    };
    let made = make(session, subject)?;
    ids.subject = match (state, readonly) {
        (State::Ok, _) => made,
        (State::Deleted, _) => {
            // FStat is not for a bound socket.
            nameless = match session.host_path(SUBJECT) {
                Ok(path) => Some(Nameless::Held(snapshot::hold(&path)?)),
                Err(_) if subject == Subject::BoundSocket => None,
                Err(_) => Some(Nameless::Known(made)),
            };
            delete(session, subject)?;
            made
        }
        (State::UnknownId, _) => UNKNOWN,
        (State::ClosedId, _) => {
            session.close(&[made])?;
            made
        }
        (State::BoundSocket, _) => session.bind(scratch, b"bound", STREAM)?.id,
        (State::WrongKind, _) => of_wrong_kind(session, subject, ids.file)?,
        (State::ReadOnly, Some(readonly)) => {
            ids.directory = readonly.scratch;
            ids.file = readonly.find(ids.directory, b"file")?.control_fd;
            find(readonly, subject)?
        }
        (State::ReadOnly, None) => return Err(Stop::failed("no read-only connection")),
    };
    Ok(Stage { ids, nameless })
}

fn make(session: &mut Session, subject: Subject) -> Result<FdId, Stop> {
    let scratch = session.scratch;
    Ok(match subject {
        Subject::None => scratch,
        Subject::Directory => {
            let directory = session.mkdir(scratch, NAME)?.control_fd;
            session.file(directory, b"child", b"")?;
            directory
        }
        Subject::File | Subject::FileOrOpenFile => {
            let file = session.file(scratch, NAME, b"content")?;
            if session.needs(Need::UserXattr).is_ok() {
                session.set_xattr(file, b"user.a", b"value", 0)?;
            }
            file
        }
        Subject::Symlink => session.symlink(scratch, NAME, b"target")?.control_fd,
        Subject::OpenFile => {
            let file = session.file(scratch, NAME, b"content")?;
            session.open(file, O_RDWR)?.id
        }
        Subject::OpenDirectory => {
            let directory = session.mkdir(scratch, NAME)?.control_fd;
            session.open(directory, O_RDONLY)?.id
        }
        Subject::Socket | Subject::BoundSocket => {
            let bound = session.bind_as(at(scratch, 0o777), NAME, STREAM)?;
            session.listen(bound.id, 8)?;
            if subject == Subject::Socket {
                return Ok(bound.inode.control_fd);
            }
            if session.needs(Need::UnixConnect).is_ok() {
                session.connect(bound.inode.control_fd, STREAM)?;
            }
            bound.id
        }
    })
}

fn delete(session: &mut Session, subject: Subject) -> Verdict {
    let scratch = session.scratch;
    match subject {
        Subject::Directory => {
            let directory = session.find(scratch, NAME)?.control_fd;
            session.unlink(directory, b"child")?;
            session.rmdir(scratch, NAME)?;
        }
        Subject::OpenDirectory => session.rmdir(scratch, NAME)?,
        _ => session.unlink(scratch, NAME)?,
    }
    Ok(())
}

fn of_wrong_kind(session: &mut Session, subject: Subject, file: FdId) -> Result<FdId, Stop> {
    let scratch = session.scratch;
    Ok(match subject {
        Subject::OpenFile | Subject::OpenDirectory | Subject::BoundSocket => file,
        Subject::FileOrOpenFile => session.bind(scratch, b"bound", STREAM)?.id,
        _ => session.open(file, O_RDONLY)?.id,
    })
}

fn find(readonly: &mut Mount, subject: Subject) -> Result<FdId, Stop> {
    let scratch = readonly.scratch;
    Ok(match subject {
        Subject::None => scratch,
        Subject::OpenFile | Subject::OpenDirectory => {
            let found = readonly.find(scratch, NAME)?.control_fd;
            readonly.open(found, O_RDONLY)?.id
        }
        _ => readonly.find(scratch, NAME)?.control_fd,
    })
}
