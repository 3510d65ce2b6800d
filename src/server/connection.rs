//! A client's connection: its socket thread, its channels, and its end.

use core::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flipcall::{FrameBuffer, FrameSocket, Received, SendError, SharedBytes, Spinners, WaitPolicy};

use super::accepting::Accepting;
use super::backend::ServerImpl;
use super::call::{Payload, Scratch};
use super::channels::{Channels, LastAnswers};
use super::dispatch::{
    Incoming, Outgoing, RpcHandler, RpcHandlers, Told, dispatch, parsed_len, refuse,
};
use super::fds::FdTable;
use super::guarantee::TreeLocks;
use super::opts::ConnectionOpts;
use super::place::Place;
use super::quota::Quota;
use super::totals::Allowance;
use super::tree::Tree;
use super::waits::Waits;
use super::watched::Watched;
use crate::Errno;
use crate::observe::{Observer, Via, rarely};
use crate::wire::{Inode, MESSAGE_COUNT, Mid, messages};

/// How long the end of a connection waits for requests that are running.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// The reply to Mount but for the messages that it names: the root, the limit, and how many there are.
const MOUNT_REPLY: usize = size_of::<Inode>() + size_of::<u32>() + size_of::<u16>();

/// Frames of handlers are small; the buffers are on the heap.
pub(super) const STACK_SIZE: usize = 256 << 10;

/// What all connections of a server have in common.
pub(super) struct Shared<S: ServerImpl> {
    pub(super) tree: Tree<S>,
    pub(super) handlers: RpcHandlers<S>,
    pub(super) spinners: Spinners,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) waits: Waits,
}

/// A client of a server.
pub(super) struct Connection<S: ServerImpl> {
    id: u64,
    shared: Arc<Shared<S>>,
    backend: S,
    opts: ConnectionOpts,
    max_message_size: usize,
    supported: Vec<Mid>,
    accepted: [bool; MESSAGE_COUNT],
    /// Shared with who watches it.
    socket: Arc<FrameSocket>,
    place: Place,
    fds: FdTable<S>,
    /// Its descriptors are what the back end counts, or else the objects.
    allowance: Allowance,
    channels: Channels,
    accepting: Accepting<S>,
    /// No request starts any more.
    closing: AtomicBool,
    /// Channels end with the reply they are at.
    draining: AtomicBool,
    /// The server hangs up, and has promised the answers of what runs.
    stopped: AtomicBool,
    /// The server hangs up without having promised anything.
    cut: AtomicBool,
}

