//! Requests, each with what it needs to succeed.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{
    ChannelReq, ConnectWithCredsReq, CreateCommon, FAllocateReq, FStatFsReq, FdId, FlushReq, Gid,
    MkdirAtReq, SetStat, SetStatReq, TimeSpec, Uid,
};
use lisafs_conformance::{Caller, Stop, at};

const O_RDWR: u32 = libc::O_RDWR.cast_unsigned();
const O_RDONLY: u32 = 0;
const STREAM: u32 = libc::SOCK_STREAM.cast_unsigned();

/// A name that does not fit into the address of a socket.
const LONG: &[u8] = &[b'n'; 200];

/// A request, and what has to be there.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) needs_root: bool,
    /// The ids that it is about, on a fresh connection.
    pub(crate) begin: fn(&mut Caller) -> Result<Vec<FdId>, Stop>,
    /// The request. What it returns says what the server has answered.
    pub(crate) act: fn(&mut Caller, &[FdId]) -> Result<String, Error>,
}

/// What each request finds in the directory: made anew for each.
pub(crate) fn furnish(root: &Path) -> std::io::Result<UnixListener> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.symlink_metadata()?.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    fs::create_dir_all(root.join("dir/sub/empty"))?;
    fs::create_dir(root.join("other"))?;
    fs::write(root.join("file"), "content of the file")?;
    fs::write(root.join("dir/sub/inner"), "inner")?;
    fs::write(root.join("other/replaced"), "replaced")?;
    fs::hard_link(root.join("file"), root.join("linked"))?;
    symlink("to/nowhere", root.join("link"))?;
    let listener = UnixListener::bind(root.join("socket"))?;
    nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU)?;
    Ok(listener)
}

fn root(caller: &mut Caller) -> Result<FdId, Stop> {
    Ok(caller.mount()?.root.control_fd)
}

fn found(caller: &mut Caller, names: &[&[u8]]) -> Result<Vec<FdId>, Stop> {
    let root = root(caller)?;
    let mut ids = vec![root];
    for name in names {
        ids.push(caller.find(root, name)?.control_fd);
    }
    Ok(ids)
}

/// The root, the file, and that opened for reading and writing.
fn opened(caller: &mut Caller) -> Result<Vec<FdId>, Stop> {
    let mut ids = found(caller, &[b"file"])?;
    ids.push(caller.open(ids[1], O_RDWR)?.id);
    Ok(ids)
}

fn with_xattr(caller: &mut Caller) -> Result<Vec<FdId>, Stop> {
    let ids = found(caller, &[b"file"])?;
    match caller.set_xattr(ids[1], b"user.present", &[b'v'; 1000], 0) {
        Err(Error::Remote(Errno::EOPNOTSUPP)) => Err(Stop::skipped("no extended attributes here")),
        set => Ok(set.map(|()| ids)?),
    }
}

fn bound(caller: &mut Caller) -> Result<Vec<FdId>, Stop> {
    let root = root(caller)?;
    let bound = caller.bind(root, b"bound", STREAM)?;
    Ok(vec![root, bound.inode.control_fd, bound.id])
}

/// SetStat of `mask`; what could not be set is an error as of any other request.
fn set(caller: &mut Caller, id: FdId, mask: SetStat) -> Result<String, Error> {
    let own = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let time = TimeSpec { sec: 12, nsec: 34 };
    let request = SetStatReq {
        mask: mask.bits(),
        mode: 0o640,
        uid: Uid(own.0),
        gid: Gid(own.1),
        size: 5,
        atime: time,
        mtime: time,
        ..SetStatReq::new(id)
    };
    let failed = caller.set_stat(&request)?;
    match Errno::new(failed.failure_errno) {
        Some(errno) => Err(Error::Remote(errno)),
        None => Ok(format!("{}", failed.failure_mask)),
    }
}

