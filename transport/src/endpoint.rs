#![forbid(unsafe_code)]
//! The two ends of a channel, and the rights that go with having control or not.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::{Control, Ended, Flags, Role};
use crate::error::{Error, ErrorKind};
use crate::handshake;
use crate::mapping::{HEADER_LEN, Mapping};
use crate::shared::{CACHE_LINE, SharedBytes};
use crate::wait::{Counters, Spinners, WaitPolicy, WaitStats, Waiter};
use crate::window::{PacketWindow, page_size};

/// Between waking a thread and waking it again, because it did not notice: at first, and at most.
const REWAKE: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(1));

/// The end that sends requests, before it is connected.
///
/// ```
/// use flipcall::{ClientEndpoint, PacketWindow, Spinners, WaitPolicy};
///
/// # let server = PacketWindow::create(4096)?;
/// # let window = PacketWindow::from_peer(server.try_clone_fd()?, server.descriptor())?;
/// # let server = flipcall::ServerEndpoint::new(server, WaitPolicy::Park, &Spinners::new());
/// # let server = std::thread::spawn(move || server.recv_first()?.0.send_last(0));
/// let endpoint = ClientEndpoint::new(window, WaitPolicy::default(), &Spinners::new());
/// let mut channel = endpoint.connect()?;
/// assert_eq!(channel.send_recv(0)?, 0);
/// # server.join().expect("the server does not panic")?;
/// # Ok::<(), flipcall::Error>(())
/// ```
#[derive(Debug)]
pub struct ClientEndpoint {
    link: Link,
}

impl ClientEndpoint {
    /// Makes `window` the client's end of a channel. The window's descriptor is closed.
    pub fn new(window: PacketWindow, policy: WaitPolicy, spinners: &Spinners) -> ClientEndpoint {
        ClientEndpoint {
            link: Link::new(window, Role::Client, policy, spinners),
        }
    }

    /// Sends our half of the handshake and waits for the server's.
    ///
    /// There is no timeout: a server that never answers is ended with a [`Closer`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Shutdown`], [`ErrorKind::Protocol`], [`ErrorKind::Handshake`] or
    /// [`ErrorKind::Io`]; the channel is then shut down.
    pub fn connect(mut self) -> Result<Active, Error> {
        let len = handshake::write(self.link.datagram(), handshake::PARKING)?;
        let len = self.link.send_recv(len)?;
        let answered = handshake::read(self.link.datagram(), len)?;
        self.link.parking = handshake::is_agreed(answered)?;
        Ok(Active::new(self.link))
    }

    /// A handle that can end the channel, also while [`connect`](Self::connect) waits.
    pub fn closer(&self) -> Closer {
        self.link.closer()
    }
}

/// The end that answers requests, before a client has connected.
///
/// ```
/// use flipcall::{PacketWindow, ServerEndpoint, Spinners, WaitPolicy};
///
/// let window = PacketWindow::create(4096)?;
/// # let peer = PacketWindow::from_peer(window.try_clone_fd()?, window.descriptor())?;
/// # let client = flipcall::ClientEndpoint::new(peer, WaitPolicy::Park, &Spinners::new());
/// # let client = std::thread::spawn(move || client.connect()?.send_recv(7));
/// let endpoint = ServerEndpoint::new(window, WaitPolicy::default(), &Spinners::new());
/// let (mut channel, mut len) = endpoint.recv_first()?;
/// // A server of one request would be done here.
/// assert_eq!(len, 7);
/// match channel.send_recv(len) {
///     Ok(next) => len = next,
///     Err(why) => assert_eq!(why.kind(), flipcall::ErrorKind::Shutdown),
/// }
/// # client.join().expect("the client does not panic")?;
/// # Ok::<(), flipcall::Error>(())
/// ```
#[derive(Debug)]
pub struct ServerEndpoint {
    link: Link,
}

impl ServerEndpoint {
    /// Makes `window` the server's end of a channel. The window's descriptor is closed: if the
    /// client still has to be sent one, take it first with [`PacketWindow::try_clone_fd`].
    pub fn new(window: PacketWindow, policy: WaitPolicy, spinners: &Spinners) -> ServerEndpoint {
        ServerEndpoint {
            link: Link::new(window, Role::Server, policy, spinners),
        }
    }

