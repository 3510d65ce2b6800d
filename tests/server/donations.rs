//! Descriptors that cannot be given to the client, because it does not take those before them.

use std::collections::VecDeque;

use flipcall::{
    Active, ClientEndpoint, FdReceiver, FrameBuffer, FrameSocket, PacketWindow, Received,
    SharedBytes, WindowDescriptor,
};

use super::*;

/// A channel whose descriptors are taken only when the test says so.
struct Undrained {
    active: Active,
    descriptors: FdReceiver,
}

impl Undrained {
    fn open(socket: &mut Socket) -> Undrained {
        Undrained::try_open(socket).unwrap()
    }

    fn try_open(socket: &mut Socket) -> Result<Undrained, Error> {
        let mut reply = Reply::new();
        let place = socket.call(&ChannelReq {}, &mut reply)?;
        let descriptor = WindowDescriptor {
            offset: place.data_offset.try_into().unwrap(),
            length: place.data_length,
        };
        let [memfd, descriptors] = reply.take_fds().try_into().unwrap();
        let window = PacketWindow::from_peer(memfd, descriptor).unwrap();
        let endpoint = ClientEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
        Ok(Undrained {
            active: endpoint.connect().unwrap(),
            descriptors: FdReceiver::from(descriptors),
        })
    }

    /// Sends a request, and returns how many descriptors the reply says are queued.
    fn call<R: Request>(&mut self, request: &R) -> Result<u8, (Errno, u8)> {
        let mut message = R::MID.0.to_le_bytes().to_vec();
        message.extend([0; 2]);
        request.encode(&mut message).unwrap();
        self.active.payload().copy_from(0, &message).unwrap();
        self.active.send_recv(message.len()).unwrap();
        let mut header = [0; 8];
        self.active.payload().copy_to(0, &mut header).unwrap();
        let [a, b, num_fds, _, errno @ ..] = header;
        match Mid(u16::from_le_bytes([a, b])) {
            Mid::ERROR => {
                let errno = Errno::new(u32::from_le_bytes(errno)).unwrap();
                Err((errno, num_fds))
            }
            _ => Ok(num_fds),
        }
    }

    /// Takes a descriptor that has to be there.
    fn take(&self) {
        assert!(self.descriptors.recv().unwrap().is_some());
    }

    /// Has the server donate so many times, and not once more.
    fn fill(&mut self, root: FdId, count: usize) {
        for nth in 1..=count {
            assert_eq!(self.call(&bind(root)), Ok(1), "the descriptor number {nth}");
        }
        assert_eq!(self.call(&bind(root)), Err((Errno::EAGAIN, 0)));
    }
}

/// A request whose answer is nothing without its descriptor.
pub(super) fn bind(root: FdId) -> BindAtReq<'static> {
    BindAtReq {
        create: create_in(root, 0o600),
        sock_type: 1,
        name: b"s",
    }
}

fn limited(scene: &Scene, max_donations: usize) -> Result<(Socket, FdId), Errno> {
    scene.connect(ConnectionOpts {
        max_donations,
        ..ConnectionOpts::default()
    })
}

#[test]
fn a_socket_that_cannot_be_donated_is_unbound_again() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    Undrained::open(&mut socket).fill(root, 8);
    let ids = scene.server.census().ids;
    assert_eq!(ids, 17, "the root, and two for each socket that was given");
    assert_eq!(scene.events().last().unwrap(), "unlink \"s\" in /");
}

#[test]
fn a_descriptor_is_counted_even_if_the_one_behind_it_was_not_sent() {
    let scene = Scene::new();
    let (mut socket, root) = limited(&scene, 3).unwrap();
    let mut undrained = Undrained::open(&mut socket);
    for _ in 0..2 {
        assert_eq!(undrained.call(&bind(root)), Ok(1));
    }
    // There is room for the first of the two descriptors of a channel.
    let refused = undrained.call(&ChannelReq {});
    assert_eq!(refused, Err((Errno::EAGAIN, 1)));
    for _ in 0..3 {
        undrained.take();
    }
    assert_eq!(undrained.call(&ChannelReq {}), Ok(2));
}

#[test]
fn a_channel_donates_again_what_was_taken() {
    let scene = Scene::new();
    for limit in [2, 3, 100] {
        let (mut socket, root) = limited(&scene, limit).unwrap();
        let mut undrained = Undrained::open(&mut socket);
        for _ in 0..3 {
            undrained.fill(root, limit);
            for taken in 1..=limit {
                (0..taken).for_each(|_| undrained.take());
                undrained.fill(root, taken);
            }
            (0..limit).for_each(|_| undrained.take());
            assert_eq!(undrained.descriptors.recv().err(), Some(nix::Error::EAGAIN));
        }
        // A client that takes what it gets never hears of it.
        for _ in 0..3 * limit {
            assert_eq!(undrained.call(&bind(root)), Ok(1));
            undrained.take();
        }
    }
}

