//! A server that does what a test tells it to.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use flipcall::{
    Active, FdSender, FrameBuffer, FrameSocket, PacketWindow, Received, ServerEndpoint,
    SharedBytes, Spinners, WaitPolicy, fd_channel,
};
use lisafs::Errno;
use lisafs::wire::{
    Array, ChannelResp, Dirent64, DirentWriter, Encode, ErrorResp, FdId, Getdents64Resp, Inode,
    Mid, MountResp, Statx, messages,
};

/// The limit that a fake server announces unless a test wants another.
pub(crate) const LIMIT: u32 = 64 << 10;

/// A request as it came.
pub(crate) type Message = (Mid, Vec<u8>);

/// Runs `script` as the server at the other end of the returned stream.
pub(crate) fn serve<T: Send + 'static>(
    script: impl FnOnce(Fake) -> T + Send + 'static,
) -> (UnixStream, JoinHandle<T>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || script(Fake::new(ours)));
    (theirs, server)
}

/// The server's end of a connection.
pub(crate) struct Fake {
    frames: FrameSocket,
    raw: UnixStream,
    buffer: FrameBuffer,
}

impl Fake {
    fn new(stream: UnixStream) -> Fake {
        Fake {
            raw: stream.try_clone().unwrap(),
            frames: FrameSocket::from(stream),
            buffer: FrameBuffer::new(),
        }
    }

    /// The next request, or `None` once the client is gone.
    pub(crate) fn next(&mut self) -> Option<Message> {
        match self
            .frames
            .recv(&mut self.buffer, u32::MAX / 2, &mut Vec::new(), 0)
        {
            Ok(Received::Frame { mid, .. }) => Some((Mid(mid), self.buffer.as_slice().to_vec())),
            _ => None,
        }
    }

    /// The body of the next request, which must be `mid`.
    pub(crate) fn expect(&mut self, mid: Mid) -> Vec<u8> {
        let (got, body) = self.next().expect("the client is still there");
        assert_eq!(got, mid);
        body
    }

    pub(crate) fn reply(&mut self, mid: Mid, message: &impl Encode) {
        self.reply_with(mid, &encode(message), &[]);
    }

    pub(crate) fn error(&mut self, errno: Errno) {
        self.reply(Mid::ERROR, &error(errno));
    }

    pub(crate) fn reply_with(&mut self, mid: Mid, body: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut body = body.to_vec();
        let body = SharedBytes::from(body.as_mut_slice());
        self.frames.send(mid.0, body, fds).unwrap();
    }

    /// Sends bytes that need not be a frame.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.raw.write_all(bytes).unwrap();
    }

    /// Answers a Mount: the root is id 1, a directory, and all messages are supported.
    pub(crate) fn mount(&mut self) {
        self.expect(Mid::MOUNT);
        self.reply(Mid::MOUNT, &mount(&all_mids()));
    }

    /// Answers a Channel request and runs `script` on the channel in another thread.
    pub(crate) fn channel<T: Send + 'static>(
        &mut self,
        script: impl FnOnce(FakeChannel) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.expect(Mid::CHANNEL);
        let window = PacketWindow::create(LIMIT as usize + 4).unwrap();
        let (fds, theirs) = fd_channel(8).unwrap();
        let place = window.descriptor();
        let place = ChannelResp {
            data_offset: i64::try_from(place.offset).unwrap(),
            data_length: place.length,
        };
        let memory = window.try_clone_fd().unwrap();
        self.reply_with(
            Mid::CHANNEL,
            &encode(&place),
            &[memory.as_fd(), theirs.as_fd()],
        );
        let endpoint = ServerEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
        thread::spawn(move || {
            script(FakeChannel {
                state: State::New(endpoint),
                fds,
            })
        })
    }

    /// Answers a Getdents64 with directories of these names.
    pub(crate) fn entries(&mut self, names: &[&[u8]]) {
        let mut buffer = Vec::new();
        let mut dirents = DirentWriter::new(&mut buffer, LIMIT as usize);
        for name in names {
            let entry = Dirent64 {
                ino: 7,
                dev_minor: 1,
                dev_major: 8,
                off: 0,
                d_type: libc::DT_DIR,
                name,
            };
            dirents.push(&entry).unwrap();
        }
        let dirents = dirents.as_dirents();
        self.reply(Mid::GETDENTS64, &Getdents64Resp { dirents });
    }

    /// Answers every further Channel request with ENOMEM, and nothing else, until the client goes.
    /// Returns what else was asked.
    pub(crate) fn refuse_channels(mut self) -> Vec<Message> {
        let mut others = Vec::new();
        while let Some((mid, body)) = self.next() {
            self.error(Errno::ENOMEM);
            if mid != Mid::CHANNEL {
                others.push((mid, body));
            }
        }
        others
    }
}

