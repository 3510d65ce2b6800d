//! A hostile server: it answers with what it is given.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::thread;

use flipcall::{
    FdSender, FrameBuffer, FrameSocket, PacketWindow, Received, ServerEndpoint, SharedBytes,
    Spinners, WaitPolicy, fd_channel,
};
use lisafs::wire::{Array, ChannelResp, Encode, FdId, Inode, Mid, MountResp, Statx, messages};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::frames::{Frame, Frames};

/// The limit of a message, where Mount is answered as it should be.
const LIMIT: u32 = 16 << 10;

/// The server's end of a connection. It hangs up when it has no more answers.
pub struct HostileServer<'a> {
    socket: FrameSocket,
    answers: Mutex<Frames<'a>>,
    /// What goes along where the two high bits of an answer's number say so.
    gifts: [OwnedFd; 4],
    /// Mount is answered as it should be.
    pub mounts: bool,
    /// Channels are opened as they should be. Requests on them are answered as all are.
    pub channels: bool,
}

impl<'a> HostileServer<'a> {
    /// A server at this end of a connection, with the messages of `input` for answers.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(stream: UnixStream, input: &'a [u8]) -> io::Result<HostileServer<'a>> {
        let window = PacketWindow::create(8).map_err(io::Error::other)?;
        // A file that is said to be a FIFO is read through what is donated for it, and would be for ever.
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(HostileServer {
            socket: FrameSocket::from(stream),
            answers: Mutex::new(Frames::new(input)),
            gifts: [
                window.try_clone_fd().map_err(io::Error::other)?,
                File::open("/dev/null")?.into(),
                reader,
                writer,
            ],
            mounts: false,
            channels: false,
        })
    }

    /// Serves until there is no answer or no client left.
    pub fn serve(&self) {
        let mut request = FrameBuffer::new();
        thread::scope(|scope| {
            while let Ok(Received::Frame { mid, .. }) =
                self.socket.recv(&mut request, 1 << 20, &mut Vec::new(), 0)
            {
                let sent = match Mid(mid) {
                    Mid::MOUNT if self.mounts => self.mount(),
                    Mid::CHANNEL if self.channels => self.channel().map(|(endpoint, fds)| {
                        scope.spawn(move || self.serve_channel(endpoint, &fds));
                    }),
                    _ => self.next().and_then(|answer| {
                        let gifts = self.gifts_of(answer);
                        self.send(Mid(answer.mid.0 & 63), answer.payload, &gifts)
                    }),
                };
                if sent.is_none() {
                    break;
                }
            }
            self.socket.shutdown();
        });
    }

    fn next(&self) -> Option<Frame<'a>> {
        self.answers.lock().ok()?.next()
    }

    fn gifts_of(&self, answer: Frame<'_>) -> Vec<BorrowedFd<'_>> {
        let first = answer.payload.len() % self.gifts.len();
        let count = usize::from(answer.mid.0 >> 6);
        let gifts = self.gifts.iter().cycle().skip(first).take(count);
        gifts.map(AsFd::as_fd).collect()
    }

    fn send(&self, mid: Mid, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Option<()> {
        let mut payload = payload.to_vec();
        let payload = SharedBytes::from(payload.as_mut_slice());
        self.socket.send(mid.0, payload, fds).ok()
    }

    fn mount(&self) -> Option<()> {
        let mids: Vec<Mid> = messages().map(|message| message.mid).collect();
        let mount = MountResp {
            root: Inode {
                control_fd: FdId(1),
                stat: Statx {
                    mask: libc::STATX_BASIC_STATS,
                    mode: 0o040_755,
                    ..Statx::default()
                },
            },
            max_message_size: LIMIT,
            supported_mids: Array::new(&mids),
        };
        self.send(Mid::MOUNT, &encoded(&mount), &[])
    }

    fn channel(&self) -> Option<(ServerEndpoint, FdSender)> {
        let window = PacketWindow::create(LIMIT as usize + 4).ok()?;
        let (fds, theirs) = fd_channel(8).ok()?;
        let place = ChannelResp {
            data_offset: 0,
            data_length: window.descriptor().length,
        };
        let memory = window.try_clone_fd().ok()?;
        let given = [memory.as_fd(), theirs.as_fd()];
        self.send(Mid::CHANNEL, &encoded(&place), &given)?;
        let endpoint = ServerEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
        Some((endpoint, fds))
    }

    /// Answers with datagrams: the second byte of the header is the first of the payload.
    fn serve_channel(&self, endpoint: ServerEndpoint, fds: &FdSender) {
        let Ok((mut active, _)) = endpoint.recv_first() else {
            return;
        };
        while let Some(answer) = self.next() {
            let gifts = self.gifts_of(answer);
            let sent = gifts.iter().filter(|gift| fds.send(**gift).is_ok()).count();
            // It may promise more than there are.
            let promised = u8::try_from(sent).unwrap_or(0) + u8::from(answer.payload.len() == 3);
            let mid = Mid(answer.mid.0 & 63).0.to_le_bytes();
            let datagram = [&mid, &[promised, 0][..], answer.payload].concat();
            let len = datagram.len().min(active.payload().len());
            let part = datagram.get(..len).unwrap_or_default();
            if active.payload().copy_from(0, part).is_err() || active.send_recv(len).is_err() {
                break;
            }
        }
        self.socket.shutdown();
    }
}

fn encoded(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("a u16 counts anything");
    bytes
}