/// They are in flight although nobody donates there any more.
#[test]
fn a_channel_that_has_ended_keeps_its_place_until_its_descriptors_are_taken() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let max_channels = ConnectionOpts::default().max_channels;
    let none_runs = || scene.server.census().channels == 0;
    let mut left: VecDeque<_> = (0..max_channels)
        .map(|_| {
            let mut undrained = Undrained::open(&mut socket);
            undrained.fill(root, 8);
            drop(undrained.active);
            assert!(within(DEADLINE, none_runs), "the channel does not end");
            undrained.descriptors
        })
        .collect();
    let no_more = |socket: &mut Socket| {
        let refused = Undrained::try_open(socket).map(drop);
        assert_eq!(refused.unwrap_err().errno(), Errno::ENOMEM);
    };
    no_more(&mut socket);
    // All but one, all, and the end.
    let takes = |descriptors: &FdReceiver| descriptors.recv().unwrap().is_some();
    let first = left.pop_front().unwrap();
    assert!((0..7).all(|_| takes(&first)));
    no_more(&mut socket);
    assert!(takes(&first) && !takes(&first));
    let mut undrained = Undrained::open(&mut socket);
    no_more(&mut socket);
    // It is as good as any other, and what is left with the dead ones can still be taken.
    undrained.fill(root, 8);
    for descriptors in left.split_off(1) {
        assert!((0..8).all(|_| takes(&descriptors)) && !takes(&descriptors));
    }
    // Nobody can take what is closed.
    drop(left);
    let running = (1..max_channels).map(|_| Undrained::open(&mut socket));
    let _running: Vec<_> = running.collect();
    no_more(&mut socket);
}

#[test]
fn a_limit_without_room_for_a_channel_is_refused() {
    let scene = Scene::new();
    for limit in [0, 1] {
        assert_eq!(limited(&scene, limit).err(), Some(Errno::EINVAL));
    }
}

/// Sends requests without a look at the answers, and waits until all of them are there.
fn send_ahead(scene: &Scene, frames: &FrameSocket, root: FdId, count: usize) {
    let mut request = Vec::new();
    bind(root).encode(&mut request).unwrap();
    let marks = || scene.events().iter().filter(|it| *it == "mount /").count();
    let before = marks();
    for _ in 0..count {
        let request = SharedBytes::from(request.as_mut_slice());
        frames.send(Mid::BIND_AT.0, request, &[]).unwrap();
    }
    // One thread answers all of them, in order.
    let nothing = SharedBytes::from(&mut [][..]);
    frames.send(Mid::MOUNT.0, nothing, &[]).unwrap();
    let answered = || marks() != before;
    assert!(within(DEADLINE, answered), "nothing is answered");
}

/// The next answer: which message it is, its first bytes as a number, and how many descriptors came.
fn next(frames: &FrameSocket) -> (Mid, u32, usize) {
    let (mut body, mut fds) = (FrameBuffer::new(), Vec::new());
    let received = frames.recv(&mut body, 1 << 20, &mut fds, 2).unwrap();
    let Received::Frame { mid, .. } = received else {
        panic!("{received:?}");
    };
    let first = body.as_slice().first_chunk().copied().unwrap_or_default();
    (Mid(mid), u32::from_le_bytes(first), fds.len())
}

#[test]
fn a_socket_donates_again_what_was_taken() {
    const LIMIT: usize = 3;
    let scene = Scene::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let backend = PhantomFs::on(&scene.stage);
    let opts = ConnectionOpts {
        max_donations: LIMIT,
        ..ConnectionOpts::default()
    };
    scene
        .server
        .start_connection(theirs, backend, opts)
        .unwrap();
    let frames = FrameSocket::from(ours);
    // Mounts, the first id of which is the root.
    let root = FdId(1);
    send_ahead(&scene, &frames, root, 0);
    assert_eq!(next(&frames).0, Mid::MOUNT);
    for ahead in [LIMIT - 1, LIMIT, LIMIT + 1, 20, 1] {
        send_ahead(&scene, &frames, root, ahead);
        for nth in 0..ahead {
            let (mid, first, fds) = next(&frames);
            if nth < LIMIT {
                assert_eq!((mid, fds), (Mid::BIND_AT, 1), "{nth} of {ahead}");
            } else {
                let refused = (Mid::ERROR, u32::from(Errno::EAGAIN.raw()), 0);
                assert_eq!((mid, first, fds), refused, "{nth} of {ahead}");
            }
        }
        assert_eq!(next(&frames).0, Mid::MOUNT);
    }
}