impl<S: ServerImpl> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<S: ServerImpl> Connection<S> {
    /// # Errors
    /// EINVAL for options or a back end that make no sense.
    pub(super) fn new(
        id: u64,
        shared: Arc<Shared<S>>,
        stream: UnixStream,
        mut backend: S,
        opts: ConnectionOpts,
        place: Place,
        allowance: Allowance,
    ) -> Result<Connection<S>, Errno> {
        opts.mount_names()?;
        let max_message_size = backend.max_message_size().min(opts.max_message_size);
        let max_message_size = usize::try_from(max_message_size).map_err(|_| Errno::EINVAL)?;
        let offered = backend.supported_messages();
        // Clients take a failed Flush for a success, so advertising it would only cost them a round
        // trip; one that sends it all the same gets that success.
        let supported: Vec<Mid> = messages()
            .map(|message| message.mid)
            .filter(|mid| *mid == Mid::MOUNT || offered.contains(mid))
            .filter(|mid| *mid != Mid::FLUSH)
            .collect();
        let mut accepted = [false; MESSAGE_COUNT];
        for mid in supported.iter().chain([&Mid::FLUSH]) {
            *accepted.get_mut(usize::from(mid.0)).ok_or(Errno::EINVAL)? = true;
        }
        // The reply to Mount has to fit, and so has an error, which is shorter.
        let mount_reply = MOUNT_REPLY + size_of_val(supported.as_slice());
        if opts.max_channels == 0 || opts.max_donations < 2 || max_message_size < mount_reply {
            return Err(Errno::EINVAL);
        }
        let socket = FrameSocket::from(stream)
            .with_max_in_flight(opts.max_donations)
            .map_err(super::channel::errno)?;
        socket.refuse_descriptors().map_err(super::channel::errno)?;
        let objects = if backend.count_descriptors(&allowance.descriptors) {
            Quota::new(usize::MAX)
        } else {
            Arc::clone(&allowance.descriptors)
        };
        Ok(Connection {
            id,
            shared,
            backend,
            max_message_size,
            supported,
            accepted,
            socket: Arc::new(socket),
            place,
            fds: FdTable::new(Arc::clone(&allowance.ids), objects),
            allowance,
            opts,
            channels: Channels::default(),
            accepting: Accepting::default(),
            closing: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn socket(&self) -> Arc<FrameSocket> {
        Arc::clone(&self.socket)
    }

    pub(super) fn channels(&self) -> &Channels {
        &self.channels
    }

    pub(super) fn accepting(&self) -> &Accepting<S> {
        &self.accepting
    }

    pub(super) fn backend(&self) -> &S {
        &self.backend
    }

    pub(super) fn tree(&self) -> &Tree<S> {
        &self.shared.tree
    }

    pub(super) fn locks(&self) -> &TreeLocks {
        self.shared.tree.locks()
    }

    pub(super) fn fds(&self) -> &FdTable<S> {
        &self.fds
    }

    /// How many descriptors are open for the client.
    pub(super) fn descriptor_count(&self) -> usize {
        self.allowance.descriptors.used()
    }

    pub(super) fn waits(&self) -> &Waits {
        &self.shared.waits
    }

    /// The watch over a thread that serves the client `via` something.
    pub(super) fn watch(&self, via: Via) -> Watched {
        let observer = self.shared.observer.as_ref();
        Watched::new(observer.map(|observer| observer.watch(via)))
    }

    pub(super) fn opts(&self) -> &ConnectionOpts {
        &self.opts
    }

    pub(super) fn is_readonly(&self) -> bool {
        self.opts.readonly
    }

    /// Whether the client may have descriptors that lead to other files. Nobody but the kernel checks
    /// what it does with them.
    pub(super) fn donates_directories(&self) -> bool {
        !self.opts.readonly || self.opts.mounted_readonly
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// What becomes of the answers that channels have given last.
    pub(super) fn last_answers(&self) -> LastAnswers {
        if self.stopped.load(Ordering::Acquire) {
            LastAnswers::Promised
        } else if self.cut.load(Ordering::Acquire) {
            LastAnswers::Kept
        } else {
            LastAnswers::Discarded
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(super) fn max_message_size(&self) -> usize {
        self.max_message_size
    }

    pub(super) fn supported(&self) -> &[Mid] {
        &self.supported
    }

    pub(super) fn wait(&self) -> WaitPolicy {
        self.opts.wait
    }

    pub(super) fn spinners(&self) -> &Spinners {
        &self.shared.spinners
    }

    /// The handler of `mid`, if this connection accepts it.
    pub(super) fn handler(&self, mid: Mid) -> Option<RpcHandler<S>> {
        let index = usize::from(mid.0);
        let accepted = self.accepted.get(index).copied().unwrap_or(false);
        self.shared
            .handlers
            .get(index)
            .copied()
            .flatten()
            .filter(|_| accepted)
    }

    /// Has the connection end once the request that runs on its socket is answered, and has no
    /// other start, on its channels either.
    pub(super) fn stop(&self) {
        // First, as in `cut`.
        self.stopped.store(true, Ordering::Release);
        self.closing.store(true, Ordering::Release);
        self.socket.shutdown_recv();
    }

    /// Gives a client up that does not even take its last answer.
    pub(super) fn cut(&self) {
        // First: what follows must not look as if the client had hung up.
        self.cut.store(true, Ordering::Release);
        self.socket.shutdown();
    }

    /// Serves the client's socket until it is closed, then ends the connection.
    pub(super) fn serve(self: &Arc<Self>) {
        // Also if a back end panics where no handler stands above it, as in its descriptors.
        let _end = SocketEnd { connection: self };
        match self.backend.thread_started() {
            Ok(()) => match self.serve_socket() {
                Ok(()) => tracing::debug!(connection = self.id, "client closed the connection"),
                Err(error) => {
                    tracing::debug!(connection = self.id, %error, "connection ended");
                    if error.errno().is_some() && !error.is_peer_gone() {
                        // It is not the client's doing: it may be reading an answer.
                        self.cut.store(true, Ordering::Release);
                    }
                }
            },
            Err(errno) => {
                rarely!(error, %errno, "a connection cannot be served: its thread has no set-up");
            }
        }
    }

    fn serve_socket(self: &Arc<Self>) -> Result<(), flipcall::Error> {
        let limit = u32::try_from(self.max_message_size).unwrap_or(u32::MAX);
        let mut request = FrameBuffer::new();
        // Zeroed memory costs nothing until a reply is written into it.
        let mut reply = vec![0; self.max_message_size].into_boxed_slice();
        let mut scratch = Scratch::default();
        let mut uninvited: Vec<OwnedFd> = Vec::new();
        let mut watched = self.watch(Via::Socket(self.id));
        loop {
            let reply = SharedBytes::from(&mut *reply);
            match self.socket.recv(&mut request, limit, &mut uninvited, 0)? {
                Received::Closed => return Ok(()),
                Received::TooLong { mid, len } => {
                    let (mid, len) = (Mid(mid), usize::try_from(len).unwrap_or(usize::MAX));
                    watched.begin(mid);
                    let outgoing = refuse(Errno::EIO, &mut Payload::new(reply));
                    let told = self.reply(outgoing, reply)?;
                    watched.end(mid, &[], len, reply, told);
                }
                Received::Frame { mid, .. } => {
                    let mid = Mid(mid);
                    watched.begin(mid);
                    let bytes = request.as_mut_slice();
                    let len = bytes.len();
                    let (body, data) = bytes.split_at_mut(parsed_len(mid, len).min(len));
                    let data = SharedBytes::from(data);
                    let scratch = &mut scratch;
                    let outgoing = dispatch(
                        self,
                        Incoming {
                            mid,
                            body,
                            data,
                            reply,
                            scratch,
                        },
                    );
                    let told = self.reply(outgoing, reply)?;
                    watched.end(mid, body, len, reply, told);
                }
            }
        }
    }

    /// Publishes the reply's ids and sends it, with its descriptors if they can be sent.
    fn reply(
        &self,
        mut outgoing: Outgoing<'_, S>,
        reply: SharedBytes<'_>,
    ) -> Result<Told, flipcall::Error> {
        let send = |mid: Mid, len: usize, fds: &[BorrowedFd<'_>]| {
            self.socket
                .send(mid.0, reply.slice(0, len).unwrap_or(reply), fds)
        };
        let (mid, len) = (outgoing.mid, outgoing.len);
        let Some(mut answer) = outgoing.answer.take() else {
            send(mid, len, &[])?;
            return Ok(outgoing.told(0));
        };
        // Published first: once the reply is out, the client may use the ids on a channel.
        answer.publish();
        let sent = answer.with_descriptors(|fds| {
            send(mid, len, fds).map(|()| u8::try_from(fds.len()).unwrap_or(u8::MAX))
        });
        match sent {
            Err(SendError::Unsent(errno)) if answer.requires_descriptors() => {
                answer.undo();
                let outgoing = refuse::<S>(errno.into(), &mut Payload::new(reply));
                send(outgoing.mid, outgoing.len, &[])?;
                Ok(outgoing.told(0))
            }
            Err(SendError::Unsent(_)) => {
                send(mid, len, &[])?;
                Ok(outgoing.told(0))
            }
            result => Ok(outgoing.told(result?)),
        }
    }

    /// Ends the connection: no request starts any more, channels end when they have answered theirs
    /// or at the deadline, and everything the client held is released. Returns whether
    /// nothing of it is left: not if channels are stuck, nor if somebody else is at it or has been.
    pub(super) fn close(&self) -> bool {
        if self.draining.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.closing.store(true, Ordering::Release);
        let answers = self.last_answers();
        // A client that is to get the last answers has to believe that somebody is there.
        if answers != LastAnswers::Promised {
            self.socket.shutdown();
        }
        let stuck = self.channels.end(Instant::now() + CLOSE_DEADLINE, answers);
        self.socket.shutdown();
        self.accepting.end();
        if stuck > 0 {
            rarely!(
                warn,
                connection = self.id,
                stuck,
                "channels are stuck in the host: ending the connection without them"
            );
        }
        self.fds.clear();
        stuck == 0
    }

    /// Gives to others what the connection has, but for what its threads have open in the host.
    fn leave_stuck(&self) {
        if !self.place.leave_stuck(|| self.allowance.give_up()) {
            rarely!(
                warn,
                connection = self.id,
                "too many clients have hung up while the host does not answer: this one keeps its place"
            );
        }
    }

    /// Ends the connection of a client that has hung up without waiting for the thread that serves
    /// its socket, which is in the host. What that thread holds goes when the host answers.
    pub(super) fn leave_behind(self: Arc<Self>) {
        let id = self.id;
        self.leave_stuck();
        if self.is_draining() {
            tracing::debug!(connection = id, "the end of the connection takes long");
            return;
        }
        rarely!(
            warn,
            connection = id,
            "the connection is closed, and its request is stuck in the host: ending without it"
        );
        // On a thread of its own, since closing files can hang as well.
        let ended = thread::Builder::new()
            .name(format!("end {id}"))
            .stack_size(STACK_SIZE)
            .spawn(move || match self.backend.thread_started() {
                Ok(()) => {
                    self.close();
                }
                Err(errno) => {
                    rarely!(error, %errno, "the end of a connection has no set-up");
                }
            });
        if let Err(why) = ended {
            rarely!(
                warn,
                connection = id,
                %why,
                "what the client held stays until the host answers"
            );
        }
    }
}

/// Ends the connection with its socket thread, however that ends.
struct SocketEnd<'c, S: ServerImpl> {
    connection: &'c Connection<S>,
}

impl<S: ServerImpl> Drop for SocketEnd<'_, S> {
    fn drop(&mut self) {
        if thread::panicking() {
            // It is not the client that has hung up.
            self.connection.cut.store(true, Ordering::Release);
        }
        let is_over = self.connection.close();
        // Here and before the place goes to others: it can hang, in which case this thread does. What
        // closes the socket in the end may be any thread, one that holds a lock among them.
        self.connection.socket.discard();
        if is_over {
            self.connection.place.leave();
        } else {
            self.connection.leave_stuck();
        }
    }
}
