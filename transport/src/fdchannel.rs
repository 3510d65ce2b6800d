#![forbid(unsafe_code)]
//! The side road for descriptors: a socket pair next to each packet window.
//!
//! One descriptor per datagram, and no data with it. The server queues what belongs to a reply
//! before it hands over the window, so the client never has to wait for it, and nobody ever blocks
//! here.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::sockopt::SndBuf;
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType};
use nix::sys::socket::{setsockopt, shutdown, socketpair};

use crate::error::Error;
use crate::inflight::InFlight;
use crate::shared::SharedBytes;
use crate::sys;

/// The largest value of an option that is an `int`.
const MOST: usize = libc::c_int::MAX as usize;

/// Makes the socket pair of a channel: the server's end, and the one to send to the client.
///
/// The server's end is closed for receiving, and refuses descriptors where the kernel can (Linux
/// 6.16), so a client cannot park its own in our queue. It queues `max_in_flight` descriptors at the
/// most: those count against a limit that all processes of our user share, and a client that takes
/// those of each reply has two of them waiting. The kernel may have room for fewer: with its usual
/// net.core.wmem_max for 554, on x86-64.
///
/// # Errors
///
/// [`ErrorKind::Io`](crate::ErrorKind::Io) with the errno of socketpair(2), shutdown(2) or
/// setsockopt(2).
pub fn fd_channel(max_in_flight: usize) -> Result<(FdSender, OwnedFd), Error> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(Error::os("cannot create the descriptor channel"))?;
    let in_flight =
        InFlight::new(max_in_flight).map_err(Error::os("cannot measure the queue of a socket"))?;
    // The kernel doubles it, and lowers it to its maximum.
    let queue = in_flight.least_message().saturating_mul(max_in_flight) / 2 + 1;
    let sender = FdSender {
        socket: ours,
        in_flight,
    };
    shutdown(sender.socket.as_raw_fd(), Shutdown::Read).map_err(Error::os(
        "cannot close the descriptor channel for receiving",
    ))?;
    setsockopt(&sender.socket, SndBuf, &queue.min(MOST)).map_err(Error::os(
        "cannot make room for the queue of the descriptor channel",
    ))?;
    sys::refuse_descriptors(sender.socket.as_fd()).map_err(Error::os(
        "cannot make the descriptor channel refuse descriptors",
    ))?;
    Ok((sender, theirs))
}

/// The server's end of a descriptor channel.
///
/// ```
/// use std::fs::File;
/// use std::os::fd::AsFd;
/// use flipcall::{FdReceiver, fd_channel};
///
/// let (sender, for_the_client) = fd_channel(8)?;
/// sender.send(File::open("/proc/self/comm")?.as_fd())?;
/// // In the other process:
/// let receiver = FdReceiver::from(for_the_client);
/// let file = receiver.recv()?.map(File::from);
/// assert!(file.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FdSender {
    socket: OwnedFd,
    in_flight: InFlight,
}

impl FdSender {
    /// Queues one descriptor. Never blocks, never raises SIGPIPE; the caller keeps `fd`.
    ///
    /// # Errors
    ///
    /// Nothing was queued: EAGAIN if as many are in flight as there may be, ETOOMANYREFS if too many
    /// descriptors of this user are in flight, EPIPE or ECONNRESET if the client is gone, and what
    /// else sendmsg(2) lists.
    pub fn send(&self, fd: BorrowedFd<'_>) -> nix::Result<()> {
        let no_data = SharedBytes::from(&mut [][..]);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let socket = self.socket.as_fd();
        self.in_flight.admit(socket, 1)?;
        sys::send(socket, &[], no_data, &[fd], flags)?;
        self.in_flight.add(1);
        Ok(())
    }

    /// Whether the client has left some of what was queued, and can still take it: the kernel keeps it
    /// until its end is read or closed, whatever becomes of this one.
    ///
    /// # Errors
    ///
    /// What ioctl(2) says.
    pub fn is_unread(&self) -> nix::Result<bool> {
        Ok(sys::unread(self.socket.as_fd())? > 0)
    }

    /// Ends the channel from any thread; descriptors already queued can still be received.
    pub fn shutdown(&self) {
        // It can only fail with ENOTCONN, when the peer has ended it already.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

/// The client's end of a descriptor channel.
///
/// ```
/// use flipcall::{FdReceiver, fd_channel};
///
/// let (sender, for_the_client) = fd_channel(8)?;
/// let receiver = FdReceiver::from(for_the_client);
/// // It never waits.
/// assert_eq!(receiver.recv().map(drop).map_err(|errno| errno as i32), Err(libc::EAGAIN));
/// drop(sender);
/// assert!(receiver.recv()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FdReceiver {
    socket: OwnedFd,
}

impl FdReceiver {
    /// Takes the next queued descriptor, close-on-exec. Never blocks.
    ///
    /// `None` if the server has closed its end, or if the datagram came without a descriptor; that
    /// is also how the kernel tells that this process can hold no more of them.
    ///
    /// # Errors
    ///
    /// EAGAIN if nothing is queued, and what else recvmsg(2) lists.
    pub fn recv(&self) -> nix::Result<Option<OwnedFd>> {
        let mut received = None;
        let own = |fd| received = Some(fd);
        sys::recv(self.socket.as_fd(), &mut [], 1, own, MsgFlags::MSG_DONTWAIT)?;
        Ok(received)
    }
}

impl From<OwnedFd> for FdReceiver {
    fn from(socket: OwnedFd) -> FdReceiver {
        FdReceiver { socket }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unread_is_so_until_it_is_taken_or_cannot_be() {
        let (sender, client) = fd_channel(2).unwrap();
        let receiver = FdReceiver::from(client);
        let send = || sender.send(sender.socket.as_fd()).unwrap();
        assert_eq!(sender.is_unread(), Ok(false));
        send();
        send();
        sender.shutdown();
        for _ in 0..2 {
            assert_eq!(sender.is_unread(), Ok(true));
            assert!(receiver.recv().unwrap().is_some());
        }
        assert_eq!(sender.is_unread(), Ok(false));
        assert!(receiver.recv().unwrap().is_none());
        let (sender, client) = fd_channel(2).unwrap();
        sender.send(sender.socket.as_fd()).unwrap();
        assert_eq!(sender.is_unread(), Ok(true));
        drop(client);
        assert_eq!(sender.is_unread(), Ok(false));
    }
}
