#![forbid(unsafe_code)]
//! Frames on a stream socket, for set-up and for everything too rare to deserve a channel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, SockType, getsockopt, setsockopt, shutdown, sockopt};

use crate::error::{Error, ErrorKind, says_gone};
use crate::inflight::InFlight;
use crate::shared::SharedBytes;
use crate::sys;

/// u32 payload length, u16 mid, u16 padding.
const HEADER_LEN: usize = 8;

/// A receive buffer starts with this much, grows as data arrives, and is cut back to it between
/// frames.
const BUFFER_STEP: usize = 64 << 10;

/// A stream socket that carries frames, with descriptors riding on them.
///
/// Works on blocking and on non-blocking sockets. `&self` everywhere, so that another thread can
/// [`shutdown`](Self::shutdown); two threads that receive (or send) at the same time tear each
/// other's frames apart.
///
/// ```
/// use flipcall::{FrameBuffer, FrameSocket, Received, SharedBytes};
///
/// # let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
/// let (client, server) = (FrameSocket::from(ours), FrameSocket::from(theirs));
/// client.send(7, SharedBytes::from(&mut b"ping".to_vec()[..]), &[])?;
///
/// let (mut body, mut fds) = (FrameBuffer::new(), Vec::new());
/// let got = server.recv(&mut body, 4096, &mut fds, 0)?;
/// assert!(matches!(got, Received::Frame { mid: 7, len: 4 }));
/// assert_eq!(body.as_slice(), b"ping");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FrameSocket {
    stream: OwnedFd,
    in_flight: Option<InFlight>,
}

/// What [`FrameSocket::recv`] found.
///
/// ```
/// use flipcall::{FrameBuffer, FrameSocket, Received, SharedBytes};
///
/// # let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
/// let (client, server) = (FrameSocket::from(ours), FrameSocket::from(theirs));
/// client.send(7, SharedBytes::from(&mut [0; 10][..]), &[])?;
/// drop(client);
///
/// let (mut body, mut fds) = (FrameBuffer::new(), Vec::new());
/// let first = server.recv(&mut body, 8, &mut fds, 0)?;
/// assert!(matches!(first, Received::TooLong { mid: 7, len: 10 }));
/// let second = server.recv(&mut body, 8, &mut fds, 0)?;
/// assert!(matches!(second, Received::Closed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame, whose payload of `len` bytes is in the buffer.
    Frame {
        /// The message id.
        mid: u16,
        /// Length of the payload.
        len: u32,
    },
    /// A frame with more payload than allowed. It was read off the socket and thrown away.
    TooLong {
        /// The message id.
        mid: u16,
        /// Length of the payload.
        len: u32,
    },
    /// The peer closed the socket between two frames.
    Closed,
}

/// Why [`FrameSocket::send`] failed.
///
/// ```
/// use flipcall::{FrameSocket, SendError, SharedBytes};
///
/// # let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
/// let client = FrameSocket::from(ours);
/// drop(theirs);
/// let sent = client.send(7, SharedBytes::from(&mut [][..]), &[]);
/// assert!(matches!(sent, Err(SendError::Broken(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Not one byte was sent and the socket is intact: another frame, say one without the
    /// descriptor, can be sent instead.
    #[error("frame was not sent")]
    Unsent(#[source] Errno),
    /// The socket can carry no more frames.
    #[error("socket is broken")]
    Broken(#[source] Error),
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Error {
        match error {
            SendError::Unsent(errno) => Error::os("cannot send")(errno),
            SendError::Broken(error) => error,
        }
    }
}

/// Memory for one received payload, kept from frame to frame.
///
/// ```
/// let mut body = flipcall::FrameBuffer::new();
/// // Nothing has been received.
/// assert!(body.as_slice().is_empty());
/// assert!(body.as_shared().is_empty());
/// ```
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// An empty buffer, which owns no memory yet.
    pub fn new() -> FrameBuffer {
        FrameBuffer::default()
    }

    /// The payload of the last frame; empty if there was none.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The payload of the last frame, which is private memory, to be taken apart.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The payload of the last frame, in the form in which channels present theirs.
    pub fn as_shared(&mut self) -> SharedBytes<'_> {
        SharedBytes::from(self.bytes.as_mut_slice())
    }

    /// Forgets the payload, and memory that only a rare long frame needs.
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_STEP);
    }

    /// Adds `len` bytes and returns them.
    fn grow(&mut self, len: usize) -> &mut [u8] {
        let filled = self.bytes.len();
        self.bytes.reserve_exact(len);
        self.bytes.resize(filled + len, 0);
        self.bytes.get_mut(filled..).unwrap_or_default()
    }
}