fn given(dir_fd: FdId) -> CreateCommon {
    CreateCommon {
        uid: Uid(1),
        gid: Gid(1),
        ..at(dir_fd, 0o2775)
    }
}

macro_rules! scenarios {
    ($($name:literal $($root:ident)?: $begin:expr, $act:expr;)*) => {
        &[$(Scenario {
            name: $name,
            needs_root: scenarios!(@root $($root)?),
            begin: $begin,
            act: $act,
        }),*]
    };
    (@root) => { false };
    (@root as_root) => { true };
}

pub(crate) const SCENARIOS: &[Scenario] = scenarios! {
    "Mount": |_| Ok(vec![]),
        |c, _| Ok(format!("{:?}", c.mount()?.root.stat.mode));
    "Channel": |c| Ok(vec![root(c)?]),
        |c, _| {
            c.call(&ChannelReq {})?;
            Ok(format!("{}", c.take_fds().len()))
        };
    "Walk": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.walk(ids[0], &[b"dir", b"sub", b"inner"])?.inodes.len()));
    "WalkStat": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.walk_stat(ids[0], &[b"dir", b"sub", b"inner"])?.len()));
    "FStat": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{}", c.stat(ids[1])?.size));
    "FStat of an open file": opened,
        |c, ids| Ok(format!("{}", c.stat(ids[2])?.size));
    "SetStat, mode": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::MODE);
    "SetStat, owner": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::UID | SetStat::GID);
    "SetStat, size": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::SIZE);
    "SetStat, times": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::ATIME | SetStat::MTIME);
    "OpenAt": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{}", c.open(ids[1], O_RDWR)?.donated.len()));
    "OpenAt, directory": |c| found(c, &[b"dir"]),
        |c, ids| Ok(format!("{}", c.open(ids[1], O_RDONLY)?.donated.len()));
    "OpenAt, FIFO": |c| found(c, &[b"fifo"]),
        |c, ids| Ok(format!("{}", c.open(ids[1], O_RDONLY)?.donated.len()));
    "OpenCreateAt": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.create(ids[0], b"new", O_RDWR)?.donated.len()));
    "OpenCreateAt, given away" as_root: |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.create_as(given(ids[0]), b"new", O_RDWR)?.donated.len()));
    "MkdirAt": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.mkdir(ids[0], b"new")?.stat.mode));
    "MkdirAt, given away" as_root: |c| Ok(vec![root(c)?]),
        |c, ids| {
            let request = MkdirAtReq { create: given(ids[0]), name: b"new" };
            Ok(format!("{}", c.call(&request)?.child.stat.mode))
        };
    "MknodAt": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.mknod(ids[0], b"new", libc::S_IFREG | 0o600)?.stat.mode));
    "MknodAt, whiteout": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.mknod(ids[0], b"new", libc::S_IFCHR | 0o600)?.stat.mode));
    "SymlinkAt": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.symlink(ids[0], b"new", b"target")?.stat.size));
    "LinkAt": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{}", c.link(ids[0], ids[1], b"new")?.stat.nlink));
    "UnlinkAt": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{:?}", c.unlink(ids[0], b"file")?));
    "UnlinkAt, directory": |c| {
            let root = root(c)?;
            let sub = c.walk(root, &[b"dir", b"sub", b"empty"])?.inodes;
            Ok(sub.iter().map(|inode| inode.control_fd).collect())
        },
        |c, ids| Ok(format!("{:?}", c.rmdir(ids[1], b"empty")?));
    "RenameAt": |c| found(c, &[b"dir", b"other"]),
        |c, ids| Ok(format!("{:?}", c.rename((ids[0], b"dir"), (ids[2], b"moved"))?));
    "RenameAt over another": |c| {
            let mut ids = found(c, &[b"file", b"other"])?;
            ids.push(c.find(ids[2], b"replaced")?.control_fd);
            Ok(ids)
        },
        |c, ids| Ok(format!("{:?}", c.rename((ids[0], b"file"), (ids[2], b"replaced"))?));
    "RenameAt to another link": |c| found(c, &[b"file"]),
        |c, ids| {
            c.rename((ids[0], b"file"), (ids[0], b"linked"))?;
            // Not traced any more: both names are there, and so is the file.
            Ok(format!("{} {}", c.stat(ids[1])?.size, c.exists(ids[0], b"file")?))
        };
    "RenameAt2, exchange": |c| found(c, &[b"file", b"dir"]),
        |c, ids| {
            let (one, other) = ((ids[0], &b"file"[..]), (ids[0], &b"dir"[..]));
            Ok(format!("{:?}", c.rename_with(one, other, libc::RENAME_EXCHANGE)?))
        };
    "ReadLinkAt": |c| found(c, &[b"link"]),
        |c, ids| Ok(format!("{:?}", c.readlink(ids[1])?));
    "FStatFS": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{}", c.call(&FStatFsReq { fd: ids[1] })?.name_length));
    "FAllocate": opened,
        |c, ids| {
            let request = FAllocateReq { fd: ids[2], mode: 0, offset: 0, length: 9000 };
            Ok(format!("{:?}", c.call(&request)?))
        };
    "PRead": opened,
        |c, ids| Ok(format!("{:?}", c.read(ids[2], 0, 100)?));
    "PWrite": opened,
        |c, ids| Ok(format!("{:?}", c.write(ids[2], 7, b"written")?));
    "FSync": opened,
        |c, ids| Ok(format!("{:?}", c.sync(&ids[2..])?));
    "Flush": opened,
        |c, ids| Ok(format!("{:?}", c.call(&FlushReq { fd: ids[2] })?));
    "Close": opened,
        |c, ids| Ok(format!("{:?}", c.close(&ids[1..])?));
    "Getdents64": |c| {
            let root = root(c)?;
            Ok(vec![root, c.open(root, O_RDONLY)?.id])
        },
        |c, ids| Ok(format!("{}", c.entries(ids[1], -65_536)?.len()));
    "FGetXattr": with_xattr,
        |c, ids| Ok(format!("{}", c.get_xattr(ids[1], b"user.present", 0)?.len()));
    "FSetXattr": with_xattr,
        |c, ids| Ok(format!("{:?}", c.set_xattr(ids[1], b"user.new", b"value", 0)?));
    "FListXattr": with_xattr,
        |c, ids| Ok(format!("{}", c.list_xattr(ids[1], 0)?.len()));
    "FRemoveXattr": with_xattr,
        |c, ids| Ok(format!("{:?}", c.remove_xattr(ids[1], b"user.present")?));
    "BindAt": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.bind(ids[0], b"new", STREAM)?.inode.stat.mode));
    "BindAt, long name": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.bind(ids[0], LONG, STREAM)?.inode.stat.mode));
    "Listen": bound,
        |c, ids| Ok(format!("{:?}", c.listen(ids[2], 3)?));
    "Accept": |c| {
            let ids = bound(c)?;
            c.listen(ids[2], 3)?;
            // It stays in the queue until it is accepted.
            drop(c.connect(ids[1], STREAM)?);
            Ok(ids)
        },
        |c, ids| Ok(format!("{}", UnixStream::from(c.accept(ids[2])?).peer_addr().is_ok()));
    "Connect": |c| found(c, &[b"socket"]),
        |c, ids| Ok(format!("{}", UnixStream::from(c.connect(ids[1], STREAM)?).peer_addr().is_ok()));
    "ConnectWithCreds" as_root: |c| found(c, &[b"socket"]),
        |c, ids| {
            // Root, so that the identity may connect; its groups and capabilities are others.
            let request = ConnectWithCredsReq { fd: ids[1], sock_type: STREAM, uid: Uid(0), gid: Gid(0) };
            c.call(&request)?;
            Ok(format!("{}", c.take_fds().len()))
        };
};
