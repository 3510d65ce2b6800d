//! The rows of the matrix: one for each message, or for each of its ids.

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{
    AcceptReq, Array, BindAtReq, ChannelReq, CloseReq, ConnectReq, ConnectWithCredsReq,
    FAllocateReq, FGetXattrReq, FListXattrReq, FRemoveXattrReq, FSetXattrReq, FStatFsReq, FSyncReq,
    FdId, FlushReq, Getdents64Req, Gid, LinkAtReq, ListenReq, Mid, MkdirAtReq, MknodAtReq,
    MountReq, OpenAtReq, OpenCreateAtReq, PReadReq, PWriteReq, ReadLinkAtReq, RenameAt2Req,
    RenameAtReq, SetStat, SetStatReq, StatReq, StringArrayBuf, SymlinkAtReq, Uid, UnlinkAtReq,
    WalkReq, WalkStatReq,
};

use super::Expected::{NotApplicable, Refusal, Success};
use super::{Expected, Ids, Row, Subject};
use crate::caller::encoded;
use crate::calls::{MANY, O_RDONLY, O_RDWR, STREAM, at};
use crate::target::Need;

const EBADF: Expected = Refusal(Errno::EBADF);
const EINVAL: Expected = Refusal(Errno::EINVAL);
const EROFS: Expected = Refusal(Errno::EROFS);
const NAMES_NOTHING: Expected = NotApplicable("the message names no object");
const NOT_BOUND: Expected = NotApplicable("a read-only connection binds no sockets");

/// The row of a message that names no object.
const fn plain(mid: Mid, request: fn(&Ids) -> Result<Vec<u8>, Error>) -> Row {
    Row {
        mid,
        part: "",
        subject: Subject::None,
        needs: &[],
        request,
        ok: Success,
        deleted: NAMES_NOTHING,
        read_only: Success,
        wrong_kind: NAMES_NOTHING,
        unknown_id: NAMES_NOTHING,
    }
}

/// The row of a message that reads from an object which can have lost its name.
const fn reads(mid: Mid, subject: Subject, request: fn(&Ids) -> Result<Vec<u8>, Error>) -> Row {
    Row {
        mid,
        part: "",
        subject,
        needs: &[],
        request,
        ok: Success,
        deleted: Success,
        read_only: Success,
        wrong_kind: EINVAL,
        unknown_id: EBADF,
    }
}

/// The row of a message that changes something about an object which must have a name.
const fn changes(mid: Mid, subject: Subject, request: fn(&Ids) -> Result<Vec<u8>, Error>) -> Row {
    Row {
        deleted: EINVAL,
        read_only: EROFS,
        ..reads(mid, subject, request)
    }
}

impl Row {
    const fn part(mut self, part: &'static str) -> Row {
        self.part = part;
        self
    }

    const fn needs(mut self, needs: &'static [Need]) -> Row {
        self.needs = needs;
        self
    }

    const fn deleted(mut self, expected: Expected) -> Row {
        self.deleted = expected;
        self
    }

    const fn read_only(mut self, expected: Expected) -> Row {
        self.read_only = expected;
        self
    }

    const fn wrong_kind(mut self, expected: Expected) -> Row {
        self.wrong_kind = expected;
        self
    }

    const fn unknown_id(mut self, expected: Expected) -> Row {
        self.unknown_id = expected;
        self
    }
}

const SOCKETS: &[Need] = &[Need::UnixBind, Need::UnixConnect];

