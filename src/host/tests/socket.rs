use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl::{get_dumpable, set_dumpable};
use nix::sys::socket::sockopt::{PeerCredentials, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen,
};
use nix::sys::time::TimeVal;

use super::{EVERYTHING, Served, creation, is_root, name};
use crate::Errno;
use crate::host::handle::Handle;
use crate::host::kernel::Kernel;
use crate::host::options::{HostOptions, HostUds};
use crate::host::sys;
use crate::server::BoundSocketFdImpl;
use crate::wire::{FileType, Gid, Uid};

const STREAM: u32 = 1;
const DATAGRAM: u32 = 2;
const SEQUENCED: u32 = 5;

/// Nothing here waits, so whatever takes this long has, also on a machine that does ten other things.
const AT_ONCE: Duration = Duration::from_secs(20);

/// A directory below `served` whose path is longer than a socket address.
fn deep(served: &Served) -> Handle {
    let mut handle = served.root().clone();
    for component in ["d".repeat(150), "e".repeat(150)] {
        handle = served
            .host
            .mkdir(&handle, name(&component), creation(0o755))
            .unwrap()
            .0;
    }
    handle
}

#[test]
fn sockets_are_bound_and_connected_below_paths_of_any_length() {
    let served = Served::new();
    let directory = deep(&served);
    let (handle, stat, bound) = served
        .host
        .bind_at(&directory, name("socket"), creation(0o640), STREAM)
        .unwrap();
    assert_eq!(
        (stat.file_type(), stat.permissions()),
        (FileType::Socket, 0o640)
    );
    assert_eq!(
        handle.stat().unwrap().ino,
        stat.ino,
        "the file, not the socket"
    );
    bound.start_listening(1).unwrap();
    let mut here = UnixStream::from(served.host.connect(&handle, STREAM).unwrap());
    let mut there = UnixStream::from(bound.accept_one().unwrap());
    here.write_all(b"x").unwrap();
    let mut byte = [0];
    there.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn names_longer_than_an_address_are_bound_under_a_short_one_first() {
    let served = Served::new();
    let bind = |name_: &str| {
        served
            .host
            .bind_at(served.root(), name(name_), creation(0o600), STREAM)
    };
    for length in [1, 100, 105, 106, 107, 108, 109, 255] {
        let long = "n".repeat(length);
        let (handle, _, bound) = bind(&long).unwrap();
        bound.start_listening(1).unwrap();
        assert!(served.host.connect(&handle, STREAM).is_ok(), "{length}");
        assert_eq!(bind(&long).err(), Some(Errno::EADDRINUSE), "{length}");
        let found = fs::symlink_metadata(served.path(&long)).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(served.names(), [long.as_str()]);
        fs::remove_file(served.path(&long)).unwrap();
    }
    assert_eq!(bind(&"n".repeat(256)).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(served.names(), [""; 0]);
}

#[test]
fn policy_comes_first_then_the_type() {
    for (host_uds, binds, connects) in [
        (HostUds::None, Errno::EPERM, Errno::EPERM),
        (HostUds::Open, Errno::EPERM, Errno::ENXIO),
        (HostUds::Create, Errno::ENXIO, Errno::EPERM),
        (HostUds::All, Errno::ENXIO, Errno::ENXIO),
    ] {
        let options = HostOptions {
            host_uds,
            ..EVERYTHING
        };
        let served = Served::with(options, Kernel::probe());
        let _listener = UnixListener::bind(served.path("socket")).unwrap();
        let socket = served.walk("socket");
        for sock_type in [3, 4, u32::MAX] {
            let bound = served
                .host
                .bind_at(served.root(), name("new"), creation(0), sock_type);
            assert_eq!(bound.err(), Some(binds), "{host_uds}");
            let connected = served.host.connect(&socket, sock_type);
            assert_eq!(connected.err(), Some(connects), "{host_uds}");
        }
        assert_eq!(served.names(), ["socket"]);
    }
    let served = Served::new();
    let bound = served
        .host
        .bind_at(served.root(), name("new"), creation(0), 0);
    assert_eq!(bound.err(), Some(Errno::ENXIO), "a new socket has one type");
}

#[test]
fn any_type_can_be_connected_to_without_naming_it() {
    let served = Served::new();
    for (path, number, sock_type) in [
        ("stream", STREAM, SockType::Stream),
        ("datagram", DATAGRAM, SockType::Datagram),
        ("sequenced", SEQUENCED, SockType::SeqPacket),
    ] {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = nix::sys::socket::socket(AddressFamily::Unix, sock_type, flags, None).unwrap();
        let address = UnixAddr::new(&served.path(path)).unwrap();
        bind(socket.as_raw_fd(), &address).unwrap();
        if sock_type != SockType::Datagram {
            listen(&socket, Backlog::new(10).unwrap()).unwrap();
        }
        let handle = served.walk(path);
        for asked in [0, STREAM, DATAGRAM, SEQUENCED] {
            let result = served.host.connect(&handle, asked);
            if asked == 0 || asked == number {
                let flags = fcntl(result.unwrap(), FcntlArg::F_GETFL).unwrap();
                assert!(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
            } else {
                assert_eq!(result.err(), Some(Errno::EPROTOTYPE));
            }
        }
    }
    fs::write(served.path("file"), "").unwrap();
    let file = served.host.connect(&served.walk("file"), 0);
    assert_eq!(file.err(), Some(Errno::ENOTSOCK));
}

#[test]
fn a_full_backlog_is_not_waited_for() {
    let served = Served::new();
    let (handle, _, bound) = served
        .host
        .bind_at(served.root(), name("socket"), creation(0o600), STREAM)
        .unwrap();
    let refused = Errno::from(nix::errno::Errno::ECONNREFUSED);
    assert_eq!(served.host.connect(&handle, STREAM).err(), Some(refused));
    bound.start_listening(0).unwrap();
    let start = Instant::now();
    let mut waiting = Vec::new();
    let error = loop {
        match served.host.connect(&handle, STREAM) {
            Ok(socket) => waiting.push(socket),
            Err(errno) => break errno,
        }
        assert!(waiting.len() < 10, "a backlog of 0 has room for one");
    };
    assert_eq!(error, Errno::EAGAIN);
    assert!(start.elapsed() < AT_ONCE);
}

#[test]
fn a_bound_socket_that_is_connected_instead_waits_for_data_as_any_other() {
    let served = Served::new();
    let (_, _, bound) = served
        .host
        .bind_at(served.root(), name("bound"), creation(0o600), STREAM)
        .unwrap();
    let timeout = |of| nix::sys::socket::getsockopt(of, ReceiveTimeout).unwrap();
    let clients = bound.socket().try_clone_to_owned().unwrap();
    assert_eq!(timeout(&clients), TimeVal::new(0, 0), "as long as it takes");

    bound.start_listening(1).unwrap();
    assert_ne!(timeout(&clients), TimeVal::new(0, 0));
    let here = UnixStream::connect(served.path("bound")).unwrap();
    let there = UnixStream::from(bound.accept_one().unwrap());
    assert_eq!(
        (here.read_timeout().unwrap(), there.read_timeout().unwrap()),
        (None, None)
    );
}

#[test]
fn accepting_never_waits_even_if_the_client_says_so() {
    let served = Served::new();
    let (handle, _, bound) = served
        .host
        .bind_at(served.root(), name("socket"), creation(0o600), STREAM)
        .unwrap();
    assert_eq!(
        bound.accept_one().err(),
        Some(Errno::EINVAL),
        "it does not listen yet"
    );
    bound.start_listening(-1).unwrap();
    let clients = crate::server::BoundSocketFdImpl::socket(&bound);
    let start = Instant::now();
    assert_eq!(bound.accept_one().err(), Some(Errno::EAGAIN));
    fcntl(clients, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    assert_eq!(bound.accept_one().err(), Some(Errno::EAGAIN));
    // Even the flag changing at the worst moment means a short wait only.
    fcntl(clients, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    assert_eq!(
        crate::host::sys::accept(clients).err(),
        Some(nix::errno::Errno::EAGAIN)
    );
    assert!(start.elapsed() < AT_ONCE);

    fs::remove_file(served.path("socket")).unwrap();
    let _peer = served.host.connect(&handle, STREAM).unwrap();
    let accepted = bound.accept_one().unwrap();
    let flags = OFlag::from_bits_retain(fcntl(&accepted, FcntlArg::F_GETFL).unwrap());
    assert!(flags.contains(OFlag::O_NONBLOCK));
    assert!(accepted.as_fd().try_clone_to_owned().is_ok());
}

#[test]
fn a_connection_under_another_identity_shows_it_or_is_not_made() {
    let served = Served::new();
    let path = served.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let permit = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    permit(0o777);
    listener.set_nonblocking(true).unwrap();
    let handle = served.walk("socket");
    let connect = |uid, gid| {
        let (uid, gid) = (Uid(uid), Gid(gid));
        served.host.connect_with_creds(&handle, STREAM, uid, gid)
    };
    let status = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let kept = ["Uid:", "Gid:", "Groups:", "Cap"];
        let lines = status
            .lines()
            .filter(|line| kept.iter().any(|kept| line.starts_with(kept)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    if !is_root() {
        let before = status();
        assert_eq!(connect(4321, 1234).err(), Some(Errno::EPERM));
        assert_eq!(status(), before);
        assert!(listener.accept().is_err(), "nobody has connected");
        return;
    }
    // A server that has no sandbox may have groups.
    let groups = sys::thread_groups().unwrap();
    sys::set_thread_groups(&[5555, 6666]).unwrap();
    let before = status();
    assert!(before.iter().any(|line| line.contains("5555 6666")));
    assert_eq!(connect(u32::MAX, 0).err(), Some(Errno::EINVAL));
    assert_eq!(connect(0, u32::MAX).err(), Some(Errno::EINVAL));
    let assert_shown = |uid, gid| {
        set_dumpable(true).unwrap();
        let _socket = connect(uid, gid).unwrap();
        // Also where the kernel would make it so, or leave it.
        assert_eq!(get_dumpable(), Ok(false));
        let (accepted, _) = listener.accept().unwrap();
        let peer = getsockopt(&accepted, PeerCredentials).unwrap();
        assert_eq!((peer.uid(), peer.gid()), (uid, gid));
        assert_eq!(sys::peer_groups(accepted.as_fd()), Ok(Vec::new()));
        assert_eq!(status(), before);
    };
    for (uid, gid) in [(4321, 1234), (0, 1234), (4321, 0), (0, 0)] {
        assert_shown(uid, gid);
    }
    // Whoever it is has no more rights than that: not those of root, of another owner, or of a group that
    // only the server is in.
    let refused = |uid, gid| assert_eq!(connect(uid, gid).err(), Some(Errno::EACCES));
    permit(0o700);
    refused(4321, 0);
    std::os::unix::fs::chown(&path, Some(7777), Some(5555)).unwrap();
    refused(4321, 5555);
    assert_shown(7777, 1234);
    permit(0o770);
    refused(4321, 1234);
    assert_shown(4321, 5555);
    assert_eq!(status(), before);
    assert!(listener.accept().is_err(), "nobody else has connected");
    sys::set_thread_groups(&groups).unwrap();
}

#[test]
fn a_socket_that_cannot_be_bound_leaves_nothing() {
    let served = Served::new();
    fs::write(served.path("taken"), "content").unwrap();
    let before = served.open_descriptors();
    let bound = served
        .host
        .bind_at(served.root(), name("taken"), creation(0o600), STREAM);
    assert_eq!(bound.err(), Some(Errno::EADDRINUSE));
    fs::create_dir(served.path("gone")).unwrap();
    let gone = served.walk("gone");
    gone.hold().unwrap();
    fs::remove_dir(served.path("gone")).unwrap();
    let bound = served
        .host
        .bind_at(&gone, name("socket"), creation(0o600), STREAM);
    assert_eq!(bound.err(), Some(Errno::ENOENT));
    let long = "n".repeat(200);
    let bound = served
        .host
        .bind_at(&gone, name(&long), creation(0o600), STREAM);
    assert_eq!(bound.err(), Some(Errno::ENOENT));
    drop(gone);
    assert_eq!(served.names(), ["taken"]);
    assert_eq!(served.open_descriptors(), before);
    assert_eq!(fs::metadata(served.path("taken")).unwrap().size(), 7);
}
