//! Unix sockets in the tree.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use lisafs::Errno;
use lisafs::wire::{
    ConnectWithCredsReq, CreateCommon, FdId, FileType, Gid, Mid, SetStat, SetStatReq, Uid,
};
use nix::sys::socket::{GetSockOpt, getsockopt, sockopt};

use crate::calls::{DGRAM, O_RDONLY, SEQPACKET, STREAM, at};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Stop, Verdict, ensure, refused, same};

const BIND: &[Need] = &[Need::UnixBind];
const BOTH: &[Need] = &[Need::UnixBind, Need::UnixConnect];

pub(crate) const CASES: &[Plain] = &[
    Plain::new("socket.bind_listen_connect_accept", whole_life).needs(BOTH),
    Plain::new("socket.bind_gives_a_socket_of_the_type", types).needs(BIND),
    Plain::new("socket.bind_mode_and_owner", mode_and_owner)
        .needs(&[Need::UnixBind, Need::Privileged]),
    Plain::new("socket.bind_mode", mode).needs(BIND),
    Plain::new("socket.bind_over_a_name", bind_over_a_name).needs(BIND),
    Plain::new("socket.bind_of_unknown_types", bind_unknown_types).needs(BIND),
    Plain::new("socket.names_of_108_bytes_and_more", long_names).needs(BOTH),
    Plain::new("socket.bind_deep_in_the_tree", deep).needs(BOTH),
    Plain::new("socket.control_fd_is_the_file", control_fd_is_the_file).needs(BIND),
    Plain::new("socket.chmod", chmod).needs(BIND),
    Plain::new("socket.chmod_of_a_deleted_one", chmod_of_a_deleted_one).needs(BIND),
    Plain::new("socket.accept_without_a_connection", accept_nothing).needs(BIND),
    Plain::new(
        "socket.close_of_the_control_fd_keeps_the_socket",
        close_control,
    )
    .needs(BOTH),
    Plain::new(
        "socket.close_of_the_bound_fd_keeps_the_control_fd",
        close_bound,
    )
    .needs(BIND),
    Plain::new("socket.ids_are_not_mixed_up", wrong_ids).needs(BIND),
    Plain::new("socket.connect_of_another_type", connect_other_type).needs(BOTH),
    Plain::new("socket.connect_of_any_type", connect_any_type).needs(BOTH),
    Plain::new("socket.connect_of_unknown_types", connect_unknown_type).needs(BOTH),
    Plain::new("socket.connect_to_what_nobody_listens_on", connect_refused).needs(BOTH),
    Plain::new("socket.connect_to_what_is_no_socket", connect_no_socket)
        .needs(&[Need::UnixConnect]),
    Plain::new("socket.connect_with_a_full_backlog", full_backlog).needs(BOTH),
    Plain::new("socket.connect_datagrams", datagrams).needs(BOTH),
    Plain::new("socket.connect_with_creds", with_creds).needs(&[
        Need::UnixBind,
        Need::UnixConnect,
        Need::Privileged,
    ]),
    Plain::new("socket.connect_with_no_creds", with_no_creds).needs(BOTH),
    Plain::new("socket.open", open).needs(BIND),
];

/// What the peer of a socket that works does, within a time.
fn talk(one: OwnedFd, two: OwnedFd) -> Verdict {
    let streams = [one, two].map(UnixStream::from);
    for stream in &streams {
        // It comes non-blocking.
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    }
    let [mut one, mut two] = streams;
    let mut got = [0; 4];
    one.write_all(b"ping")?;
    two.read_exact(&mut got)?;
    same!(&got, b"ping", "what came");
    two.write_all(b"pong")?;
    one.read_exact(&mut got)?;
    same!(&got, b"pong", "what came back");
    Ok(())
}

fn whole_life(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    same!(bound.inode.stat.file_type(), FileType::Socket, "type");
    s.listen(bound.id, 4)?;
    let found = s.find(d, b"s")?.control_fd;
    for _ in 0..2 {
        let client = s.connect(found, STREAM)?;
        let server = s.accept(bound.id)?;
        talk(client, server)?;
    }
    Ok(())
}

fn types(s: &mut Session, d: FdId) -> Verdict {
    use nix::sys::socket::SockType;
    for (name, sock_type, wanted) in [
        (&b"s"[..], STREAM, SockType::Stream),
        (b"d", DGRAM, SockType::Datagram),
        (b"p", SEQPACKET, SockType::SeqPacket),
    ] {
        let bound = s.bind(d, name, sock_type)?;
        same!(sockopt::SockType.get(&bound.socket)?, wanted, "type");
        let flags = nix::fcntl::fcntl(bound.socket.as_fd(), nix::fcntl::FcntlArg::F_GETFL)?;
        ensure!(flags & libc::O_NONBLOCK != 0, "the socket blocks");
        if sock_type == DGRAM {
            refused(s.listen(bound.id, 4), Errno::EOPNOTSUPP)?;
        } else {
            s.listen(bound.id, 4)?;
        }
    }
    Ok(())
}

