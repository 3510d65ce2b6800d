//! Where a back end can panic, and the requests in which it does.

use super::super::*;

/// Of what requests make.
const MODE: u16 = 0o644;

/// What a request can name. A directory, and in it a file of each type.
pub(super) struct Ids {
    pub(super) root: FdId,
    directory: FdId,
    file: FdId,
    symlink: FdId,
    socket: FdId,
    open: FdId,
    listing: FdId,
    bound: FdId,
}

impl Ids {
    pub(super) fn new(on: &mut impl Communicator, root: FdId) -> Ids {
        let directory = one(on, root, "d");
        let [file, symlink, socket] = ["f", "l", "s"].map(|name| one(on, directory, name));
        let [open, listing] = [(file, libc::O_RDWR), (directory, 0)].map(|(fd, flags)| {
            let flags = flags.cast_unsigned();
            let opened = on.call(&OpenAtReq { fd, flags }, &mut Reply::new());
            opened.unwrap().open_fd
        });
        let (create, mut reply) = (create_in(directory, MODE), Reply::new());
        let bind = BindAtReq {
            create,
            sock_type: 1,
            name: b"s-bound",
        };
        let bound = on.call(&bind, &mut reply).unwrap().bound_socket_fd;
        Ids {
            root,
            directory,
            file,
            symlink,
            socket,
            open,
            listing,
            bound,
        }
    }
}

pub(super) type Message = (Mid, Vec<u8>);

fn message<R: Request>(request: &R) -> Message {
    let mut body = Vec::new();
    request.encode(&mut body).unwrap();
    (R::MID, body)
}

fn walk_of(dir_fd: FdId, names: &[&str]) -> Message {
    let path = StringArrayBuf::collect(names.iter().map(|name| name.as_bytes())).unwrap();
    let path = path.as_array();
    message(&WalkReq { dir_fd, path })
}

pub(super) fn walk_stat_of(dir_fd: FdId, names: &[&str]) -> Message {
    let path = StringArrayBuf::collect(names.iter().map(|name| name.as_bytes())).unwrap();
    let path = path.as_array();
    message(&WalkStatReq { dir_fd, path })
}

fn rename_of(old: (FdId, &str), new: (FdId, &str)) -> Message {
    message(&RenameAtReq {
        old_dir: old.0,
        new_dir: new.0,
        old_name: old.1.as_bytes(),
        new_name: new.1.as_bytes(),
    })
}

fn rename2_of(ids: &Ids, flags: u32) -> Message {
    message(&RenameAt2Req {
        old_dir: ids.directory,
        new_dir: ids.root,
        old_name: b"f",
        new_name: b"moved",
        flags,
    })
}