impl FrameSocket {
    /// Takes over a descriptor from elsewhere, and makes it close-on-exec.
    ///
    /// SO_PASSCRED and SO_PASSPIDFD, should they be set, are switched off: what the kernel then adds
    /// to a frame would take the place of its descriptors, or be one that nobody closes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is a socket but not a stream, [`ErrorKind::Io`] if it is
    /// no socket (ENOTSOCK), or with the errno of setsockopt(2).
    pub fn from_fd(fd: OwnedFd) -> Result<FrameSocket, Error> {
        let kind = getsockopt(&fd, sockopt::SockType)
            .map_err(Error::os("cannot use the descriptor as a socket"))?;
        if kind != SockType::Stream {
            return Err(Error::new(ErrorKind::InvalidInput, "not a stream socket"));
        }
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .map_err(Error::os("cannot make the socket close-on-exec"))?;
        setsockopt(&fd, sockopt::PassCred, &false)
            .map_err(Error::os("cannot switch credentials off"))?;
        sys::pass_pidfd(fd.as_fd(), false)
            .map_err(Error::os("cannot switch process descriptors off"))?;
        Ok(FrameSocket::new(fd))
    }

    fn new(stream: OwnedFd) -> FrameSocket {
        FrameSocket {
            stream,
            in_flight: None,
        }
    }

