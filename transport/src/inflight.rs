#![forbid(unsafe_code)]
//! How many descriptors are on their way to a peer, who may never take them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};

use crate::shared::SharedBytes;
use crate::sys;

/// How many descriptors are remembered, however many there may be, before the kernel is asked.
const REMEMBERED: usize = 1024;

/// Counts the descriptors that were sent over a socket and have not been taken.
///
/// The kernel tells how much memory the messages take that wait in the peer's queue. None takes less
/// than an empty one, so there are no more than go into that; and since a queue is taken from its
/// front, they are the last that were sent. Where each message is of the least size, as those without
/// data are, the count is exact; otherwise it may be too high until the peer has taken more.
///
/// The kernel is asked when the count is at the limit and not before: a peer that takes descriptors as
/// they come costs one system call more for as many of them as the limit is.
#[derive(Debug)]
pub(crate) struct InFlight {
    limit: usize,
    /// What an empty message takes in bytes.
    least: usize,
    sent: Mutex<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    /// How many descriptors went with each message that brought some, in order.
    messages: VecDeque<usize>,
    descriptors: usize,
}

impl Sent {
    /// Forgets all but the last `count` messages.
    fn keep(&mut self, count: usize) {
        let taken = self.messages.len().saturating_sub(count);
        self.descriptors -= self.messages.drain(..taken).sum::<usize>();
    }
}

impl InFlight {
    /// # Errors
    ///
    /// What socketpair(2) says.
    pub(crate) fn new(limit: usize) -> nix::Result<InFlight> {
        Ok(InFlight {
            limit,
            least: least_message()?,
            sent: Mutex::default(),
        })
    }

    /// What an empty message takes of a socket's queue, in bytes.
    pub(crate) fn least_message(&self) -> usize {
        self.least
    }

    /// Whether a message with `count` descriptors can be sent over `socket`. For the one thread that
    /// sends: of several, each could be told of the same room.
    ///
    /// # Errors
    ///
    /// EAGAIN if there would be more in flight than there may be; what ioctl(2) says.
    pub(crate) fn admit(&self, socket: BorrowedFd<'_>, count: usize) -> nix::Result<()> {
        let mut sent = self.sent();
        if sent.descriptors + count > self.limit.min(REMEMBERED) {
            sent.keep(sys::unread(socket)? / self.least);
        }
        if sent.descriptors + count > self.limit {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// Counts a message that was sent with `count` descriptors, if there are any.
    pub(crate) fn add(&self, count: usize) {
        if count > 0 {
            let mut sent = self.sent();
            sent.messages.push_back(count);
            sent.descriptors += count;
        }
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message without data takes of a socket's queue, which is a constant of the kernel.
fn least_message() -> nix::Result<usize> {
    static FOUND: OnceLock<usize> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(*found);
    }
    let (ours, _theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    let nothing = SharedBytes::from(&mut [][..]);
    sys::send(ours.as_fd(), &[], nothing, &[], MsgFlags::MSG_NOSIGNAL)?;
    let found = sys::unread(ours.as_fd())?.max(1);
    Ok(*FOUND.get_or_init(|| found))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use nix::unistd::{read, write};

    use super::*;

    #[test]
    fn what_is_taken_makes_room() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let in_flight = InFlight::new(4).unwrap();
        let send = |count| {
            in_flight.admit(ours.as_fd(), count)?;
            in_flight.add(count);
            write(&ours, b"x").map(drop)
        };
        let take = || assert_eq!(read(&theirs, &mut [0]), Ok(1));
        assert_eq!(send(5), Err(Errno::EAGAIN));
        for _ in 0..3 {
            for count in [2, 1, 1] {
                assert_eq!(send(count), Ok(()));
            }
            assert_eq!(send(1), Err(Errno::EAGAIN));
            take();
            assert_eq!(send(3), Err(Errno::EAGAIN), "two are left");
            assert_eq!(send(1), Ok(()));
            assert_eq!(send(2), Err(Errno::EAGAIN), "three are left");
            take();
            assert_eq!(send(2), Ok(()));
            for _ in 0..3 {
                take();
            }
        }
    }

    #[test]
    fn without_a_limit_no_more_is_remembered_than_there_is() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let in_flight = InFlight::new(usize::MAX).unwrap();
        for _ in 0..10 * REMEMBERED {
            in_flight.admit(ours.as_fd(), 2).unwrap();
            in_flight.add(2);
        }
        assert!(in_flight.sent().messages.len() <= REMEMBERED / 2);
    }

    #[test]
    fn messages_that_take_more_are_not_fewer() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let in_flight = InFlight::new(2).unwrap();
        let admitted = || in_flight.admit(ours.as_fd(), 1);
        for _ in 0..2 {
            assert_eq!(admitted(), Ok(()));
            in_flight.add(1);
            write(&ours, &[0; 5000]).unwrap();
        }
        assert_eq!(admitted(), Err(Errno::EAGAIN));
        // By its size, what is left could be both.
        assert_eq!(read(&theirs, &mut [0; 5000]), Ok(5000));
        assert_eq!(admitted(), Err(Errno::EAGAIN));
        assert_eq!(read(&theirs, &mut [0; 5000]), Ok(5000));
        assert_eq!(admitted(), Ok(()));
    }
}