#[rustfmt::skip] // a line for each
pub(super) static ROWS: &[Row] = &[
    plain(Mid::MOUNT, |_| encoded(&MountReq {})),
    plain(Mid::CHANNEL, |_| encoded(&ChannelReq {})),
    reads(Mid::FSTAT, Subject::FileOrOpenFile, |ids| encoded(&StatReq { fd: ids.subject })),
    reads(Mid::FSTAT, Subject::OpenFile, |ids| encoded(&StatReq { fd: ids.subject }))
        .part("open")
        .wrong_kind(NotApplicable("what is no open file is a file")),
    changes(Mid::SET_STAT, Subject::File, set_mode).deleted(Success),
    reads(Mid::WALK, Subject::Directory, walk),
    reads(Mid::WALK_STAT, Subject::Directory, walk_stat),
    reads(Mid::OPEN_AT, Subject::File, |ids| encoded(&OpenAtReq { fd: ids.subject, flags: O_RDONLY })),
    reads(Mid::OPEN_AT, Subject::File, |ids| encoded(&OpenAtReq { fd: ids.subject, flags: O_RDWR }))
        .part("for_writing")
        .read_only(EROFS),
    changes(Mid::OPEN_CREATE_AT, Subject::Directory, open_create),
    reads(Mid::CLOSE, Subject::File, |ids| encoded(&CloseReq { fds: Array::new(&[ids.subject]) }))
        .wrong_kind(NotApplicable("ids of all kinds are closed"))
        .unknown_id(Success),
    reads(Mid::FSYNC, Subject::OpenFile, |ids| encoded(&FSyncReq { fds: Array::new(&[ids.subject]) })),
    changes(Mid::PWRITE, Subject::OpenFile, pwrite).deleted(Success),
    reads(Mid::PREAD, Subject::OpenFile, |ids| {
        encoded(&PReadReq { offset: 0, fd: ids.subject, count: 16 })
    }),
    changes(Mid::MKDIR_AT, Subject::Directory, |ids| {
        encoded(&MkdirAtReq { create: at(ids.subject, 0o755), name: b"new" })
    }),
    changes(Mid::MKNOD_AT, Subject::Directory, mknod),
    changes(Mid::SYMLINK_AT, Subject::Directory, symlink),
    changes(Mid::LINK_AT, Subject::Directory, |ids| link(ids.subject, ids.file)).part("directory"),
    changes(Mid::LINK_AT, Subject::File, |ids| link(ids.directory, ids.subject)).part("target"),
    reads(Mid::FSTAT_FS, Subject::File, |ids| encoded(&FStatFsReq { fd: ids.subject })),
    changes(Mid::FALLOCATE, Subject::OpenFile, |ids| {
        encoded(&FAllocateReq { fd: ids.subject, mode: 0, offset: 0, length: 4096 })
    })
    .deleted(Success),
    reads(Mid::READ_LINK_AT, Subject::Symlink, |ids| encoded(&ReadLinkAtReq { fd: ids.subject }))
        .deleted(EINVAL),
    reads(Mid::FLUSH, Subject::OpenFile, |ids| encoded(&FlushReq { fd: ids.subject })),
    reads(Mid::CONNECT, Subject::Socket, |ids| {
        encoded(&ConnectReq { fd: ids.subject, sock_type: STREAM })
    })
    .deleted(EINVAL)
    .needs(SOCKETS),
    changes(Mid::UNLINK_AT, Subject::Directory, |ids| {
        encoded(&UnlinkAtReq { dir_fd: ids.subject, flags: 0, name: b"child" })
    }),
    changes(Mid::RENAME_AT, Subject::Directory, |ids| {
        rename((ids.subject, b"child"), (ids.directory, b"moved"))
    })
    .part("old_dir"),
    changes(Mid::RENAME_AT, Subject::Directory, |ids| {
        rename((ids.directory, b"file"), (ids.subject, b"moved"))
    })
    .part("new_dir"),
    reads(Mid::GETDENTS64, Subject::OpenDirectory, |ids| {
        encoded(&Getdents64Req { dir_fd: ids.subject, count: MANY })
    })
    .deleted(EINVAL),
    reads(Mid::FGET_XATTR, Subject::File, |ids| {
        encoded(&FGetXattrReq { fd: ids.subject, buf_size: 0, name: b"user.a" })
    })
    .deleted(EINVAL)
    .needs(&[Need::UserXattr]),
    changes(Mid::FSET_XATTR, Subject::File, set_xattr).needs(&[Need::UserXattr]),
    reads(Mid::FLIST_XATTR, Subject::File, |ids| encoded(&FListXattrReq { fd: ids.subject, size: 0 }))
        .deleted(EINVAL)
        .needs(&[Need::UserXattr]),
    changes(Mid::FREMOVE_XATTR, Subject::File, |ids| {
        encoded(&FRemoveXattrReq { fd: ids.subject, name: b"user.a" })
    })
    .needs(&[Need::UserXattr]),
    changes(Mid::BIND_AT, Subject::Directory, |ids| {
        encoded(&BindAtReq { create: at(ids.subject, 0o755), sock_type: STREAM, name: b"new" })
    })
    .needs(&[Need::UnixBind]),
    reads(Mid::LISTEN, Subject::BoundSocket, |ids| encoded(&ListenReq { fd: ids.subject, backlog: 8 }))
        .deleted(EINVAL)
        .read_only(NOT_BOUND)
        .needs(&[Need::UnixBind]),
    reads(Mid::ACCEPT, Subject::BoundSocket, |ids| encoded(&AcceptReq { fd: ids.subject }))
        .deleted(EINVAL)
        .read_only(NOT_BOUND)
        .needs(SOCKETS),
    reads(Mid::CONNECT_WITH_CREDS, Subject::Socket, connect_with_creds)
        .deleted(EINVAL)
        .needs(SOCKETS),
    changes(Mid::RENAME_AT2, Subject::Directory, |ids| {
        rename_with((ids.subject, b"child"), (ids.directory, b"moved"))
    })
    .part("old_dir"),
    changes(Mid::RENAME_AT2, Subject::Directory, |ids| {
        rename_with((ids.directory, b"file"), (ids.subject, b"moved"))
    })
    .part("new_dir"),
];

