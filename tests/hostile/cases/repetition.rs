//! Each message very often, done and refused, and the server counted before and after.

use std::collections::BTreeSet;
use std::fmt;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{
    ConnectWithCredsReq, FAllocateReq, FStatFsReq, FdId, FlushReq, Gid, Mid, SetStat, SetStatReq,
    Uid, messages,
};
use lisafs_conformance::{Bound, Caller, Stop, Verdict, ensure, refused, same};

use super::memory::KEPT;
use crate::case::Case;
use crate::observed::memory;
use crate::stage::Stage;

pub(super) const CASES: &[Case] =
    &[Case::new("each_message_many_times", &["A3-3"], each).options(&["--host-uds", "all"])];

const O_RDWR: u32 = libc::O_RDWR.cast_unsigned();
const STREAM: u32 = libc::SOCK_STREAM.cast_unsigned();
const NOBODY: FdId = FdId(u64::MAX);
const ATTRIBUTE: &[u8] = b"user.one";

/// What the requests are for. There is one name of each kind in the directory, and `new` is free.
struct Props {
    channel: Caller,
    dir: FdId,
    file: FdId,
    link: FdId,
    open: FdId,
    listener: Bound,
}

/// A message, and what makes one request of it that is done, and one or more that are refused. Nothing of
/// either is left.
type Round = (Mid, fn(&mut Props) -> Verdict);