fn mode_and_owner(s: &mut Session, d: FdId) -> Verdict {
    let create = CreateCommon {
        dir_fd: d,
        uid: Uid(1234),
        gid: Gid(5678),
        mode: 0o600,
    };
    let bound = s.bind_as(create, b"s", STREAM)?;
    for stat in [bound.inode.stat, s.find(d, b"s")?.stat] {
        same!((stat.uid, stat.gid), (1234, 5678), "owner");
        same!(stat.permissions(), 0o600, "mode");
    }
    Ok(())
}

fn mode(s: &mut Session, d: FdId) -> Verdict {
    for mode in [0o000, 0o640, 0o777] {
        let name = format!("{mode:o}").into_bytes();
        let bound = s.bind_as(at(d, mode), &name, STREAM)?;
        same!(
            bound.inode.stat.permissions(),
            u32::from(mode),
            "mode of the reply"
        );
        same!(
            s.find(d, &name)?.stat.permissions(),
            u32::from(mode),
            "mode"
        );
    }
    Ok(())
}

fn bind_over_a_name(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"data")?;
    let in_use = Errno::from(nix::Error::EADDRINUSE);
    refused(s.bind(d, b"f", STREAM), in_use)?;
    same!(s.find(d, b"f")?.stat.size, 4, "size");
    Ok(())
}

fn bind_unknown_types(s: &mut Session, d: FdId) -> Verdict {
    for sock_type in [0, 3, 4, 6, STREAM | 0x800, u32::MAX] {
        refused(s.bind(d, b"s", sock_type), Errno::ENXIO)?;
    }
    same!(s.names(d)?.len(), 0, "sockets made");
    Ok(())
}

fn long_names(s: &mut Session, d: FdId) -> Verdict {
    for length in [107, 108, 200, 255] {
        let name = vec![b's'; length];
        let bound = s.bind(d, &name, STREAM)?;
        s.listen(bound.id, 1)?;
        let client = s.connect(bound.inode.control_fd, STREAM)?;
        let server = s.accept(bound.id)?;
        talk(client, server)?;
        s.unlink(d, &name)?;
    }
    same!(s.names(d)?.len(), 0, "what is left");
    Ok(())
}

fn deep(s: &mut Session, d: FdId) -> Verdict {
    let mut directory = d;
    for _ in 0..4 {
        directory = s.mkdir(directory, &[b'd'; 200])?.control_fd;
    }
    let bound = s.bind(directory, b"s", STREAM)?;
    s.listen(bound.id, 1)?;
    let client = s.connect(bound.inode.control_fd, STREAM)?;
    let server = s.accept(bound.id)?;
    talk(client, server)
}

fn control_fd_is_the_file(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    let stat = s.stat(bound.inode.control_fd)?;
    same!(stat.ino, bound.inode.stat.ino, "the file of the id");
    same!(s.find(d, b"s")?.stat.ino, stat.ino, "the file of the name");
    Ok(())
}

fn set_mode(s: &mut Session, fd: FdId, mode: u32) -> Verdict {
    let response = s.set_stat(&SetStatReq {
        mask: SetStat::MODE.bits(),
        mode,
        ..SetStatReq::new(fd)
    })?;
    same!(response.failure_mask, 0, "failures");
    Ok(())
}

fn chmod(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    let found = s.find(d, b"s")?.control_fd;
    for (fd, mode) in [(bound.inode.control_fd, 0o600), (found, 0o711)] {
        set_mode(s, fd, mode)?;
        same!(s.find(d, b"s")?.stat.permissions(), mode, "mode");
    }
    Ok(())
}

/// It must not reach what has the name now.
fn chmod_of_a_deleted_one(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    let f = s.file(d, b"f", b"data")?;
    s.unlink(d, b"s")?;
    s.symlink(d, b"s", b"f")?;
    // Whether it can be done is up to the server.
    s.set_stat(&SetStatReq {
        mask: SetStat::MODE.bits(),
        mode: 0o777,
        ..SetStatReq::new(bound.inode.control_fd)
    })?;
    same!(
        s.stat(f)?.permissions(),
        0o644,
        "mode of the file that the name leads to"
    );
    Ok(())
}

fn accept_nothing(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    refused(s.accept(bound.id), Errno::EINVAL)?;
    s.listen(bound.id, 4)?;
    refused(s.accept(bound.id), Errno::EAGAIN)?;
    // The flags of a donated socket are its description's, which the server shares.
    UnixStream::from(bound.socket).set_nonblocking(false)?;
    refused(s.accept(bound.id), Errno::EAGAIN)
}

fn close_control(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    s.close(&[bound.inode.control_fd])?;
    s.listen(bound.id, 4)?;
    let found = s.find(d, b"s")?.control_fd;
    let client = s.connect(found, STREAM)?;
    let server = s.accept(bound.id)?;
    talk(client, server)
}

fn close_bound(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    s.close(&[bound.id])?;
    refused(s.listen(bound.id, 4), Errno::EBADF)?;
    same!(
        s.stat(bound.inode.control_fd)?.ino,
        bound.inode.stat.ino,
        "the file"
    );
    Ok(())
}