fn set_mode(ids: &Ids) -> Result<Vec<u8>, Error> {
    encoded(&SetStatReq {
        mask: SetStat::MODE.bits(),
        mode: 0o600,
        ..SetStatReq::new(ids.subject)
    })
}

fn walk(ids: &Ids) -> Result<Vec<u8>, Error> {
    let path = StringArrayBuf::collect([&b"child"[..]])?;
    encoded(&WalkReq {
        dir_fd: ids.subject,
        path: path.as_array(),
    })
}

fn walk_stat(ids: &Ids) -> Result<Vec<u8>, Error> {
    let path = StringArrayBuf::collect([&b""[..], b"child"])?;
    encoded(&WalkStatReq {
        dir_fd: ids.subject,
        path: path.as_array(),
    })
}

fn open_create(ids: &Ids) -> Result<Vec<u8>, Error> {
    encoded(&OpenCreateAtReq {
        create: at(ids.subject, 0o644),
        flags: O_RDWR,
        name: b"new",
    })
}

fn pwrite(ids: &Ids) -> Result<Vec<u8>, Error> {
    let mut request = encoded(&PWriteReq {
        offset: 0,
        fd: ids.subject,
        num_bytes: 4,
    })?;
    request.extend_from_slice(b"data");
    Ok(request)
}

fn mknod(ids: &Ids) -> Result<Vec<u8>, Error> {
    encoded(&MknodAtReq {
        create: at(ids.subject, 0o100_644),
        minor: 0,
        major: 0,
        name: b"new",
    })
}

fn symlink(ids: &Ids) -> Result<Vec<u8>, Error> {
    encoded(&SymlinkAtReq {
        dir_fd: ids.subject,
        uid: Uid::NONE,
        gid: Gid::NONE,
        name: b"new",
        target: b"target",
    })
}

fn link(dir_fd: FdId, target_fd: FdId) -> Result<Vec<u8>, Error> {
    encoded(&LinkAtReq {
        dir_fd,
        target_fd,
        name: b"link",
    })
}

fn rename(old: (FdId, &[u8]), new: (FdId, &[u8])) -> Result<Vec<u8>, Error> {
    encoded(&RenameAtReq {
        old_dir: old.0,
        new_dir: new.0,
        old_name: old.1,
        new_name: new.1,
    })
}

fn rename_with(old: (FdId, &[u8]), new: (FdId, &[u8])) -> Result<Vec<u8>, Error> {
    encoded(&RenameAt2Req {
        old_dir: old.0,
        new_dir: new.0,
        old_name: old.1,
        new_name: new.1,
        flags: 0,
    })
}

fn set_xattr(ids: &Ids) -> Result<Vec<u8>, Error> {
    encoded(&FSetXattrReq {
        fd: ids.subject,
        flags: 0,
        name: b"user.b",
        value: b"value",
    })
}

fn connect_with_creds(ids: &Ids) -> Result<Vec<u8>, Error> {
    encoded(&ConnectWithCredsReq {
        fd: ids.subject,
        sock_type: STREAM,
        uid: Uid(ids.owner.0),
        gid: Gid(ids.owner.1),
    })
}