enum State {
    New(ServerEndpoint),
    Connected(Active),
    Over,
}

/// The server's end of a channel.
pub(crate) struct FakeChannel {
    state: State,
    fds: FdSender,
}

impl FakeChannel {
    /// Waits for the first request.
    pub(crate) fn first(&mut self) -> Option<Message> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::New(endpoint) => {
                let (active, len) = endpoint.recv_first().ok()?;
                let request = read(&active, len);
                self.state = State::Connected(active);
                Some(request)
            }
            _ => panic!("the first request came already"),
        }
    }

    /// Hands over `datagram`, header included, and waits for the next request.
    pub(crate) fn answer(&mut self, datagram: &[u8]) -> Option<Message> {
        let State::Connected(active) = &mut self.state else {
            panic!("there is no request to answer");
        };
        active.payload().copy_from(0, datagram).unwrap();
        let len = active.send_recv(datagram.len()).ok()?;
        Some(read(active, len))
    }

    pub(crate) fn reply(&mut self, mid: Mid, message: &impl Encode) -> Option<Message> {
        self.answer(&datagram(mid, 0, &encode(message)))
    }

    /// Queues descriptors for the next answer.
    pub(crate) fn queue(&mut self, fd: BorrowedFd<'_>) {
        self.fds.send(fd).unwrap();
    }
}

fn read(active: &Active, len: usize) -> Message {
    let mut datagram = vec![0; len];
    active.payload().copy_to(0, &mut datagram).unwrap();
    let mid = Mid(u16::from_le_bytes([datagram[0], datagram[1]]));
    assert_eq!(datagram[2..4], [0, 0], "a request carries no descriptors");
    (mid, datagram.split_off(4))
}

/// A datagram with the header of a channel.
pub(crate) fn datagram(mid: Mid, num_fds: u8, body: &[u8]) -> Vec<u8> {
    let [low, high] = mid.0.to_le_bytes();
    [&[low, high, num_fds, 0], body].concat()
}

pub(crate) fn encode(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn error(errno: Errno) -> ErrorResp {
    ErrorResp {
        errno: errno.raw().into(),
    }
}

pub(crate) fn all_mids() -> Vec<Mid> {
    messages().map(|message| message.mid).collect()
}

pub(crate) fn mount(mids: &[Mid]) -> MountResp<'_> {
    MountResp {
        root: inode(1, libc::S_IFDIR),
        max_message_size: LIMIT,
        supported_mids: Array::new(mids),
    }
}

/// A file with an id and the mode that `kind` gives it.
pub(crate) fn inode(id: u64, kind: libc::mode_t) -> Inode {
    Inode {
        control_fd: FdId(id),
        stat: Statx {
            mask: libc::STATX_BASIC_STATS,
            mode: u16::try_from(kind | 0o755).unwrap(),
            ino: 1000 + id,
            ..Statx::default()
        },
    }
}

/// A descriptor, and a way to see that all copies of it are closed.
pub(crate) fn watched() -> (OwnedFd, Watch) {
    let (reader, writer) = std::io::pipe().unwrap();
    (writer.into(), Watch(reader))
}

/// Tells when a descriptor from [`watched`] is closed.
pub(crate) struct Watch(std::io::PipeReader);

impl Watch {
    /// Whether nobody holds the descriptor any more.
    pub(crate) fn is_closed(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }
}
