//! The private copy of a reply.

use std::os::fd::OwnedFd;

use flipcall::{FrameBuffer, SharedBytes};

use super::{Error, FailureKind};
use crate::Errno;
use crate::wire::{Decode, ErrorResp, Mid};

/// How much of a copy is kept from call to call: more than the usual messages need, entries of a
/// directory included.
const KEPT: usize = 128 << 10;

/// Memory for a reply and the descriptors that came with it; kept from call to call.
///
/// A reply that was decoded borrows from it. Descriptors that nobody has taken by the next call
/// are closed.
///
/// ```
/// use lisafs::client::{Communicator, Reply, Socket};
/// use lisafs::wire::{FdId, OpenAtReq, StringArrayBuf, WalkReq};
///
/// # let served = lisafs_served::directory()?;
/// # served.write("file", b"data")?;
/// let mut socket = Socket::from(served.connect()?);
/// let mut reply = Reply::new();
/// let root = socket.mount()?.root.control_fd;
/// let path = StringArrayBuf::collect(["file".as_bytes()])?;
/// let walked = socket.call(&WalkReq { dir_fd: root, path: path.as_array() }, &mut reply)?;
/// let fd = walked.inodes.iter().next().ok_or("not found")?.control_fd;
/// socket.call(&OpenAtReq { fd, flags: 0 }, &mut reply)?;
/// // The host's descriptor came along.
/// let donated = reply.take_fd().ok_or("no descriptor")?;
/// assert_eq!(std::io::read_to_string(std::fs::File::from(donated))?, "data");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Reply {
    /// What came over a socket.
    frame: FrameBuffer,
    /// What was copied out of a window. Keeps its length up to [`KEPT`], so that no byte of it is
    /// cleared twice.
    copy: Vec<u8>,
    body: Body,
    fds: Vec<OwnedFd>,
}

/// Where the bytes of the last reply are.
#[derive(Clone, Copy, Debug, Default)]
enum Body {
    #[default]
    Frame,
    Copy {
        len: usize,
    },
}

impl Reply {
    /// A buffer that owns no memory yet.
    #[must_use]
    pub fn new() -> Reply {
        Reply::default()
    }

    /// The payload of the last reply, whatever it was.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match self.body {
            Body::Frame => self.frame.as_slice(),
            Body::Copy { len } => self.copy.get(..len).unwrap_or_default(),
        }
    }

    /// The descriptors that came along and have not been taken, in the server's order.
    #[must_use]
    pub fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// Takes all descriptors.
    #[must_use]
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Takes the first descriptor, if one came, and closes the others.
    #[must_use]
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.drain(..).next()
    }

    /// Closes what nobody took, and forgets the payload and memory that only a rare long one needs.
    pub(super) fn clear(&mut self) {
        self.fds.clear();
        self.copy.truncate(KEPT);
        self.copy.shrink_to(KEPT);
        self.body = Body::Copy { len: 0 };
    }

    /// Copies a payload out of a window.
    pub(super) fn copy_from(&mut self, payload: SharedBytes<'_>) {
        let len = payload.len();
        if self.copy.len() < len {
            self.copy.resize(len, 0);
        }
        let copied = self
            .copy
            .get_mut(..len)
            .is_some_and(|copy| payload.copy_to(0, copy).is_ok());
        self.body = Body::Copy {
            len: if copied { len } else { 0 },
        };
    }

    /// Where a socket puts a payload and its descriptors.
    pub(super) fn frame(&mut self) -> (&mut FrameBuffer, &mut Vec<OwnedFd>) {
        self.body = Body::Frame;
        (&mut self.frame, &mut self.fds)
    }

    /// Keeps a descriptor.
    pub(super) fn push_fd(&mut self, fd: OwnedFd) {
        self.fds.push(fd);
    }

    /// Decodes the reply; closes what came with one that cannot be decoded.
    pub(super) fn decode<'b, T: Decode<'b>>(&'b mut self) -> Result<T, Error> {
        let body = match self.body {
            Body::Frame => self.frame.as_slice(),
            Body::Copy { len } => self.copy.get(..len).unwrap_or_default(),
        };
        T::from_bytes(body).map_err(|malformed| {
            self.fds.clear();
            malformed.into()
        })
    }

    /// Makes an error of a reply `got` that is not the answer to `wanted`, and closes what came
    /// with it.
    pub(super) fn expect(&mut self, wanted: Mid, got: Mid) -> Result<(), Error> {
        let why = match got {
            _ if got == wanted => return Ok(()),
            Mid::ERROR => self.remote_error(),
            _ => Error::failed(FailureKind::Unexpected(got)),
        };
        self.fds.clear();
        Err(why)
    }

    /// The errno in an error reply. A number that is no errno is EIO, and so is a reply that is
    /// too short to hold one.
    fn remote_error(&self) -> Error {
        match ErrorResp::from_bytes(self.body()) {
            Ok(error) => Error::Remote(Errno::new(error.errno).unwrap_or(Errno::EIO)),
            Err(short) => short.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_a_long_reply_is_given_back_with_the_next() {
        let mut reply = Reply::new();
        let (mut long, mut short) = (vec![1; 4 << 20], [2; 100]);
        reply.copy_from(SharedBytes::from(&mut long[..]));
        assert!(reply.body() == long);
        reply.clear();
        assert!(reply.body().is_empty());
        assert!(reply.copy.capacity() <= KEPT);
        reply.copy_from(SharedBytes::from(&mut short[..]));
        assert_eq!(reply.body(), short);
    }
}
