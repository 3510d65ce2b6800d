//! A stream as it is written: bytes, with descriptors on some of them.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::frames::{Frame, Frames};

/// How many writes there are at the most: what they take in the kernel fits into the queue of a socket,
/// so that nobody has to read meanwhile.
const WRITES: usize = 64;

/// The writes of an input, each a [`Frame`] whose number is how many descriptors go along.
#[derive(Clone, Debug)]
pub struct Writes<'a> {
    writes: Vec<Frame<'a>>,
}

/// A write that was made.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// Where in the stream.
    at: usize,
    /// How many descriptors went along.
    fds: usize,
}

/// The stream as it is known to who has written it.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// All bytes.
    pub bytes: Vec<u8>,
    made: Vec<Made>,
}

impl Written {
    /// How many descriptors come with the first eight bytes from `at`, if all before are taken: those
    /// of the first write that begins there and has some.
    #[must_use]
    pub fn fds_at(&self, at: usize) -> usize {
        let mut begun = self.made.iter().filter(|made| made.fds > 0);
        let first = begun.find(|made| (at..at + 8).contains(&made.at));
        first.map_or(0, |made| made.fds)
    }
}

impl<'a> Writes<'a> {
    /// Takes `input` for writes.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Writes<'a> {
        let writes = Frames::new(input).filter(|write| !write.payload.is_empty());
        Writes {
            writes: writes.take(WRITES).collect(),
        }
    }

    /// Makes them, `gift` being all descriptors; what is sent without where the kernel refuses them.
    /// Ends early if nobody reads any more.
    ///
    /// # Errors
    /// What the host says, such as that it takes too long.
    pub fn make(&self, stream: &UnixStream, gift: &File) -> io::Result<Written> {
        let mut written = Written::default();
        for write in &self.writes {
            let gifts = vec![gift.as_raw_fd(); usize::from(write.mid.0)];
            let mut fds = gifts.len();
            let mut sent = send(stream, write.payload, &gifts);
            if fds > 0 && sent.is_err() {
                fds = 0;
                sent = send(stream, write.payload, &[]);
            }
            let at = written.bytes.len();
            match sent {
                Ok(len) => assert_eq!(len, write.payload.len(), "it is a blocking socket"),
                Err(Errno::EPIPE | Errno::ECONNRESET) => break,
                Err(errno) => return Err(errno.into()),
            }
            written.made.push(Made { at, fds });
            written.bytes.extend_from_slice(write.payload);
        }
        Ok(written)
    }
}

fn send(stream: &UnixStream, bytes: &[u8], fds: &[i32]) -> nix::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    let (number, flags) = (stream.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    loop {
        match sendmsg::<()>(number, &[IoSlice::new(bytes)], rights, flags, None) {
            // libFuzzer has a timer.
            Err(Errno::EINTR) => {}
            sent => return sent,
        }
    }
}