/// Where it panics, and in which request.
pub(super) type Place = (&'static str, fn(&Ids) -> Message);

/// Those whose panics are answered.
pub(super) const ANSWERED: &[Place] = &[
    ("ServerImpl::mount", |_| message(&MountReq {})),
    ("ServerImpl::opts", |ids| {
        walk_stat_of(ids.root, &["d", "f"])
    }),
    ("ControlFdImpl::placed", |ids| {
        walk_of(ids.root, &["d", "f"])
    }),
    ("ControlFdImpl::placed", |ids| {
        message(&MkdirAtReq {
            create: create_in(ids.directory, MODE),
            name: b"new",
        })
    }),
    ("ControlFdImpl::stat", |ids| {
        message(&StatReq { fd: ids.file })
    }),
    ("ControlFdImpl::stat", |ids| {
        walk_stat_of(ids.root, &["", "d"])
    }),
    ("ControlFdImpl::set_stat", |ids| {
        message(&SetStatReq {
            mask: SetStat::MODE.bits(),
            ..SetStatReq::new(ids.file)
        })
    }),
    ("ControlFdImpl::walk", |ids| walk_of(ids.root, &["d", "f"])),
    ("ControlFdImpl::walk", |ids| {
        rename_of((ids.root, "d"), (ids.directory, "below"))
    }),
    ("ControlFdImpl::walk_through", |ids| {
        walk_of(ids.root, &["d", "f"])
    }),
    ("ControlFdImpl::open", |ids| {
        message(&OpenAtReq {
            fd: ids.file,
            flags: 0,
        })
    }),
    ("ControlFdImpl::open_create", |ids| {
        message(&OpenCreateAtReq {
            create: create_in(ids.directory, MODE),
            flags: 2,
            name: b"f-new",
        })
    }),
    ("ControlFdImpl::mkdir", |ids| {
        message(&MkdirAtReq {
            create: create_in(ids.directory, MODE),
            name: b"new",
        })
    }),
    ("ControlFdImpl::mknod", |ids| {
        message(&MknodAtReq {
            create: create_in(ids.directory, MODE),
            minor: 0,
            major: 0,
            name: b"f-new",
        })
    }),
    ("ControlFdImpl::symlink", |ids| {
        message(&SymlinkAtReq {
            dir_fd: ids.directory,
            uid: Uid::NONE,
            gid: Gid::NONE,
            name: b"l-new",
            target: b"target",
        })
    }),
    ("ControlFdImpl::link", |ids| {
        message(&LinkAtReq {
            dir_fd: ids.directory,
            target_fd: ids.file,
            name: b"f-new",
        })
    }),
    ("ControlFdImpl::stat_fs", |ids| {
        message(&FStatFsReq { fd: ids.file })
    }),
    ("ControlFdImpl::readlink", |ids| {
        message(&ReadLinkAtReq { fd: ids.symlink })
    }),
    ("ControlFdImpl::connect", |ids| {
        message(&ConnectReq {
            fd: ids.socket,
            sock_type: 1,
        })
    }),
    ("ControlFdImpl::connect_with_creds", |ids| {
        message(&ConnectWithCredsReq {
            fd: ids.socket,
            sock_type: 1,
            uid: Uid(1),
            gid: Gid(1),
        })
    }),
    ("ControlFdImpl::bind_at", |ids| {
        message(&BindAtReq {
            create: create_in(ids.directory, MODE),
            sock_type: 1,
            name: b"s-new",
        })
    }),
    ("ControlFdImpl::unlink", |ids| {
        message(&UnlinkAtReq {
            dir_fd: ids.directory,
            flags: 0,
            name: b"f",
        })
    }),
    ("ControlFdImpl::rename_at", |ids| {
        rename_of((ids.directory, "f"), (ids.root, "f"))
    }),
    ("ControlFdImpl::rename_at2", |ids| rename2_of(ids, 1)),
    ("ControlFdImpl::renamed", |ids| {
        rename_of((ids.root, "d"), (ids.root, "moved"))
    }),
    ("ControlFdImpl::renamed", |ids| rename2_of(ids, 2)),
    ("ControlFdImpl::get_xattr", |ids| {
        message(&FGetXattrReq {
            fd: ids.file,
            buf_size: 0,
            name: b"user.a",
        })
    }),
    ("ControlFdImpl::set_xattr", |ids| {
        message(&FSetXattrReq {
            fd: ids.file,
            flags: 0,
            name: b"user.a",
            value: b"value",
        })
    }),
    ("ControlFdImpl::list_xattr", |ids| {
        message(&FListXattrReq {
            fd: ids.file,
            size: 0,
        })
    }),
    ("ControlFdImpl::remove_xattr", |ids| {
        message(&FRemoveXattrReq {
            fd: ids.file,
            name: b"user.a",
        })
    }),
    ("OpenFdImpl::stat", |ids| message(&StatReq { fd: ids.open })),
    ("OpenFdImpl::sync", |ids| {
        message(&FSyncReq {
            fds: Array::new(&[ids.open, ids.listing]),
        })
    }),
    ("OpenFdImpl::write", |ids| {
        let (mid, mut body) = message(&PWriteReq {
            offset: 0,
            fd: ids.open,
            num_bytes: 4,
        });
        body.extend(b"data");
        (mid, body)
    }),
    ("OpenFdImpl::read", |ids| {
        message(&PReadReq {
            offset: 0,
            fd: ids.open,
            count: 4,
        })
    }),
    ("OpenFdImpl::allocate", |ids| {
        message(&FAllocateReq {
            fd: ids.open,
            mode: 0,
            offset: 0,
            length: 1,
        })
    }),
    ("OpenFdImpl::flush", |ids| {
        message(&FlushReq { fd: ids.open })
    }),
    ("OpenFdImpl::getdents64", |ids| {
        message(&Getdents64Req {
            dir_fd: ids.listing,
            count: 4096,
        })
    }),
    ("OpenFdImpl::renamed", |ids| {
        rename_of((ids.root, "d"), (ids.root, "moved"))
    }),
    ("BoundSocketFdImpl::listen", |ids| {
        message(&ListenReq {
            fd: ids.bound,
            backlog: 1,
        })
    }),
    ("BoundSocketFdImpl::accept", |ids| {
        message(&AcceptReq { fd: ids.bound })
    }),
];

/// Those that are reached where a reply is sent, behind all handlers: there is no other answer then.
pub(super) const UNANSWERED: &[Place] = &[
    ("OpenFdImpl::donation", |ids| {
        message(&OpenAtReq {
            fd: ids.file,
            flags: 0,
        })
    }),
    ("BoundSocketFdImpl::socket", |ids| {
        message(&BindAtReq {
            create: create_in(ids.directory, MODE),
            sock_type: 1,
            name: b"s-new",
        })
    }),
];

/// Those of the objects that are closed: each closes all ids.
pub(super) const CLOSES: &[Place] = &[
    ("drop ControlFd", |ids| close_of(&[ids.symlink, ids.socket])),
    ("drop OpenFd", |ids| close_of(&[ids.listing, ids.open])),
    ("drop BoundSocketFd", |ids| {
        close_of(&[ids.bound, ids.symlink])
    }),
];

fn close_of(fds: &[FdId]) -> Message {
    message(&CloseReq {
        fds: Array::new(fds),
    })
}

/// Those that run before there is a connection, whose caller is not a client.
pub(super) const STARTS: [&str; 3] = [
    "ServerImpl::supported_messages",
    "ServerImpl::max_message_size",
    "ServerImpl::count_descriptors",
];

/// In a thread that serves nothing yet, of a connection and of a channel.
pub(super) const THREAD: &str = "ServerImpl::thread_started";