    /// Waits for a client, answers its handshake, and waits for its first request, whose length it
    /// returns.
    ///
    /// There is no timeout: a client that never comes is ended with a [`Closer`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Shutdown`], [`ErrorKind::Protocol`], [`ErrorKind::Handshake`] or
    /// [`ErrorKind::Io`]; the channel is then shut down.
    pub fn recv_first(mut self) -> Result<(Active, usize), Error> {
        let len = self.link.recv()?;
        let offered = handshake::read(self.link.datagram(), len)?;
        let agreed = handshake::agree(offered);
        let len = handshake::write(self.link.datagram(), agreed)?;
        self.link.send(len)?;
        // Not before: the client does not know yet, and both hand-overs of the handshake wake.
        self.link.parking = agreed > 0;
        let len = self.link.recv()?;
        Ok((Active::new(self.link), len))
    }

    /// A handle that can end the channel, also while [`recv_first`](Self::recv_first) waits.
    pub fn closer(&self) -> Closer {
        self.link.closer()
    }
}

/// An end that has control: it may use the window until it hands it over.
///
/// Not `Sync`, and a transfer borrows it exclusively, so no view of the window from
/// [`payload`](Self::payload) survives one:
///
/// ```compile_fail,E0502
/// fn two_requests(channel: &mut flipcall::Active) -> Result<(), flipcall::Error> {
///     let payload = channel.payload();
///     channel.send_recv(0)?;
///     let mut reply = [0; 4];
///     let _ = payload.copy_to(0, &mut reply);
///     Ok(())
/// }
/// ```
///
/// Another thread may be given the end as a whole, but not a reference to it:
///
/// ```compile_fail,E0277
/// fn share<T: Sync>() {}
/// share::<flipcall::Active>();
/// ```
///
/// Dropping it shuts the channel down, unless the last thing done was a
/// [`send_last`](Self::send_last).
///
/// ```
/// use flipcall::{Active, Error, OutOfBounds};
///
/// /// Has the other side answer `request`, and copies the answer once.
/// fn call(channel: &mut Active, request: &[u8]) -> Result<Result<Vec<u8>, OutOfBounds>, Error> {
///     if let Err(too_long) = channel.payload().copy_from(0, request) {
///         return Ok(Err(too_long));
///     }
///     let mut answer = vec![0; channel.send_recv(request.len())?];
///     let copied = channel.payload().copy_to(0, &mut answer);
///     Ok(copied.map(|()| answer))
/// }
/// # use flipcall::{ClientEndpoint, PacketWindow, ServerEndpoint, Spinners, WaitPolicy};
/// # let (policy, spinners) = (WaitPolicy::Park, Spinners::new());
/// # let window = PacketWindow::create(4096)?;
/// # let peer = PacketWindow::from_peer(window.try_clone_fd()?, window.descriptor())?;
/// # let server = ServerEndpoint::new(window, policy, &spinners);
/// # let echo = std::thread::spawn(move || {
/// #     let (mut channel, len) = server.recv_first()?;
/// #     channel.send_last(len)
/// # });
/// # let mut channel = ClientEndpoint::new(peer, policy, &spinners).connect()?;
/// assert_eq!(call(&mut channel, &[0; 1 << 20])?, Err(OutOfBounds));
/// assert_eq!(call(&mut channel, b"echo")?, Ok(b"echo".to_vec()));
/// # echo.join().expect("the server does not panic")?;
/// # Ok::<(), flipcall::Error>(())
/// ```
#[derive(Debug)]
pub struct Active {
    link: Link,
    not_sync: PhantomData<Cell<()>>,
}

impl Active {
    fn new(link: Link) -> Active {
        Active {
            link,
            not_sync: PhantomData,
        }
    }

    /// The datagram: after a transfer, the peer's in the first bytes; before one, ours to write.
    ///
    /// Empty once the channel has failed or the last datagram is sent, so that a dead window is
    /// never written again.
    pub fn payload(&self) -> SharedBytes<'_> {
        self.link.datagram()
    }

    /// The longest datagram that fits, in bytes.
    pub fn capacity(&self) -> usize {
        self.link.shared.mapping.datagram().len()
    }

    /// Hands the first `len` bytes of the window to the peer, waits until it hands control back,
    /// and returns the length of its datagram: at most [`capacity`](Self::capacity), nothing else
    /// is checked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `len` exceeds the capacity: nothing happened. Otherwise
    /// [`ErrorKind::Shutdown`], [`ErrorKind::Protocol`] or [`ErrorKind::Io`], and the channel is
    /// shut down.
    pub fn send_recv(&mut self, len: usize) -> Result<usize, Error> {
        self.link.send_recv(len)
    }

    /// Hands the first `len` bytes of the window to the peer for good.
    ///
    /// # Errors
    ///
    /// As for [`send_recv`](Self::send_recv).
    pub fn send_last(&mut self, len: usize) -> Result<(), Error> {
        self.link.send(len)?;
        self.link.stage = Stage::Sent;
        Ok(())
    }

    /// A handle that can end the channel, also while [`send_recv`](Self::send_recv) waits.
    pub fn closer(&self) -> Closer {
        self.link.closer()
    }

    /// How the waits of this end went so far.
    pub fn wait_stats(&self) -> WaitStats {
        self.link.shared.counters.snapshot()
    }
}

