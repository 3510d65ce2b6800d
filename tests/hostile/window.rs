//! A channel's window from behind: as the file that it is.
//!
//! A file can be written to without a mapping, so the bytes change under both ends, the client's
//! too, and nothing here needs `unsafe`. Nobody is woken by that; see [`Stage::jolt`].
//!
//! [`Stage::jolt`]: crate::stage::Stage::jolt

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use flipcall::{
    ClientEndpoint, PacketWindow, ServerEndpoint, Spinners, WaitPolicy, WindowDescriptor,
};
use lisafs::Errno;
use lisafs::wire::{ChannelReq, Mid, Request};
use lisafs_conformance::{Caller, RawChannel, Stop, encoded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::process::within;

/// What precedes the datagram.
pub(crate) const HEADER: u64 = 16;
/// What precedes the message in the datagram.
pub(crate) const CHANNEL_HEADER: usize = 4;

pub(crate) const SERVER_ACTIVE: u32 = 1;
pub(crate) const SHUT_DOWN: u32 = 2;

/// What came with the reply to Channel.
#[derive(Debug)]
pub(crate) struct Window {
    memory: File,
    /// Where descriptors come.
    gifts: OwnedFd,
    place: WindowDescriptor,
}

impl Window {
    /// Asks for a channel, and leaves it at that.
    pub(crate) fn open(caller: &mut Caller) -> Result<Window, Stop> {
        let place = caller.call(&ChannelReq {})?;
        let mut fds = caller.take_fds().into_iter();
        let (Some(memory), Some(gifts)) = (fds.next(), fds.next()) else {
            return Err(Stop::failed("a channel without its descriptors"));
        };
        Ok(Window {
            memory: memory.into(),
            gifts,
            place: WindowDescriptor {
                offset: u64::try_from(place.data_offset).map_err(|_| Errno::EINVAL)?,
                length: place.data_length,
            },
        })
    }

    /// As [`open`](Self::open), as soon as the server has got over the end of earlier ones.
    pub(crate) fn open_again(caller: &mut Caller) -> Result<Window, Stop> {
        let mut last = None;
        within(Duration::from_secs(10), || {
            last = Some(Window::open(caller));
            matches!(last, Some(Ok(_)))
        });
        last.unwrap_or_else(|| Err(Stop::failed("never asked")))
    }

    pub(crate) fn memory(&self) -> &File {
        &self.memory
    }

    pub(crate) fn gifts(&self) -> BorrowedFd<'_> {
        self.gifts.as_fd()
    }

    /// The length of the whole window in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.place.length
    }

    /// Writes at `offset` of the window.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.memory.write_all_at(bytes, self.place.offset + offset)
    }

    pub(crate) fn state(&self) -> io::Result<u32> {
        let mut word = [0; 4];
        self.memory.read_exact_at(&mut word, self.place.offset)?;
        Ok(u32::from_ne_bytes(word))
    }

    pub(crate) fn set_state(&self, state: u32) -> io::Result<()> {
        self.write(0, &state.to_ne_bytes())
    }

    /// Whether the server has ended the channel, even if this side has written over the word that says so:
    /// a server that is done with a channel closes its end of the descriptors' socket.
    pub(crate) fn is_over(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(self.gifts(), PollFlags::empty())];
        poll(&mut polled, PollTimeout::ZERO)?;
        let events = polled[0].any();
        Ok(events.unwrap_or(true) || self.state()? == SHUT_DOWN)
    }

    /// The datagram that is there, as long as it claims to be.
    pub(crate) fn contents(&self) -> io::Result<Vec<u8>> {
        let mut word = [0; 4];
        self.memory
            .read_exact_at(&mut word, self.place.offset + 4)?;
        let claimed = u64::from(u32::from_ne_bytes(word));
        let len = claimed.min(self.len() - HEADER);
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        self.memory
            .read_exact_at(&mut bytes, self.place.offset + HEADER)?;
        Ok(bytes)
    }

    /// Hands a datagram over that claims to be `data_len` long.
    pub(crate) fn hand_over(&self, datagram: &[u8], data_len: u32) -> io::Result<()> {
        self.write(HEADER, datagram)?;
        self.write(4, &data_len.to_ne_bytes())?;
        self.set_state(SERVER_ACTIVE)
    }

    fn mapped(&self) -> Result<PacketWindow, Stop> {
        let memory = self.memory.as_fd().try_clone_to_owned()?;
        Ok(PacketWindow::from_peer(memory, self.place)?)
    }

    /// The client's end.
    pub(crate) fn endpoint(&self) -> Result<ClientEndpoint, Stop> {
        let spinners = Spinners::with_limit(0);
        Ok(ClientEndpoint::new(
            self.mapped()?,
            WaitPolicy::Park,
            &spinners,
        ))
    }

    /// The client's end with the handshake done.
    pub(crate) fn connect(&self, caller: &Caller) -> Result<RawChannel, Stop> {
        Ok(caller.adopt(self.endpoint()?)?)
    }

    /// An end that plays the server, for the threads that sleep on the word next to it.
    pub(crate) fn impostor(&self) -> Result<ServerEndpoint, Stop> {
        let spinners = Spinners::with_limit(0);
        Ok(ServerEndpoint::new(
            self.mapped()?,
            WaitPolicy::Park,
            &spinners,
        ))
    }

    /// Takes a descriptor that is waiting; `None` if there is none.
    pub(crate) fn take_gift(&self) -> Option<OwnedFd> {
        let gifts = self.gifts.try_clone().ok()?;
        flipcall::FdReceiver::from(gifts).recv().ok().flatten()
    }
}

/// A message as it lies in the window: the header with a number of descriptors, which is 0 in an
/// honest request, and the payload.
pub(crate) fn datagram(mid: Mid, num_fds: u8, payload: &[u8]) -> Vec<u8> {
    let [low, high] = mid.0.to_le_bytes();
    let mut bytes = vec![low, high, num_fds, 0];
    bytes.extend_from_slice(payload);
    bytes
}

/// An honest request as it lies in the window.
pub(crate) fn request<R: Request>(request: &R) -> Result<Vec<u8>, Stop> {
    Ok(datagram(R::MID, 0, &encoded(request)?))
}

/// Sends a datagram as it is, and returns the one that comes back.
pub(crate) fn exchange(channel: &mut RawChannel, datagram: &[u8]) -> Result<Vec<u8>, Stop> {
    channel
        .payload()
        .copy_from(0, datagram)
        .map_err(|_| Stop::failed("longer than the window"))?;
    let len = channel.send_recv(datagram.len())?;
    let mut reply = vec![0; len];
    channel
        .payload()
        .copy_to(0, &mut reply)
        .map_err(|_| Stop::failed("a reply beyond the window"))?;
    Ok(reply)
}

/// Which message it is, if it is one.
pub(crate) fn mid_of(reply: &[u8]) -> Option<Mid> {
    let number = reply.get(..CHANNEL_HEADER)?.first_chunk()?;
    Some(Mid(u16::from_le_bytes(*number)))
}
