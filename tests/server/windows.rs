//! What is in the window of a channel when its connection has ended.

use std::fs::File;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::{FileExt, MetadataExt};

use flipcall::{Active, ClientEndpoint, PacketWindow, WindowDescriptor};

use super::*;

/// Of one answer, so that it goes beyond the first page.
const ANSWER: usize = 1 << 20;

/// A client that was answered over a channel, and has not looked at the answer yet.
struct Answered {
    socket: Socket,
    root: FdId,
    active: Active,
    window: File,
}

impl Answered {
    fn new(scene: &Scene) -> Answered {
        let (mut socket, root) = scene.client();
        let f = one(&mut socket, root, "f");
        let open = OpenAtReq { fd: f, flags: 0 };
        let fd = socket.call(&open, &mut Reply::new()).unwrap().open_fd;
        let mut reply = Reply::new();
        let place = socket.call(&ChannelReq {}, &mut reply).unwrap();
        let descriptor = WindowDescriptor {
            offset: place.data_offset.try_into().unwrap(),
            length: place.data_length,
        };
        let [memory, _descriptors] = reply.take_fds().try_into().unwrap();
        let window = File::from(memory.try_clone().unwrap());
        let mapped = PacketWindow::from_peer(memory, descriptor).unwrap();
        let endpoint = ClientEndpoint::new(mapped, WaitPolicy::Park, &Spinners::new());
        let mut active = endpoint.connect().unwrap();
        // The back end says that it has read, and leaves what is there.
        active
            .payload()
            .copy_from(0, &[7; 2 * ANSWER - 8192])
            .unwrap();
        let read = PReadReq {
            offset: 0,
            fd,
            count: u32::try_from(ANSWER).unwrap(),
        };
        let mut message = PReadReq::MID.0.to_le_bytes().to_vec();
        message.extend([0; 2]);
        read.encode(&mut message).unwrap();
        active.payload().copy_from(0, &message).unwrap();
        let len = active.send_recv(message.len()).unwrap();
        assert!(len > ANSWER, "{len} bytes");
        Answered {
            socket,
            root,
            active,
            window,
        }
    }

    /// Looks at the answer at last.
    fn is_whole(&self) -> bool {
        let mut answer = vec![0; ANSWER - 64];
        // The request and the header of the answer have been in front.
        let (_, bytes) = self.active.payload().split_at(64).unwrap();
        bytes.copy_to(0, &mut answer).unwrap();
        answer.iter().all(|byte| *byte == 7)
    }

    /// Whether the bytes behind the first page are gone.
    fn is_empty(&self) -> bool {
        let mut bytes = vec![7; ANSWER];
        self.window.read_exact_at(&mut bytes, 64 << 10).unwrap();
        bytes.iter().all(|byte| *byte == 0)
    }
}

/// Who is stopped has promised an answer, which takes its time to be read.
#[test]
fn an_answer_stays_whole_when_the_server_ends() {
    let ends: [fn(&Scene, &mut Answered); 3] = [
        |scene, _| assert!(scene.server.shutdown(DEADLINE)),
        |scene, _| scene.server.abort(),
        // A panic of the back end on the thread of the socket, where no handler stands above it.
        |_, client| {
            let f = one(&mut client.socket, client.root, "f-panics");
            let open = OpenAtReq { fd: f, flags: 0 };
            client.socket.call(&open, &mut Reply::new()).unwrap_err();
        },
    ];
    for (number, end) in ends.iter().enumerate() {
        let scene = Scene::new();
        let mut client = Answered::new(&scene);
        end(&scene, &mut client);
        scene.server.wait();
        // What the end of a channel does may be done a moment later.
        thread::sleep(Duration::from_millis(50));
        assert!(client.is_whole(), "after end {number}");
    }
}

#[test]
fn the_answer_of_a_client_that_hangs_up_or_breaks_the_protocol_goes() {
    let ends: [fn(&Answered); 2] = [
        |client| stream(&client.socket).shutdown(Shutdown::Both).unwrap(),
        // The header of a frame that is far too long.
        |client| stream(&client.socket).write_all(&[0xff; 8]).unwrap(),
    ];
    for (number, end) in ends.iter().enumerate() {
        let scene = Scene::new();
        let client = Answered::new(&scene);
        assert!(client.is_whole());
        end(&client);
        let is_empty = || client.is_empty();
        assert!(within(DEADLINE, is_empty), "after end {number}");
    }
}

/// Whoever of the channel and the connection ends first, and in the middle of the other's end.
#[test]
fn the_answer_goes_also_when_the_channel_ends_with_its_connection() {
    for round in 0..200 {
        let scene = Scene::new();
        let client = Answered::new(&scene);
        let stream = stream(&client.socket);
        let Answered { active, window, .. } = client;
        let ending = thread::spawn(move || {
            for _ in 0..round * 50 {
                std::hint::spin_loop();
            }
            drop(active);
        });
        stream.shutdown(Shutdown::Both).unwrap();
        ending.join().unwrap();
        let is_empty = || window.metadata().unwrap().blocks() <= 8;
        assert!(within(DEADLINE, is_empty), "in round {round}");
    }
}