/// The right to end a channel from any thread, and the only one that other threads can hold.
///
/// It keeps the window mapped, so drop it with the channel.
///
/// ```
/// use std::time::Duration;
/// use flipcall::{ErrorKind, PacketWindow, ServerEndpoint, Spinners, WaitPolicy};
///
/// let window = PacketWindow::create(4096)?;
/// let endpoint = ServerEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
/// let closer = endpoint.closer();
/// // Waits for a client that never comes.
/// let server = std::thread::spawn(move || endpoint.recv_first().map(drop));
/// assert!(closer.shutdown(Duration::from_secs(5)));
/// let ended = server.join().expect("the server does not panic");
/// assert_eq!(ended.map_err(|why| why.kind()), Err(ErrorKind::Shutdown));
/// # Ok::<(), flipcall::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Closer {
    shared: Arc<Shared>,
}

impl Closer {
    /// Ends the channel for both sides, and wakes the local thread if it sleeps in a transfer.
    ///
    /// Returns true once no local thread sleeps, which usually takes microseconds; false if one
    /// still did after `deadline`. May be called any number of times. A datagram that arrives at
    /// the same moment may still be handled by this side; the answer is lost.
    ///
    /// A client takes a reply that the server had handed over before, even if it has not looked at
    /// the window yet: the server may have answered and then hung up. So while the window is the
    /// client's, it stays as it is, and the server hears of the end when the client's end is next
    /// used or dropped.
    pub fn shutdown(&self, deadline: Duration) -> bool {
        let control = self.shared.control(false);
        let started = Instant::now();
        let (mut pause, longest) = REWAKE;
        control.close();
        while control.is_asleep() {
            let left = deadline.saturating_sub(started.elapsed());
            if left.is_zero() {
                return false;
            }
            thread::sleep(pause.min(left));
            pause = longest.min(pause.saturating_mul(2));
            // Again, because the wake may have come just before the sleep, and because a hostile
            // peer may have put a state into the word that makes sleeping look right.
            control.wake_all();
        }
        true
    }

    /// Ends a transfer in which the local thread sleeps, and leaves a thread alone that is at work.
    /// To be repeated until the thread has gone: it may be about to sleep.
    ///
    /// A datagram that was handed over before can still be received, as after
    /// [`Active::send_last`]. One that arrives at the same moment is handled in full or refused, in
    /// which case the peer is told that the channel is shut down; a peer that sends one later waits
    /// until it learns elsewhere that nobody is there.
    pub fn shutdown_if_idle(&self) {
        self.shared.control(false).close_if_asleep();
    }

    /// Ends the channel as [`shutdown`](Self::shutdown) does, without waiting for anybody, and gives
    /// the window's memory back when this end and all its closers are gone, if it is the server's: at a
    /// client's it only ends the channel.
    ///
    /// A file lives as long as anybody has it, and its memory is charged to whoever touched it first:
    /// a client that keeps the windows of its dead channels would have ours grow without bound. The
    /// bytes behind the first page become zeros; the first stays, and with it the state that says
    /// that the channel has ended. The memory of pages that the client has pinned, for io_uring or in
    /// a pipe, stays as well, as much as its limits of locked memory and of pipes permit.
    ///
    /// For a server that knows that nobody reads its last reply any more, because the client has
    /// ended the channel or hung up, or waits for another one. A client that still did would take
    /// zeros for data.
    pub fn discard(&self) {
        // Relaxed: the drop of the last `Arc` is ordered after all uses of the others.
        self.shared.discarded.store(true, Relaxed);
        self.shared.control(false).close();
    }

    /// How the waits of this end went so far.
    pub fn wait_stats(&self) -> WaitStats {
        self.shared.counters.snapshot()
    }
}

/// What an end shares with its closers.
#[derive(Debug)]
struct Shared {
    mapping: Mapping,
    /// Whether nobody needs what is in the window when this goes.
    discarded: AtomicBool,
    gate: AtomicU32,
    role: Role,
    counters: Counters,
}

impl Shared {
    /// `parking` says whether to heed and set the parking flags. To end a channel they are not
    /// needed: that wakes everybody.
    fn control(&self, parking: bool) -> Control<'_, AtomicU32> {
        let (client, server) = (self.mapping.client_asleep(), self.mapping.server_asleep());
        let (mine, theirs) = match self.role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        Control {
            state: self.mapping.state(),
            gate: &self.gate,
            role: self.role,
            flags: parking.then_some(Flags { mine, theirs }),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Here and not earlier: a thread of ours could be writing a reply, and fill the pages again.
        if self.role == Role::Server
            && *self.discarded.get_mut()
            && let Ok(Ok(page)) = page_size().map(usize::try_from)
        {
            // A failure leaves the memory with the file, as if nobody had asked.
            let _ = self.mapping.remove_data(page);
        }
    }
}

