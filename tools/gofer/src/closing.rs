//! Sockets that nobody serves, closed where that holds nobody up.
//!
//! What a client has sent goes with the socket that it is in, and a descriptor among it can have whoever
//! closes that wait, for as long as the client likes. Kernels before Linux 6.16 cannot refuse
//! descriptors, and none refuses those that were sent before this process had the socket. A socket that
//! has none, as is usual, is closed at once, so that nobody has to wait behind those.
#![forbid(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::mem;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, recvmsg};
use parking_lot::Mutex;

/// How many may wait. Each has a descriptor.
const MOST: usize = 64;

/// How much of what a client has sent is looked at. Who is turned away has mostly asked to mount.
const LOOKED_AT: usize = 4096;

/// Sockets that are to be closed, and the thread that does, which there is as long as there are some.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<OwnedFd>,
    has_thread: bool,
}

impl Closing {
    /// Closes the socket of a client, who hears of it at once.
    pub(crate) fn hang_up(&self, client: UnixStream) {
        // It can only fail where there is nothing to shut down.
        let _ = client.shutdown(Shutdown::Both);
        if may_have_descriptors(&client) {
            self.close(client.into());
        }
    }

    /// Closes a socket.
    pub(crate) fn close(&self, socket: OwnedFd) {
        let mut queue = self.queue.lock();
        queue.waiting.push(socket);
        // They stay where they are if there can be no thread.
        let _ = self.go_on(&mut queue);
    }

    /// Whether one more can wait; otherwise something hangs, or is about to be closed.
    pub(crate) fn has_room(&self) -> bool {
        let mut queue = self.queue.lock();
        let _ = self.go_on(&mut queue);
        queue.waiting.len() < MOST
    }

    /// Starts the thread if there is something to do.
    fn go_on(&self, queue: &mut Queue) -> io::Result<()> {
        if queue.waiting.is_empty() || queue.has_thread {
            return Ok(());
        }
        let shared = Arc::clone(&self.queue);
        thread::Builder::new()
            .name("closing".to_owned())
            .spawn(move || close_all(&shared))?;
        queue.has_thread = true;
        Ok(())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        // Nor does the end of the process wait for them: the kernel closes them without.
        let waiting = mem::take(&mut self.queue.lock().waiting);
        waiting.into_iter().for_each(mem::forget);
    }
}

/// Whether there may be descriptors in a socket, to which nothing more can be sent.
fn may_have_descriptors(socket: &UnixStream) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let mut bytes = [0; LOOKED_AT];
    let mut part = [IoSliceMut::new(&mut bytes)];
    // Without room for descriptors, the kernel says that there are some; and they stay where they are.
    let has_none = recvmsg::<()>(socket.as_raw_fd(), &mut part, None, flags)
        .is_ok_and(|found| found.bytes < LOOKED_AT && !found.flags.contains(MsgFlags::MSG_CTRUNC));
    // A byte out of band is passed over, with what came along.
    let out_of_band = recv(socket.as_raw_fd(), &mut [0], flags | MsgFlags::MSG_OOB);
    let is_absent = matches!(out_of_band, Err(Errno::EINVAL | Errno::EOPNOTSUPP));
    !(has_none && is_absent)
}

fn close_all(shared: &Mutex<Queue>) {
    loop {
        let mut queue = shared.lock();
        let Some(next) = queue.waiting.pop() else {
            queue.has_thread = false;
            return;
        };
        drop(queue);
        drop(next);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read, Write};

    use lisafs_patience::eventually;
    use nix::sys::socket::{ControlMessage, sendmsg};

    use super::*;

    /// One that is closed, and says so.
    fn peer_of_one_to_close(closing: &Closing) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        closing.close(ours.into());
        theirs.set_nonblocking(true).unwrap();
        theirs
    }

    fn is_closed(mut peer: &UnixStream) -> bool {
        peer.read(&mut [0]).is_ok_and(|count| count == 0)
    }

    #[test]
    fn only_what_has_descriptors_has_to_wait() {
        let none = MsgFlags::empty();
        let oob = MsgFlags::MSG_OOB;
        let file = io::stdin();
        let fds = [file.as_raw_fd()];
        let gift = [ControlMessage::ScmRights(&fds)];
        for (sent, expected) in [
            (&[][..], false),
            (&[(none, &[][..]), (none, &[])], false),
            (&[(none, &gift)], true),
            (&[(none, &[]), (none, &gift), (none, &[])], true),
            (&[(none, &[]), (oob, &gift)], true),
            (&[(oob, &gift), (none, &[])], true),
            (&[(oob, &gift), (oob, &[])], true),
        ] {
            for peer_is_there in [true, false] {
                let (ours, theirs) = UnixStream::pair().unwrap();
                for (flags, gift) in sent {
                    let part = [IoSlice::new(b"bytes")];
                    sendmsg::<()>(theirs.as_raw_fd(), &part, gift, *flags, None).unwrap();
                }
                let peer = Some(theirs).filter(|_| peer_is_there);
                ours.shutdown(Shutdown::Both).unwrap();
                assert_eq!(may_have_descriptors(&ours), expected, "{sent:?}");
                drop(peer);
            }
        }
    }

    #[test]
    fn what_is_behind_much_else_is_not_overlooked() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = io::stdin();
        let fds = [file.as_raw_fd()];
        let gift = [ControlMessage::ScmRights(&fds)];
        (&theirs).write_all(&[0; LOOKED_AT]).unwrap();
        let part = [IoSlice::new(b"x")];
        sendmsg::<()>(theirs.as_raw_fd(), &part, &gift, MsgFlags::empty(), None).unwrap();
        assert!(may_have_descriptors(&ours));
    }

    #[test]
    fn what_cannot_be_closed_yet_waits_and_hangs_up_all_the_same() {
        let closing = Closing::default();
        // As if the thread hung.
        closing.queue.lock().has_thread = true;
        let (ours, theirs) = UnixStream::pair().unwrap();
        closing.hang_up(ours);
        assert!(is_closed(&theirs));
        assert!(closing.queue.lock().waiting.is_empty());
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(&[0; LOOKED_AT]).unwrap();
        closing.hang_up(ours);
        assert!(is_closed(&theirs));
        let peers: Vec<_> = (1..MOST)
            .map(|_| {
                assert!(closing.has_room());
                peer_of_one_to_close(&closing)
            })
            .collect();
        assert!(!closing.has_room());
        assert!(!peers.iter().any(is_closed));

        closing.queue.lock().has_thread = false;
        eventually("there is room", || closing.has_room());
        eventually("all are closed", || peers.iter().all(is_closed));
        eventually("there is no thread", || !closing.queue.lock().has_thread);
        let last = peer_of_one_to_close(&closing);
        eventually("one more is closed", || is_closed(&last));
    }
}
