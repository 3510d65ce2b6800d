//! Descriptors that cannot be given to the client, because it does not take those before them.

use flipcall::{Active, ClientEndpoint, FdReceiver, PacketWindow, WindowDescriptor};

use super::*;

/// A channel whose descriptors are taken only when the test says so.
struct Undrained {
    active: Active,
    descriptors: FdReceiver,
}

impl Undrained {
    fn open(socket: &mut Socket) -> Undrained {
        let mut reply = Reply::new();
        let place = socket.call(&ChannelReq {}, &mut reply).unwrap();
        let descriptor = WindowDescriptor {
            offset: place.data_offset.try_into().unwrap(),
            length: place.data_length,
        };
        let [memfd, descriptors] = reply.take_fds().try_into().unwrap();
        let window = PacketWindow::from_peer(memfd, descriptor).unwrap();
        let endpoint = ClientEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
        Undrained {
            active: endpoint.connect().unwrap(),
            descriptors: FdReceiver::from(descriptors),
        }
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

    /// Has the server donate until it cannot any more.
    fn fill(&mut self, root: FdId) {
        let create = CreateCommon {
            dir_fd: root,
            uid: Uid::NONE,
            gid: Gid::NONE,
            mode: 0o600,
        };
        let bind = BindAtReq {
            create,
            sock_type: 1,
            name: b"s",
        };
        let refused = (0..10_000).find_map(|_| self.call(&bind).err());
        assert_eq!(refused, Some((Errno::EAGAIN, 0)));
    }
}

#[test]
fn a_socket_that_cannot_be_donated_is_unbound_again() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    Undrained::open(&mut socket).fill(root);
    let ids = scene.server.census().ids;
    assert_eq!(
        ids % 2,
        1,
        "the root, and two ids for each socket that was given: {ids}"
    );
    assert_eq!(scene.events().last().unwrap(), "unlink \"s\" in /");
}

#[test]
fn a_descriptor_is_counted_even_if_the_one_behind_it_was_not_sent() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let mut undrained = Undrained::open(&mut socket);
    undrained.fill(root);
    // Room for the first of the two descriptors of a channel.
    undrained.descriptors.recv().unwrap().unwrap();
    let refused = undrained.call(&ChannelReq {});
    assert_eq!(refused, Err((Errno::EAGAIN, 1)));
}