fn wrong_ids(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    let control = bound.inode.control_fd;
    refused(s.listen(control, 4), Errno::EINVAL)?;
    refused(s.accept(control), Errno::EINVAL)?;
    refused(s.open(bound.id, O_RDONLY), Errno::EINVAL)?;
    refused(s.connect(bound.id, STREAM), Errno::EINVAL)?;
    refused(s.read(bound.id, 0, 1), Errno::EINVAL)?;
    refused(s.sync(&[bound.id]), Errno::EINVAL)?;
    refused(s.link(d, bound.id, b"x"), Errno::EINVAL)?;
    refused(s.walk(bound.id, &[]), Errno::EINVAL)
}

fn connect_other_type(s: &mut Session, d: FdId) -> Verdict {
    for (name, own) in [(&b"s"[..], STREAM), (b"d", DGRAM), (b"p", SEQPACKET)] {
        let bound = s.bind(d, name, own)?;
        if own != DGRAM {
            s.listen(bound.id, 4)?;
        }
        for other in [STREAM, DGRAM, SEQPACKET]
            .into_iter()
            .filter(|other| *other != own)
        {
            refused(s.connect(bound.inode.control_fd, other), Errno::EPROTOTYPE)?;
        }
    }
    Ok(())
}

fn connect_any_type(s: &mut Session, d: FdId) -> Verdict {
    for (name, own) in [(&b"s"[..], STREAM), (b"d", DGRAM), (b"p", SEQPACKET)] {
        let bound = s.bind(d, name, own)?;
        if own != DGRAM {
            s.listen(bound.id, 4)?;
        }
        s.connect(bound.inode.control_fd, 0)?;
    }
    Ok(())
}

fn connect_unknown_type(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    s.listen(bound.id, 4)?;
    for sock_type in [3, 4, 6, STREAM | 0x800, u32::MAX] {
        refused(s.connect(bound.inode.control_fd, sock_type), Errno::ENXIO)?;
    }
    Ok(())
}

fn connect_refused(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    let nobody = Errno::from(nix::Error::ECONNREFUSED);
    refused(s.connect(bound.inode.control_fd, STREAM), nobody)
}

fn connect_no_socket(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    refused(s.connect(f, STREAM), Errno::ENOTSOCK)?;
    refused(s.connect(d, STREAM), Errno::ENOTSOCK)
}

/// A server that waits here waits for good.
fn full_backlog(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    s.listen(bound.id, 0)?;
    let mut pending = Vec::new();
    for _ in 0..10 {
        match s.connect(bound.inode.control_fd, STREAM) {
            Ok(socket) => pending.push(socket),
            full => return refused(full, Errno::EAGAIN),
        }
    }
    Err(Stop::failed("ten connections for a backlog of none"))
}

fn datagrams(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", DGRAM)?;
    let client = UnixDatagram::from(s.connect(bound.inode.control_fd, DGRAM)?);
    client.send(b"ping")?;
    let mut got = [0; 16];
    let server = UnixDatagram::from(bound.socket);
    let length = server.recv(&mut got)?;
    same!(got.get(..length), Some(&b"ping"[..]), "what came");
    Ok(())
}

fn with_creds(s: &mut Session, d: FdId) -> Verdict {
    s.needs_message(Mid::CONNECT_WITH_CREDS)?;
    let bound = s.bind_as(at(d, 0o777), b"s", STREAM)?;
    s.listen(bound.id, 4)?;
    let own = s.root.stat.uid;
    s.call(&ConnectWithCredsReq {
        fd: bound.inode.control_fd,
        sock_type: STREAM,
        uid: Uid(own),
        gid: Gid(5678),
    })?;
    let client = s.take_fds();
    same!(client.len(), 1, "descriptors");
    let server = s.accept(bound.id)?;
    let peer = getsockopt(&server, sockopt::PeerCredentials)?;
    same!((peer.uid(), peer.gid()), (own, 5678), "who connected");
    // Others go on as whoever the server is.
    s.connect(bound.inode.control_fd, STREAM)?;
    let server = s.accept(bound.id)?;
    let peer = getsockopt(&server, sockopt::PeerCredentials)?;
    ensure!(peer.gid() != 5678, "the server kept the identity");
    Ok(())
}

fn with_no_creds(s: &mut Session, d: FdId) -> Verdict {
    s.needs_message(Mid::CONNECT_WITH_CREDS)?;
    let bound = s.bind_as(at(d, 0o777), b"s", STREAM)?;
    s.listen(bound.id, 4)?;
    let request = ConnectWithCredsReq {
        fd: bound.inode.control_fd,
        sock_type: STREAM,
        uid: Uid::NONE,
        gid: Gid::NONE,
    };
    let answer = s.send(&request)?;
    ensure!(
        answer.errno().is_some(),
        "connected as nobody in particular"
    );
    refused(s.accept(bound.id), Errno::EAGAIN)
}

fn open(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    refused(s.open(bound.inode.control_fd, O_RDONLY), Errno::ENXIO)
}