const ROUNDS: &[Round] = &[
    (Mid::FSTAT, |p| {
        p.channel.stat(p.open)?;
        p.channel.stat(p.file)?;
        refused(p.channel.stat(NOBODY), Errno::EBADF)
    }),
    (Mid::SET_STAT, |p| {
        let mode = |fd| SetStatReq {
            mask: SetStat::MODE.bits(),
            mode: 0o640,
            ..SetStatReq::new(fd)
        };
        p.channel.set_stat(&mode(p.file))?;
        refused(p.channel.set_stat(&mode(NOBODY)), Errno::EBADF)
    }),
    (Mid::WALK, |p| {
        let walked = p.channel.walk(p.dir, &[b"file"])?;
        for inode in walked.inodes {
            p.channel.close(&[inode.control_fd])?;
        }
        same!(p.channel.walk(p.dir, &[b"new"])?.inodes.len(), 0, "inodes");
        refused(p.channel.walk(p.dir, &[b".."]), Errno::EINVAL)
    }),
    (Mid::WALK_STAT, |p| {
        same!(p.channel.walk_stat(p.dir, &[b"file"])?.len(), 1, "files");
        refused(p.channel.walk_stat(p.dir, &[b"a/b"]), Errno::EINVAL)
    }),
    (Mid::OPEN_AT, |p| {
        let opened = p.channel.open(p.file, O_RDWR)?;
        p.channel.close(&[opened.id])?;
        fails(p.channel.open(p.dir, O_RDWR))
    }),
    (Mid::OPEN_CREATE_AT, |p| {
        let created = p.channel.create(p.dir, b"new", O_RDWR)?;
        p.channel.close(&[created.open, created.inode.control_fd])?;
        p.channel.unlink(p.dir, b"new")?;
        fails(p.channel.create(p.dir, b"file", O_RDWR))
    }),
    (Mid::CLOSE, |p| {
        let found = p.channel.find(p.dir, b"file")?.control_fd;
        Ok(p.channel.close(&[found, found, NOBODY])?)
    }),
    (Mid::FSYNC, |p| {
        p.channel.sync(&[p.open, p.open])?;
        fails(p.channel.sync(&[NOBODY]))
    }),
    (Mid::PWRITE, |p| {
        p.channel.write(p.open, 0, b"content")?;
        fails(p.channel.write(p.file, 0, b"content"))
    }),
    (Mid::PREAD, |p| {
        same!(p.channel.read(p.open, 0, 7)?, b"content", "what was read");
        fails(p.channel.read(p.file, 0, 7))
    }),
    (Mid::MKDIR_AT, |p| {
        let made = p.channel.mkdir(p.dir, b"new")?.control_fd;
        p.channel.close(&[made])?;
        p.channel.rmdir(p.dir, b"new")?;
        fails(p.channel.mkdir(p.dir, b"file"))
    }),
    (Mid::MKNOD_AT, |p| {
        let regular = libc::S_IFREG | 0o644;
        let made = p.channel.mknod(p.dir, b"new", regular)?.control_fd;
        p.channel.close(&[made])?;
        p.channel.unlink(p.dir, b"new")?;
        fails(p.channel.mknod(p.dir, b"file", regular))
    }),
    (Mid::SYMLINK_AT, |p| {
        let made = p.channel.symlink(p.dir, b"new", b"target")?.control_fd;
        p.channel.close(&[made])?;
        p.channel.unlink(p.dir, b"new")?;
        fails(p.channel.symlink(p.dir, b"file", b"target"))
    }),
    (Mid::LINK_AT, |p| {
        let made = p.channel.link(p.dir, p.file, b"new")?.control_fd;
        p.channel.close(&[made])?;
        p.channel.unlink(p.dir, b"new")?;
        fails(p.channel.link(p.dir, p.file, b"file"))
    }),
    (Mid::FSTAT_FS, |p| {
        p.channel.call(&FStatFsReq { fd: p.file })?;
        fails(p.channel.call(&FStatFsReq { fd: NOBODY }))
    }),
    (Mid::FALLOCATE, |p| {
        let allocate = |fd| FAllocateReq {
            fd,
            mode: 0,
            offset: 0,
            length: 4096,
        };
        p.channel.call(&allocate(p.open))?;
        fails(p.channel.call(&allocate(p.file)))
    }),
    (Mid::READ_LINK_AT, |p| {
        same!(p.channel.readlink(p.link)?, b"target", "the target");
        fails(p.channel.readlink(p.file))
    }),
    (Mid::FLUSH, |p| {
        // Clients take a failure for a success, so a server need not do more with it.
        Ok(p.channel.call(&FlushReq { fd: p.open }).or_else(remote)?)
    }),
    (Mid::CONNECT, |p| {
        let socket = p.listener.inode.control_fd;
        let connected = p.channel.connect(socket, STREAM)?;
        drop(p.channel.accept(p.listener.id)?);
        drop(connected);
        fails(p.channel.connect(p.file, STREAM))
    }),
    (Mid::UNLINK_AT, |p| {
        let made = p.channel.file(p.dir, b"new", b"")?;
        p.channel.unlink(p.dir, b"new")?;
        p.channel.close(&[made])?;
        fails(p.channel.unlink(p.dir, b"new"))
    }),
    (Mid::RENAME_AT, |p| {
        p.channel.rename((p.dir, b"file"), (p.dir, b"new"))?;
        p.channel.rename((p.dir, b"new"), (p.dir, b"file"))?;
        fails(p.channel.rename((p.dir, b"new"), (p.dir, b"newer")))
    }),
    (Mid::GETDENTS64, |p| {
        let opened = p.channel.open(p.dir, 0)?.id;
        ensure!(p.channel.entries(opened, 4096)?.len() > 2, "entries");
        p.channel.close(&[opened])?;
        fails(p.channel.entries(p.open, 4096))
    }),
    (Mid::FGET_XATTR, |p| {
        let value = p.channel.get_xattr(p.file, ATTRIBUTE, 100)?;
        same!(value, b"value", "the value");
        fails(p.channel.get_xattr(p.file, b"user.none", 100))
    }),
    (Mid::FSET_XATTR, |p| {
        p.channel.set_xattr(p.file, ATTRIBUTE, b"value", 0)?;
        let create = libc::XATTR_CREATE.cast_unsigned();
        fails(p.channel.set_xattr(p.file, ATTRIBUTE, b"value", create))
    }),
    (Mid::FLIST_XATTR, |p| {
        let names = p.channel.list_xattr(p.file, 100)?;
        ensure!(names.iter().any(|name| name == ATTRIBUTE), "{names:?}");
        fails(p.channel.list_xattr(NOBODY, 100))
    }),
    (Mid::FREMOVE_XATTR, |p| {
        p.channel.set_xattr(p.file, b"user.two", b"value", 0)?;
        p.channel.remove_xattr(p.file, b"user.two")?;
        fails(p.channel.remove_xattr(p.file, b"user.two"))
    }),
    (Mid::BIND_AT, |p| {
        let bound = p.channel.bind(p.dir, b"new", STREAM)?;
        p.channel.close(&[bound.id, bound.inode.control_fd])?;
        p.channel.unlink(p.dir, b"new")?;
        fails(p.channel.bind(p.dir, b"file", STREAM))
    }),
    (Mid::LISTEN, |p| {
        p.channel.listen(p.listener.id, 4)?;
        fails(p.channel.listen(p.file, 4))
    }),
    (Mid::ACCEPT, |p| {
        fails(p.channel.accept(p.listener.id))?;
        fails(p.channel.accept(p.file))
    }),
    (Mid::CONNECT_WITH_CREDS, |p| {
        let as_somebody = |fd| ConnectWithCredsReq {
            fd,
            sock_type: STREAM,
            uid: Uid(1234),
            gid: Gid(1234),
        };
        // For root alone, and not for each server.
        let socket = p.listener.inode.control_fd;
        p.channel.call(&as_somebody(socket)).or_else(remote)?;
        if p.channel.take_fds().pop().is_some() {
            drop(p.channel.accept(p.listener.id)?);
        }
        fails(p.channel.call(&as_somebody(p.file)))
    }),
    (Mid::RENAME_AT2, |p| {
        let exchange = libc::RENAME_EXCHANGE;
        let (one, other) = ((p.dir, &b"file"[..]), (p.dir, &b"link"[..]));
        p.channel
            .rename_with(one, other, exchange)
            .or_else(remote)?;
        p.channel
            .rename_with(one, other, exchange)
            .or_else(remote)?;
        fails(p.channel.rename_with((p.dir, b"new"), one, exchange))
    }),
];

