//! Descriptors of a connection without a transport.

use std::os::fd::OwnedFd;

use lisafs::server::{Direct, DirectWorker};

use super::*;

fn connect(scene: &Scene) -> Direct<PhantomFs> {
    let backend = PhantomFs::on(&scene.stage);
    let opts = ConnectionOpts::default();
    scene.server.connect_directly(backend, opts).unwrap()
}

/// Serves a message to a worker in some way, and gives the payload of the reply back.
fn serve(
    mut serve: impl FnMut(Mid, &mut [u8], &mut [u8]) -> (Mid, usize),
    request: &impl Request,
    mid: Mid,
) -> Result<Vec<u8>, Errno> {
    let (mut bytes, mut reply) = (Vec::new(), vec![0; 512]);
    request.encode(&mut bytes).unwrap();
    let (got, len) = serve(mid, &mut bytes, &mut reply);
    reply.truncate(len);
    if got == Mid::ERROR {
        let said = ErrorResp::from_bytes(&reply).unwrap();
        return Err(Errno::new(said.errno).unwrap());
    }
    assert_eq!(got, mid);
    Ok(reply)
}

fn mount(worker: &mut DirectWorker<'_, PhantomFs>) -> FdId {
    let plain = |mid, request: &mut [u8], reply: &mut [u8]| worker.serve(mid, request, reply);
    let reply = serve(plain, &MountReq {}, Mid::MOUNT).unwrap();
    MountResp::from_bytes(&reply).unwrap().root.control_fd
}

#[test]
fn without_a_transport_descriptors_go_to_who_asks_for_them() {
    let scene = Scene::new();
    let connection = connect(&scene);
    let mut worker = connection.worker().unwrap();
    let root = mount(&mut worker);
    let mut fds: Vec<OwnedFd> = Vec::new();
    let mut with_fds = |mid, request: &mut [u8], reply: &mut [u8]| {
        worker.serve_with_fds(mid, request, reply, &mut fds)
    };
    let reply = serve(&mut with_fds, &donations::bind(root), Mid::BIND_AT).unwrap();
    let bound = BindAtResp::from_bytes(&reply).unwrap().bound_socket_fd;
    assert_eq!(scene.server.census().ids, 3);
    let ids = [bound];
    let closed = CloseReq {
        fds: Array::new(&ids),
    };
    serve(&mut with_fds, &closed, Mid::CLOSE).unwrap();
    let gone = serve(&mut with_fds, &AcceptReq { fd: bound }, Mid::ACCEPT);
    assert_eq!(gone, Err(Errno::EBADF));

    // The descriptor is the client's own: it outlives the id.
    let [socket] = fds.try_into().unwrap();
    assert!(UnixStream::from(socket).local_addr().is_ok());
}

#[test]
fn without_a_transport_what_needs_a_descriptor_is_taken_back() {
    let scene = Scene::new();
    let connection = connect(&scene);
    let mut worker = connection.worker().unwrap();
    let root = mount(&mut worker);
    let plain = |mid, request: &mut [u8], reply: &mut [u8]| worker.serve(mid, request, reply);
    let refused = serve(plain, &donations::bind(root), Mid::BIND_AT);
    assert_eq!(refused, Err(Errno::EOPNOTSUPP));
    assert_eq!(
        (scene.server.census().ids, scene.server.count_nodes()),
        (1, 1)
    );
    let events = scene.events();
    assert!(
        events.iter().any(|event| event.starts_with("unlink")),
        "{events:?}"
    );
}

/// One byte below what it has, as much, and one more, over a socket.
#[test]
fn messages_have_room_for_the_reply_to_mount() {
    let scene = Scene::new();
    let connection = connect(&scene);
    let mut worker = connection.worker().unwrap();
    let plain = |mid, request: &mut [u8], reply: &mut [u8]| worker.serve(mid, request, reply);
    let reply = serve(plain, &MountReq {}, Mid::MOUNT).unwrap();
    let least = u32::try_from(reply.len()).unwrap();
    for (max_message_size, refused) in [
        (least - 1, Some(Errno::EINVAL)),
        (least, None),
        (least + 1, None),
    ] {
        let opts = ConnectionOpts {
            max_message_size,
            ..ConnectionOpts::default()
        };
        let mounted = scene.connect(opts).map(drop);
        assert_eq!(mounted.err(), refused, "{max_message_size}");
    }
}
