//! The thread that serves one channel.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use flipcall::{
    Active, Closer, FdSender, PacketWindow, ServerEndpoint, SharedBytes, WindowDescriptor,
    fd_channel,
};

use super::backend::ServerImpl;
use super::call::{Payload, Scratch};
use super::connection::Connection;
use super::dispatch::{Incoming, Outgoing, Told, dispatch, parsed_len, refuse};
use super::watched::Watched;
use crate::Errno;
use crate::channel_header::ChannelHeader;
use crate::observe::Via;

/// A channel that nobody serves yet.
pub(super) struct Channel {
    endpoint: ServerEndpoint,
    descriptors: Arc<FdSender>,
}

/// What the client needs to connect to a new channel.
pub(super) struct ClientEnd {
    pub(super) memfd: OwnedFd,
    pub(super) socket: OwnedFd,
    pub(super) window: WindowDescriptor,
    /// Ends the channel if the client cannot be told of it.
    pub(super) closer: Closer,
}

impl Channel {
    /// Makes a channel for the messages of `connection`.
    ///
    /// # Errors
    /// As memfd_create(2), mmap(2) and socketpair(2).
    pub(super) fn new<S: ServerImpl>(
        connection: &Connection<S>,
    ) -> Result<(Channel, ClientEnd), Errno> {
        let capacity = ChannelHeader::SIZE + connection.max_message_size();
        let window = PacketWindow::create(capacity).map_err(errno)?;
        let (descriptors, socket) = fd_channel(connection.opts().max_donations).map_err(errno)?;
        let (memfd, descriptor) = (window.try_clone_fd().map_err(errno)?, window.descriptor());
        let endpoint = ServerEndpoint::new(window, connection.wait(), connection.spinners());
        let client = ClientEnd {
            memfd,
            socket,
            window: descriptor,
            closer: endpoint.closer(),
        };
        Ok((
            Channel {
                endpoint,
                descriptors: Arc::new(descriptors),
            },
            client,
        ))
    }

    /// What donates over it.
    pub(super) fn descriptors(&self) -> Arc<FdSender> {
        Arc::clone(&self.descriptors)
    }

    /// Serves the client until either side ends the channel, whose number is `number`.
    ///
    /// # Errors
    /// Why it ended. The peer sees a channel that is shut down.
    pub(super) fn serve<S: ServerImpl>(
        self,
        connection: &Arc<Connection<S>>,
        number: u64,
    ) -> Result<(), flipcall::Error> {
        let mut worker = Worker {
            connection,
            descriptors: self.descriptors,
            body: vec![0; connection.max_message_size()].into_boxed_slice(),
            scratch: Scratch::default(),
            watched: connection.watch(Via::Channel(connection.id(), number)),
        };
        let (mut active, mut len) = self.endpoint.recv_first()?;
        while let Some(reply) = worker.serve_one(&active, len) {
            if connection.is_draining() {
                return active.send_last(reply);
            }
            len = active.send_recv(reply)?;
        }
        Ok(())
    }
}

/// What a channel's thread works with.
struct Worker<'w, S: ServerImpl> {
    connection: &'w Arc<Connection<S>>,
    descriptors: Arc<FdSender>,
    /// The private copy of a request.
    body: Box<[u8]>,
    scratch: Scratch,
    watched: Watched,
}

impl<S: ServerImpl> Worker<'_, S> {
    /// Serves the request of `len` bytes in the window and returns the length of the reply, or
    /// `None` when the peer does not keep to the protocol.
    fn serve_one(&mut self, active: &Active, len: usize) -> Option<usize> {
        let request = active.payload().slice(0, len)?;
        let mut header = [0; ChannelHeader::SIZE];
        request.copy_to(0, &mut header).ok()?;
        // A request brings no descriptors, whatever its header says.
        let ChannelHeader { mid, .. } = bytemuck::cast(header);
        let (_, payload) = request.split_at(ChannelHeader::SIZE)?;
        let (_, reply) = active.payload().split_at(ChannelHeader::SIZE)?;

        self.watched.begin(mid);
        let mut parsed: &[u8] = &[];
        let outgoing = match self.body.get_mut(..parsed_len(mid, payload.len())) {
            Some(body) => {
                payload.copy_to(0, body).ok()?;
                let (_, data) = payload.split_at(body.len())?;
                let scratch = &mut self.scratch;
                parsed = body;
                dispatch(
                    self.connection,
                    Incoming {
                        mid,
                        body: parsed,
                        data,
                        reply,
                        scratch,
                    },
                )
            }
            None => refuse(Errno::EIO, &mut Payload::new(reply)),
        };
        let told = queue_descriptors(&self.descriptors, outgoing, reply);
        self.watched.end(mid, parsed, payload.len(), reply, told);
        let header = ChannelHeader {
            mid: told.mid,
            num_fds: told.num_fds,
            pad: 0,
        };
        active
            .payload()
            .copy_from(0, bytemuck::bytes_of(&header))
            .ok()?;
        Some(ChannelHeader::SIZE + told.len)
    }
}

/// Sends the descriptors ahead of the reply and publishes its ids.
fn queue_descriptors<S: ServerImpl>(
    descriptors: &FdSender,
    mut outgoing: Outgoing<'_, S>,
    reply: SharedBytes<'_>,
) -> Told {
    let Some(mut answer) = outgoing.answer.take() else {
        return outgoing.told(0);
    };
    match answer.queue(|fd: BorrowedFd<'_>| descriptors.send(fd).map_err(Errno::from)) {
        Ok(num_fds) => {
            answer.publish();
            outgoing.told(num_fds)
        }
        Err((errno, num_fds)) => {
            answer.undo();
            // Those that are queued have to be counted: the client would take one that it was not
            // told of for the descriptor of its next file.
            refuse::<S>(errno, &mut Payload::new(reply)).told(num_fds)
        }
    }
}

/// The errno to answer with when the transport could not do something.
pub(super) fn errno(error: flipcall::Error) -> Errno {
    error.errno().map_or(Errno::EIO, Errno::from)
}