/// Where an end is in its life; says whether the window may be written, and what a drop has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Control may come and go.
    Open,
    /// The last datagram is with the peer, which must be left the time to read it.
    Sent,
    /// A transfer failed.
    Failed,
}

/// An end without regard to its rights: what all three public types are made of.
#[derive(Debug)]
struct Link {
    shared: Arc<Shared>,
    waiter: Waiter,
    stage: Stage,
    /// Whether the parking flags are agreed upon.
    parking: bool,
}

impl Link {
    fn new(window: PacketWindow, role: Role, policy: WaitPolicy, spinners: &Spinners) -> Link {
        let shared = Shared {
            mapping: window.into_mapping(),
            discarded: AtomicBool::new(false),
            gate: AtomicU32::new(0),
            role,
            counters: Counters::default(),
        };
        Link {
            shared: Arc::new(shared),
            waiter: Waiter::new(role, policy, spinners),
            stage: Stage::Open,
            parking: false,
        }
    }

    fn closer(&self) -> Closer {
        Closer {
            shared: Arc::clone(&self.shared),
        }
    }

    fn datagram(&self) -> SharedBytes<'_> {
        match self.stage {
            Stage::Open => self.shared.mapping.datagram(),
            Stage::Sent | Stage::Failed => SharedBytes::from(&mut [][..]),
        }
    }

    fn send_recv(&mut self, len: usize) -> Result<usize, Error> {
        self.send(len)?;
        self.recv()
    }

    /// Hands over `len` bytes.
    fn send(&mut self, len: usize) -> Result<(), Error> {
        if self.stage != Stage::Open {
            return Err(Error::shutdown());
        }
        let data_len = u32::try_from(len)
            .ok()
            .filter(|_| len <= self.shared.mapping.datagram().len())
            .ok_or_else(|| {
                Error::about(
                    ErrorKind::InvalidInput,
                    "datagram exceeds the window",
                    len as u64,
                )
            })?;
        let control = self.shared.control(self.parking);
        let given = if control.is_closing() {
            Err(control.end(Ended::Shutdown))
        } else {
            // Relaxed: ordered by the hand-over that follows.
            self.shared.mapping.data_len().store(data_len, Relaxed);
            self.waiter.give(&control, &self.shared.counters)
        };
        given.map_err(|ended| {
            self.stage = Stage::Failed;
            describe(ended)
        })
    }

    /// Waits for control and judges the length that comes with it.
    fn recv(&mut self) -> Result<usize, Error> {
        let control = self.shared.control(self.parking);
        let waited = self.waiter.wait(&control, &self.shared.counters);
        if let Err(ended) = waited {
            self.stage = Stage::Failed;
            return Err(describe(ended));
        }
        if self.shared.role == Role::Server {
            // While the request is read and carried out. Most replies are no longer than that.
            let reply = self
                .datagram()
                .slice(CACHE_LINE - HEADER_LEN, 2 * CACHE_LINE);
            reply.iter().for_each(SharedBytes::prefetch_for_write);
        }
        // Read once: the next read may give another value.
        let data_len = self.shared.mapping.data_len().load(Relaxed);
        match usize::try_from(data_len) {
            Ok(len) if len <= self.shared.mapping.datagram().len() => Ok(len),
            _ => {
                self.stage = Stage::Failed;
                self.shared.control(false).mark();
                let what = "peer's datagram exceeds the window";
                Err(Error::about(ErrorKind::Protocol, what, data_len.into()))
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Without this the peer would wait for ever for an end that an early return has dropped. An
        // end that failed has told the peer already, and leaves the window alone.
        if self.stage == Stage::Open {
            self.shared.control(false).mark();
        }
    }
}

fn describe(ended: Ended) -> Error {
    match ended {
        Ended::Shutdown => Error::shutdown(),
        Ended::BadState(state) => Error::about(
            ErrorKind::Protocol,
            "peer broke the rules of the control state, leaving",
            state.into(),
        ),
        Ended::Futex(errno) => Error::os("cannot wait for the peer")(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_can_move_to_another_thread_and_closers_be_shared() {
        fn send<T: Send>() {}
        fn share<T: Send + Sync + Clone>() {}
        send::<ClientEndpoint>();
        send::<ServerEndpoint>();
        send::<Active>();
        share::<Closer>();
        share::<Spinners>();
    }
}