    /// The same socket, over which so many descriptors can be in flight at the most. Without, as many
    /// as the kernel has room for.
    ///
    /// What the peer has received is known by how much room the rest takes. Long frames take more, so
    /// of a peer that leaves those unread fewer descriptors may be known to be received than are.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] with the errno of socketpair(2).
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use flipcall::{FrameBuffer, FrameSocket, SendError, SharedBytes};
    ///
    /// # let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let (server, client) = (FrameSocket::from(ours), FrameSocket::from(theirs));
    /// let server = server.with_max_in_flight(1)?;
    /// let file = std::fs::File::open("/proc/self/comm")?;
    /// let give = || server.send(7, SharedBytes::from(&mut [][..]), &[file.as_fd()]);
    /// give()?;
    /// assert!(matches!(give(), Err(SendError::Unsent(errno)) if errno as i32 == libc::EAGAIN));
    ///
    /// client.recv(&mut FrameBuffer::new(), 0, &mut Vec::new(), 1)?;
    /// give()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_max_in_flight(self, max_in_flight: usize) -> Result<FrameSocket, Error> {
        let in_flight = InFlight::new(max_in_flight)
            .map_err(Error::os("cannot measure the queue of a socket"))?;
        Ok(FrameSocket {
            in_flight: Some(in_flight),
            ..self
        })
    }

    /// Waits for the next frame and puts its payload into `body`.
    ///
    /// At most `max` bytes of payload are accepted, and no memory is set aside for a length that is
    /// only claimed. Up to `want_fds` descriptors that ride on the first byte are appended to
    /// `fds`, close-on-exec; fewer may come. With `want_fds` zero the kernel discards them all.
    /// Descriptors are delivered also when the frame is too long.
    ///
    /// # Errors
    ///
    /// The socket is of no more use after any of these but `InvalidInput`:
    /// - [`ErrorKind::Protocol`]: payload of more than twice `max`, or end of file inside a frame;
    /// - [`ErrorKind::Io`]: the errno of recvmsg(2) or poll(2);
    /// - [`ErrorKind::InvalidInput`]: `want_fds` above 16.
    pub fn recv(
        &self,
        body: &mut FrameBuffer,
        max: u32,
        fds: &mut Vec<OwnedFd>,
        want_fds: usize,
    ) -> Result<Received, Error> {
        if want_fds > sys::MAX_FDS {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "too many descriptors per frame",
            ));
        }
        body.clear();
        let mut header = [0; HEADER_LEN];
        match self.fill(&mut header, want_fds, fds)? {
            0 => return Ok(Received::Closed),
            HEADER_LEN => {}
            _ => return Err(cut_short()),
        }
        let [a, b, c, d, e, f, _, _] = header;
        let len = u32::from_ne_bytes([a, b, c, d]);
        let mid = u16::from_ne_bytes([e, f]);
        if len <= max {
            self.fill_body(body, len as usize)?;
            Ok(Received::Frame { mid, len })
        } else if u64::from(len) <= 2 * u64::from(max) {
            self.drain(len as usize)?;
            Ok(Received::TooLong { mid, len })
        } else {
            Err(Error::about(
                ErrorKind::Protocol,
                "frame is far too long",
                len.into(),
            ))
        }
    }

    /// Sends one frame: header and payload in one go, `fds` on its first byte.
    ///
    /// `body` may be private or shared memory; the kernel reads it in place. At most 16
    /// descriptors.
    ///
    /// # Errors
    ///
    /// [`SendError::Unsent`] with EAGAIN if there would be more descriptors in flight
    /// [than there may be](Self::with_max_in_flight), with the errno of sendmsg(2), for instance
    /// ETOOMANYREFS if too many of this user are in flight or EPERM if the peer refuses them, and with
    /// EINVAL for too many descriptors or a payload above `u32::MAX`; [`SendError::Broken`] if the
    /// peer is gone or part of the frame is already out.
    pub fn send(
        &self,
        mid: u16,
        body: SharedBytes<'_>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), SendError> {
        let len = u32::try_from(body.len()).map_err(|_| SendError::Unsent(Errno::EINVAL))?;
        let [a, b, c, d] = len.to_ne_bytes();
        let [e, f] = mid.to_ne_bytes();
        let header = [a, b, c, d, e, f, 0, 0];
        let mut head = &header[..];
        let mut body = body;
        let mut fds = fds;
        let in_flight = self.in_flight.as_ref().filter(|_| !fds.is_empty());
        if let Some(in_flight) = in_flight {
            in_flight
                .admit(self.as_fd(), fds.len())
                .map_err(SendError::Unsent)?;
        }
        while !(head.is_empty() && body.is_empty()) {
            match sys::send(self.as_fd(), head, body, fds, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => {
                    let from_body = sent.saturating_sub(head.len());
                    head = head.get(sent..).unwrap_or_default();
                    body = body.split_at(from_body).map_or(body, |(_, rest)| rest);
                    if let Some(in_flight) = in_flight {
                        in_flight.add(fds.len());
                    }
                    fds = &[];
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.until(PollFlags::POLLOUT).map_err(SendError::Broken)?,
                Err(errno) if head.len() == HEADER_LEN && !says_gone(errno) => {
                    return Err(SendError::Unsent(errno));
                }
                Err(errno) => return Err(SendError::Broken(Error::os("cannot send")(errno))),
            }
        }
        Ok(())
    }

    /// Ends the connection from any thread: a blocked [`recv`](Self::recv) sees the end of the
    /// file, a blocked [`send`](Self::send) fails with EPIPE, and the peer likewise.
    pub fn shutdown(&self) {
        // It can only fail with ENOTCONN, when there is nothing left to shut down.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Both);
    }

    /// Takes no more frames, from any thread: a blocked [`recv`](Self::recv) sees the end of the
    /// file, while what is being answered still can be.
    pub fn shutdown_recv(&self) {
        // As above.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Read);
    }

    /// As [`shutdown`](Self::shutdown), and throws away what the peer has sent and nobody has
    /// received. For the thread that receives.
    ///
    /// Descriptors of the peer's are closed by whoever throws them away, and if nobody else has them
    /// that can take as long as the peer likes: a TCP socket lingers for its own peer, a file waits for
    /// its file system. Nothing is left of them for the thread that drops this.
    ///
    /// ```
    /// use flipcall::{FrameBuffer, FrameSocket, Received, SharedBytes};
    ///
    /// # let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let (client, server) = (FrameSocket::from(ours), FrameSocket::from(theirs));
    /// client.send(7, SharedBytes::from(&mut [][..]), &[])?;
    /// server.discard();
    /// let found = server.recv(&mut FrameBuffer::new(), 0, &mut Vec::new(), 0)?;
    /// assert!(matches!(found, Received::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self) {
        // The peer can send nothing more.
        self.shutdown();
        let mut sink = [0; 4096];
        // Afterwards a byte out of band: kernels before 6.9 keep that when they pass over it.
        for flags in [MsgFlags::empty(), MsgFlags::MSG_OOB] {
            let flags = flags | MsgFlags::MSG_DONTWAIT;
            loop {
                match sys::recv(self.as_fd(), &mut sink, 0, drop, flags) {
                    Ok(0) => break,
                    // That the peer has gone is said once, and may be said before the last byte.
                    Ok(_) | Err(Errno::EINTR | Errno::ECONNRESET) => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// As [`refuse_descriptors`](refuse_descriptors()) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] with the errno of setsockopt(2).
    pub fn refuse_descriptors(&self) -> Result<(), Error> {
        refuse_descriptors(self.as_fd()).map_err(Error::os("cannot refuse descriptors"))
    }

    /// Reads until `buf` is full or the stream ends, and returns how much was read.
    fn fill(
        &self,
        buf: &mut [u8],
        want_fds: usize,
        fds: &mut Vec<OwnedFd>,
    ) -> Result<usize, Error> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            // Descriptors ride on the first byte of a frame and nowhere else.
            let want = if filled == 0 { want_fds } else { 0 };
            match sys::recv(
                self.as_fd(),
                rest,
                want,
                |fd| fds.push(fd),
                MsgFlags::empty(),
            ) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.until(PollFlags::POLLIN)?,
                Err(errno) => return Err(Error::os("cannot receive")(errno)),
            }
        }
        Ok(filled)
    }

    /// Reads a payload of `len` bytes, doubling the memory only as it fills.
    fn fill_body(&self, body: &mut FrameBuffer, len: usize) -> Result<(), Error> {
        while body.bytes.len() < len {
            let filled = body.bytes.len();
            let step = filled.max(BUFFER_STEP).min(len - filled);
            if self.fill(body.grow(step), 0, &mut Vec::new())? < step {
                body.clear();
                return Err(cut_short());
            }
        }
        Ok(())
    }

    /// Reads `len` bytes and forgets them.
    fn drain(&self, len: usize) -> Result<(), Error> {
        let mut sink = [0; 4096];
        let mut left = len;
        while left > 0 {
            let part = sink.get_mut(..left.min(4096)).unwrap_or_default();
            let count = self.fill(part, 0, &mut Vec::new())?;
            if count == 0 {
                return Err(cut_short());
            }
            left -= count;
        }
        Ok(())
    }

    fn until(&self, ready: PollFlags) -> Result<(), Error> {
        match poll(&mut [PollFd::new(self.as_fd(), ready)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::os("cannot wait for the socket")(errno)),
        }
    }
}

