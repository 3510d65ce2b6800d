//! Requests about sockets.

use std::os::unix::net::UnixStream;
use std::thread;

use lisafs::Errno;
use lisafs::wire::{ConnectWithCredsReq, FdId, Gid, Uid};
use lisafs_conformance::{Caller, Stop};

use super::create::given;
use super::{Refusal, Scenario, TICK, found, refused_with, requests, root};

const STREAM: u32 = libc::SOCK_STREAM.cast_unsigned();
const DATAGRAM: u32 = libc::SOCK_DGRAM.cast_unsigned();

/// A name that does not fit into the address of a socket.
const LONG: &[u8] = &[b'n'; 200];

fn bound_as(caller: &mut Caller, sock_type: u32) -> Result<Vec<FdId>, Stop> {
    let root = root(caller)?;
    let bound = caller.bind(root, b"bound", sock_type)?;
    thread::sleep(TICK);
    Ok(vec![root, bound.inode.control_fd, bound.id])
}

/// The root, the file of a socket, and the socket.
pub(super) fn bound(caller: &mut Caller) -> Result<Vec<FdId>, Stop> {
    bound_as(caller, STREAM)
}

/// Connects to the socket: whether what comes is connected.
fn connect(caller: &mut Caller, peer: FdId, sock_type: u32) -> Result<String, Refusal> {
    let stream = UnixStream::from(caller.connect(peer, sock_type)?);
    Ok(format!("{}", stream.peer_addr().is_ok()))
}

pub(super) const SCENARIOS: &[Scenario] = requests! {
    "BindAt": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{:o}", c.bind(ids[0], b"new", STREAM)?.inode.stat.mode));
    "BindAt, given away" as_root: |c| Ok(vec![root(c)?]),
        |c, ids| {
            let stat = c.bind_as(given(ids[0]), b"new", STREAM)?.inode.stat;
            Ok(format!("{:o} {} {}", stat.mode, stat.uid, stat.gid))
        };
    "BindAt, name that is taken": |c| Ok(vec![root(c)?]),
        |c, ids| refused_with(Errno::EADDRINUSE, c.bind(ids[0], b"file", STREAM));
    "BindAt, long name": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{:o}", c.bind(ids[0], LONG, STREAM)?.inode.stat.mode));
    "BindAt, long name that is taken": |c| {
            let root = root(c)?;
            c.mkdir(root, LONG)?;
            thread::sleep(TICK);
            Ok(vec![root])
        },
        |c, ids| refused_with(Errno::EADDRINUSE, c.bind(ids[0], LONG, STREAM));
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
        |c, ids| connect(c, ids[1], STREAM);
    "Connect, long name": |c| {
            let root = root(c)?;
            let long = c.bind(root, LONG, STREAM)?;
            c.listen(long.id, 3)?;
            thread::sleep(TICK);
            Ok(vec![root, long.inode.control_fd])
        },
        |c, ids| connect(c, ids[1], STREAM);
    "Connect, whichever type": |c| bound_as(c, DATAGRAM),
        |c, ids| connect(c, ids[1], 0);
    "ConnectWithCreds" as_root: |c| found(c, &[b"socket"]),
        |c, ids| {
            // Root, so that the identity may connect; its groups and capabilities are others.
            let (uid, gid) = (Uid(0), Gid(0));
            c.call(&ConnectWithCredsReq { fd: ids[1], sock_type: STREAM, uid, gid })?;
            Ok(format!("{}", c.take_fds().len()))
        };
};
