//! Unix sockets in the directory.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use lisafs::Errno;
use lisafs::client::{Communicator, Reply};
use lisafs::wire::*;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, getpeername, getsockopt, socket,
};
use nix::unistd::{self, getgroups, setgroups};

use crate::scene::{STREAM, Scene, mkdir};

pub(crate) fn sockets_work_at_any_depth() {
    let mut scene = Scene::new();
    let mut directory = scene.root;
    for component in ["d".repeat(200), "e".repeat(200)] {
        let create = CreateCommon {
            dir_fd: directory,
            ..scene.create(0o755)
        };
        directory = mkdir(&mut scene.socket, create, &component).control_fd;
    }
    let mut channel = scene.channel();
    for name in ["short".to_owned(), "n".repeat(255)] {
        let mut reply = Reply::new();
        let create = CreateCommon {
            dir_fd: directory,
            ..scene.create(0o600)
        };
        let request = BindAtReq {
            create,
            sock_type: STREAM,
            name: name.as_bytes(),
        };
        let bound = channel.call(&request, &mut reply).unwrap();
        let (file, listener) = (bound.child.control_fd, bound.bound_socket_fd);
        assert!(reply.take_fd().is_some(), "the socket is donated");
        channel
            .call(
                &ListenReq {
                    fd: listener,
                    backlog: 5,
                },
                &mut reply,
            )
            .unwrap();
        scene
            .socket
            .call(
                &ConnectReq {
                    fd: file,
                    sock_type: 0,
                },
                &mut reply,
            )
            .unwrap();
        let mut here = UnixStream::from(reply.take_fd().unwrap());
        channel
            .call(&AcceptReq { fd: listener }, &mut reply)
            .unwrap();
        let mut there = UnixStream::from(reply.take_fd().unwrap());
        here.write_all(b"x").unwrap();
        let mut byte = [0];
        there.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        let again = channel.call(&AcceptReq { fd: listener }, &mut reply);
        assert_eq!(again.err().map(|error| error.errno()), Some(Errno::EAGAIN));
    }
}

/// It may be a path of the host.
pub(crate) fn the_address_of_a_peer_is_not_told() {
    let mut scene = Scene::new();
    let mut reply = Reply::new();
    let request = BindAtReq {
        create: scene.create(0o600),
        sock_type: STREAM,
        name: b"served",
    };
    let bound = scene.socket.call(&request, &mut reply).unwrap();
    let fd = bound.bound_socket_fd;
    let own = reply.take_fd().unwrap();
    scene.call(&ListenReq { fd, backlog: 5 }).unwrap();
    let [from, to] = ["from", "served"].map(|name| scene.path(name));
    let address = UnixAddr::new(&from).unwrap();
    let flags = SockFlag::SOCK_CLOEXEC;
    let peer = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    bind(peer.as_raw_fd(), &address).unwrap();
    connect(peer.as_raw_fd(), &UnixAddr::new(&to).unwrap()).unwrap();
    let accepted = scene.socket.call(&AcceptReq { fd }, &mut reply).unwrap();
    assert_eq!(accepted.peer_addr, b"");
    // The kernel knows it.
    let accepted = reply.take_fd().unwrap();
    let known: UnixAddr = getpeername(accepted.as_raw_fd()).unwrap();
    assert_eq!(known.path(), Some(from.as_path()));
    drop(own);
}

/// What proc_pid_status(5) says of the identities that threads have. Those of earlier cases may be
/// ending meanwhile.
fn identities() -> BTreeSet<Vec<String>> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let paths = threads.filter_map(|thread| Some(thread.ok()?.path().join("status")));
    let status = paths.filter_map(|path| fs::read_to_string(path).ok());
    let is_kept = |line: &&str| {
        let kept = ["Uid:", "Gid:", "Groups:", "Cap"];
        kept.iter().any(|kept| line.starts_with(kept))
    };
    status
        .map(|status| status.lines().filter(is_kept).map(str::to_owned).collect())
        .collect()
}

/// The groups of the process. Its own again when dropped.
struct Groups(Vec<unistd::Gid>);

impl Groups {
    fn set(groups: &[unistd::Gid]) -> Groups {
        let own = getgroups().unwrap();
        setgroups(groups).unwrap();
        Groups(own)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let restored = setgroups(&self.0);
        assert!(restored.is_ok() || thread::panicking(), "{restored:?}");
    }
}

/// Also of a server that has groups of its own, which are nobody else's.
pub(crate) fn connections_show_the_identity_asked_for() {
    let _groups = Groups::set(&[5555, 6666].map(unistd::Gid::from_raw));
    let mut scene = Scene::new();
    let path = scene.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let fd = scene.walk("socket");
    let before = identities();
    assert!(
        before
            .iter()
            .flatten()
            .any(|line| line.contains("5555 6666"))
    );
    let as_other = ConnectWithCredsReq {
        fd,
        sock_type: STREAM,
        uid: Uid(4321),
        gid: Gid(1234),
    };
    let as_itself = ConnectReq {
        fd,
        sock_type: STREAM,
    };
    let shown = || {
        let (accepted, _) = listener.accept().unwrap();
        let peer = getsockopt(&accepted, PeerCredentials).unwrap();
        (peer.uid(), peer.gid())
    };
    scene.call(&as_other).unwrap();
    assert_eq!(shown(), (4321, 1234));
    let assert_kept = || assert_eq!(identities().difference(&before).next(), None);
    // The thread has its own identity back: nobody else could.
    assert_kept();
    let create = CreateCommon {
        uid: Uid(99),
        ..scene.create(0o700)
    };
    assert_eq!(mkdir(&mut scene.socket, create, "directory").stat.uid, 99);
    scene.call(&as_itself).unwrap();
    assert_eq!(shown(), (0, 0));
    // A socket of somebody else, and one that is open to a group of the server's.
    for mode in [0o700, 0o770] {
        chown(&path, Some(7777), Some(5555)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        scene.refuses(&as_other, Errno::EACCES);
        assert_kept();
        scene.call(&as_itself).unwrap();
        assert_eq!(shown(), (0, 0));
    }
    let of_group = ConnectWithCredsReq {
        gid: Gid(5555),
        ..as_other
    };
    scene.call(&of_group).unwrap();
    assert_eq!(shown(), (4321, 5555));
}
