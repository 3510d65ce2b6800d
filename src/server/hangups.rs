//! Noticing that a client has hung up while the thread of its socket is in the host.
//!
//! That thread sees it when it comes back to the socket, which is never if the host hangs. So a server
//! has one thread more, for as long as it has connections, that sleeps in poll(2) until one of their
//! sockets is closed. It touches nothing that a request may hold. It may be the last that has a socket: the
//! thread that served that has emptied it by then, so closing it waits for nobody.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use flipcall::FrameSocket;
use nix::errno::Errno as OsErrno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Inner;
use super::backend::ServerImpl;
use super::connection::{Connection, STACK_SIZE};
use crate::Errno;

/// How long the thread of a client that has hung up gets to see it by itself.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long it gets when it has seen it: for requests on channels, and to release what the client held.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What has the watching thread look which connections there are.
#[derive(Debug)]
pub(super) struct Waker(UnixStream);

impl Waker {
    pub(super) fn wake(&self) {
        // Where there is no room for one more byte it is awake anyway.
        let _ = (&self.0).write(&[0]);
    }
}

/// Starts the watching thread.
///
/// # Errors
/// As socketpair(2), EAGAIN when there can be no thread.
pub(super) fn start<S: ServerImpl>(inner: &Arc<Inner<S>>) -> Result<Waker, Errno> {
    let (waker, woken) = UnixStream::pair().map_err(Errno::from)?;
    for end in [&waker, &woken] {
        end.set_nonblocking(true).map_err(Errno::from)?;
    }
    let inner = Arc::clone(inner);
    thread::Builder::new()
        .name("hang-ups".to_owned())
        .stack_size(STACK_SIZE)
        .spawn(move || watch(&inner, &woken))
        .map_err(Errno::from)?;
    Ok(Waker(waker))
}

/// What there is to do before the next sleep.
struct Turn<S: ServerImpl> {
    watched: Vec<(u64, Arc<FrameSocket>)>,
    /// Of clients that have hung up long enough ago.
    overdue: Vec<Arc<Connection<S>>>,
    /// When the next will have.
    next: Option<Instant>,
}

fn watch<S: ServerImpl>(inner: &Inner<S>, woken: &UnixStream) {
    while let Some(turn) = next_turn(inner) {
        if !turn.overdue.is_empty() {
            inner.ended.notify_all();
            turn.overdue.into_iter().for_each(Connection::leave_behind);
        }
        let hung_up = wait(&turn.watched, woken, turn.next);
        let now = Instant::now();
        let mut connections = inner.connections.lock();
        for id in hung_up {
            if let Some(entry) = connections.running.get_mut(&id) {
                entry.hung_up = Some(now);
            }
        }
    }
    inner.ended.notify_all();
}

/// `None` when there is nothing to watch; the next connection starts another thread then.
fn next_turn<S: ServerImpl>(inner: &Inner<S>) -> Option<Turn<S>> {
    // Dropped behind the lock: one of them may be the last of a connection, and the end of its back end.
    let mut looked_at = Vec::new();
    let mut connections = inner.connections.lock();
    let mut turn = Turn {
        watched: Vec::new(),
        overdue: Vec::new(),
        next: None,
    };
    let now = Instant::now();
    let mut overdue = Vec::new();
    let mut is_over = true;
    for (id, entry) in &connections.running {
        let Some(socket) = &entry.socket else {
            continue;
        };
        is_over = false;
        match entry.hung_up {
            None => turn.watched.push((*id, Arc::clone(socket))),
            Some(since) => {
                let connection = entry.connection.upgrade();
                let due = since + patience(connection.as_deref());
                looked_at.extend(connection);
                if due <= now {
                    overdue.push(*id);
                } else {
                    turn.next = Some(turn.next.map_or(due, |next| next.min(due)));
                }
            }
        }
    }
    if is_over {
        connections.waker = None;
        return None;
    }
    for id in overdue {
        if let Some(entry) = connections.running.remove(&id) {
            turn.overdue.extend(entry.connection.upgrade());
            connections.stuck.insert(id, entry.connection);
            // They may have been the last.
            connections.wake();
        }
    }
    Some(turn)
}

fn patience<S: ServerImpl>(connection: Option<&Connection<S>>) -> Duration {
    if connection.is_some_and(|connection| connection.is_draining()) {
        END_PATIENCE
    } else {
        PATIENCE
    }
}

/// Sleeps until clients have hung up, and returns which; until it is woken, or `until`.
fn wait(
    watched: &[(u64, Arc<FrameSocket>)],
    woken: &UnixStream,
    until: Option<Instant>,
) -> Vec<u64> {
    // Told without being asked for. It says that both directions are closed: a client that has ended
    // only its own may be waiting for the answer on its socket.
    let hang_up = PollFlags::empty();
    let mut fds = vec![PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
    let sockets = watched.iter().map(|(_, socket)| socket.as_fd());
    fds.extend(sockets.map(|socket| PollFd::new(socket, hang_up)));
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        // Rounded up, so that it is not too early then.
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, timeout) {
        Ok(_) => {}
        Err(OsErrno::EINTR) => return Vec::new(),
        Err(why) => {
            tracing::debug!(%why, "cannot watch the sockets");
            thread::sleep(PATIENCE);
            return Vec::new();
        }
    }
    let mut woken = woken;
    while woken.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    // The first is not a client's.
    let sockets = fds.iter().skip(1).zip(watched);
    let hung_up = sockets.filter(|(fd, _)| fd.any().unwrap_or(true));
    hung_up.map(|(_, (id, _))| *id).collect()
}