fn remote(error: Error) -> Result<(), Error> {
    match error {
        Error::Remote(_) => Ok(()),
        other => Err(other),
    }
}

/// With which errno is for others to ask.
fn fails<T: fmt::Debug>(result: Result<T, Error>) -> Verdict {
    match result {
        Err(Error::Remote(_)) => Ok(()),
        other => Err(Stop::failed(format_args!("{other:?}, and no errno"))),
    }
}

fn each(stage: &mut Stage) -> Verdict {
    let rounds = stage.count(50, 10_000);
    let asked: BTreeSet<_> = ROUNDS.iter().map(|(mid, _)| mid.0).collect();
    let others = [Mid::MOUNT.0, Mid::CHANNEL.0];
    let all: BTreeSet<_> = messages().map(|message| message.mid.0).collect();
    same!(&asked | &others.into(), all, "the messages");

    let mut client = stage.client()?;
    let mut props = Props::put(&mut client.caller, client.root.control_fd)?;
    for (mid, round) in ROUNDS {
        let bytes = counted(stage, &mid.to_string(), rounds, || {
            round(&mut props).map_err(|why| Stop::failed(format_args!("{mid}: {why:?}")))
        })?;
        // How much it has is for Go's garbage collector to say.
        ensure!(
            !stage.is_ours() || bytes <= KEPT,
            "{mid}: {bytes} bytes of memory more after {rounds} rounds"
        );
    }
    // Buffers that are as long as a message come and go with the connections: what the allocator keeps of those is
    // for other cases to see.
    counted(stage, "Mount and Channel", rounds, || {
        let mut client = stage.client()?;
        let root = client.root.control_fd;
        client.channel()?.stat(root)?;
        Ok(())
    })?;
    Ok(())
}

impl Props {
    fn put(socket: &mut Caller, root: FdId) -> Result<Props, Stop> {
        let mut channel = socket.channel()?;
        let dir = channel.mkdir(root, b"props")?.control_fd;
        let created = channel.create(dir, b"file", O_RDWR)?;
        let file = created.inode.control_fd;
        channel.write(created.open, 0, b"content")?;
        channel.set_xattr(file, ATTRIBUTE, b"value", 0)?;
        let link = channel.symlink(dir, b"link", b"target")?.control_fd;
        let listener = channel.bind(dir, b"socket", STREAM)?;
        channel.listen(listener.id, 4)?;
        Ok(Props {
            channel,
            dir,
            file,
            link,
            open: created.open,
            listener,
        })
    }
}

/// Does it `rounds` times, and looks at what descriptors the server has more than after the first few. Returns
/// how many more bytes of memory it has.
fn counted(
    stage: &Stage,
    what: &str,
    rounds: u64,
    mut once: impl FnMut() -> Verdict,
) -> Result<u64, Stop> {
    /// So often, what is kept open because it is used is open.
    const WARM: u64 = 10;
    /// What one round has and the next one has not, as a connection that is on its way out.
    const MOMENT: usize = 20;
    (0..WARM).try_for_each(|_| once())?;
    let (descriptors, bytes) = (stage.open_descriptors(), memory(stage.pid()));
    (0..rounds).try_for_each(|_| once())?;
    let now = stage.open_descriptors();
    ensure!(
        now <= descriptors + MOMENT,
        "{what}: {now} descriptors after {rounds} rounds, {descriptors} before"
    );
    stage.count_tries(rounds);
    Ok(memory(stage.pid()).saturating_sub(bytes))
}
