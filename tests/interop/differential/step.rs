//! The steps of random sequences. They name files and ids by choice, not by value, so that any part
//! of a sequence is a sequence.

use lisafs::wire::Mid;

/// Chooses among the ids that a connection has so far: one of the kind that the message takes, or,
/// for the highest numbers, one of another kind, one that is closed, or one of nothing.
pub(super) type Choice = u8;

/// The first that is no choice among the ids of the right kind.
pub(super) const CLOSED: Choice = 240;
/// The first for an id of another kind.
pub(super) const WRONG_KIND: Choice = 246;
/// The one for an id of nothing.
pub(super) const UNKNOWN: Choice = 255;

/// The kinds of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Control,
    Open,
    Bound,
}

pub(super) type Name = &'static str;

/// A step and who takes it.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// The connection.
    pub(super) by: usize,
    /// Which of its communicators.
    pub(super) over: usize,
    pub(super) step: Step,
}

/// One message.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Mount,
    Channel,
    Stat(Choice),
    StatOpen(Choice),
    SetStat(Choice, u32, u32, u64),
    Walk(Choice, Vec<Name>),
    WalkStat(Choice, Vec<Name>),
    Open(Choice, u32),
    Create(Choice, Name, u32, u16),
    Mkdir(Choice, Name, u16),
    Mknod(Choice, Name, u16),
    Symlink(Choice, Name, &'static str),
    Link(Choice, Choice, Name),
    Unlink(Choice, Name, u32),
    Rename(Choice, Name, Choice, Name),
    RenameWith(Choice, Name, Choice, Name, u32),
    Read(Choice, u64, usize),
    Write(Choice, u64, usize),
    Allocate(Choice, u64, u64, u64),
    Sync(Choice),
    Flush(Choice),
    StatFs(Choice),
    ReadLink(Choice),
    Getdents(Choice, i32),
    GetXattr(Choice, Name, u32),
    SetXattr(Choice, Name, usize, u32),
    ListXattr(Choice, u64),
    RemoveXattr(Choice, Name),
    Close(Vec<(Kind, Choice)>),
    Bind(Choice, Name, u32, u16),
    Listen(Choice, i32),
    Accept(Choice),
    Connect(Choice, u32),
    /// With the ids of a user and a group.
    ConnectAs(Choice, u32, u32, u32),
}

impl Step {
    /// Whether a server is the same afterwards, whatever it answers.
    pub(super) fn changes_nothing(&self) -> bool {
        match self {
            Step::Stat(_)
            | Step::StatOpen(_)
            | Step::WalkStat(..)
            | Step::Read(..)
            | Step::Sync(_)
            | Step::Flush(_)
            | Step::StatFs(_)
            | Step::ReadLink(_)
            | Step::GetXattr(..)
            | Step::ListXattr(..) => true,
            // Those that make an id or a connection, or move the offset of a directory, do.
            _ => false,
        }
    }

    /// The message that the step sends.
    pub(super) fn mid(&self) -> Mid {
        match self {
            Step::Mount => Mid::MOUNT,
            Step::Channel => Mid::CHANNEL,
            Step::Stat(_) | Step::StatOpen(_) => Mid::FSTAT,
            Step::SetStat(..) => Mid::SET_STAT,
            Step::Walk(..) => Mid::WALK,
            Step::WalkStat(..) => Mid::WALK_STAT,
            Step::Open(..) => Mid::OPEN_AT,
            Step::Create(..) => Mid::OPEN_CREATE_AT,
            Step::Mkdir(..) => Mid::MKDIR_AT,
            Step::Mknod(..) => Mid::MKNOD_AT,
            Step::Symlink(..) => Mid::SYMLINK_AT,
            Step::Link(..) => Mid::LINK_AT,
            Step::Unlink(..) => Mid::UNLINK_AT,
            Step::Rename(..) => Mid::RENAME_AT,
            Step::RenameWith(..) => Mid::RENAME_AT2,
            Step::Read(..) => Mid::PREAD,
            Step::Write(..) => Mid::PWRITE,
            Step::Allocate(..) => Mid::FALLOCATE,
            Step::Sync(_) => Mid::FSYNC,
            Step::Flush(_) => Mid::FLUSH,
            Step::StatFs(_) => Mid::FSTAT_FS,
            Step::ReadLink(_) => Mid::READ_LINK_AT,
            Step::Getdents(..) => Mid::GETDENTS64,
            Step::GetXattr(..) => Mid::FGET_XATTR,
            Step::SetXattr(..) => Mid::FSET_XATTR,
            Step::ListXattr(..) => Mid::FLIST_XATTR,
            Step::RemoveXattr(..) => Mid::FREMOVE_XATTR,
            Step::Close(_) => Mid::CLOSE,
            Step::Bind(..) => Mid::BIND_AT,
            Step::Listen(..) => Mid::LISTEN,
            Step::Accept(_) => Mid::ACCEPT,
            Step::Connect(..) => Mid::CONNECT,
            Step::ConnectAs(..) => Mid::CONNECT_WITH_CREDS,
        }
    }
}
