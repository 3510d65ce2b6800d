//! Unix sockets in the directory.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use lisafs::Errno;
use lisafs::client::{Communicator, Reply};
use lisafs::wire::*;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

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

pub(crate) fn connections_show_the_identity_asked_for() {
    let mut scene = Scene::new();
    let listener = UnixListener::bind(scene.path("socket")).unwrap();
    fs::set_permissions(scene.path("socket"), fs::Permissions::from_mode(0o777)).unwrap();
    let fd = scene.walk("socket");
    let request = ConnectWithCredsReq {
        fd,
        sock_type: STREAM,
        uid: Uid(4321),
        gid: Gid(1234),
    };
    let mut reply = Reply::new();
    scene.socket.call(&request, &mut reply).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let peer = getsockopt(&accepted, PeerCredentials).unwrap();
    assert_eq!((peer.uid(), peer.gid()), (4321, 1234));
    // The thread has its own identity back: nobody else could.
    let create = CreateCommon {
        uid: Uid(99),
        ..scene.create(0o700)
    };
    assert_eq!(mkdir(&mut scene.socket, create, "directory").stat.uid, 99);
    scene
        .socket
        .call(
            &ConnectReq {
                fd,
                sock_type: STREAM,
            },
            &mut reply,
        )
        .unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert_eq!(getsockopt(&accepted, PeerCredentials).unwrap().uid(), 0);
}