/// Makes the kernel refuse descriptors that are sent to `socket`, where it can (Linux 6.16); the send
/// then fails with EPERM. Elsewhere they are discarded on receipt.
///
/// From a listening socket those have it that clients make from then on, so that nothing comes before
/// they are accepted.
///
/// # Errors
///
/// The errno of setsockopt(2).
pub fn refuse_descriptors(socket: BorrowedFd<'_>) -> nix::Result<()> {
    sys::refuse_descriptors(socket)
}

impl From<UnixStream> for FrameSocket {
    fn from(stream: UnixStream) -> FrameSocket {
        FrameSocket::new(stream.into())
    }
}

/// For polling, and for asking who the peer is. Bytes that are read or written here are missing
/// there.
impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn cut_short() -> Error {
    Error::new(ErrorKind::Protocol, "socket was closed inside a frame")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pidfds() -> usize {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
        targets
            .filter(|target| target.to_string_lossy().contains("pidfd"))
            .count()
    }

    #[test]
    fn what_the_kernel_was_told_to_add_is_switched_off() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        setsockopt(&ours, sockopt::PassCred, &true).unwrap();
        sys::pass_pidfd(ours.as_fd(), true).unwrap();
        let ours = FrameSocket::from_fd(ours.into()).unwrap();
        let theirs = FrameSocket::from(theirs);
        let mut fds = Vec::new();
        let gift = std::fs::File::open("/dev/null").unwrap();
        for gifts in [&[][..], &[gift.as_fd()]] {
            let nothing = SharedBytes::from(&mut [][..]);
            theirs.send(7, nothing, gifts).unwrap();
            let mut body = FrameBuffer::new();
            let received = ours.recv(&mut body, 0, &mut fds, 1).unwrap();
            assert_eq!(received, Received::Frame { mid: 7, len: 0 });
            assert_eq!(fds.len(), gifts.len());
            assert_eq!(pidfds(), 0);
        }
    }
}
