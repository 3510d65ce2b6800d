//! The sockets from which threads of a connection accept.
//!
//! That does not wait, by a flag of the socket that the client can take back at any moment: it has the same
//! open file. It holds up its own channel then, and for as long as it likes, also when it has hung up. So
//! when the connection is over, whoever is still there is sent away by a shutdown of the socket.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;

use super::backend::{BoundSocketFdImpl, ServerImpl};
use super::fd::BoundSocketFd;
use crate::Errno;

/// Who accepts from what.
pub(super) struct Accepting<S: ServerImpl> {
    state: Mutex<State<S>>,
}

struct State<S: ServerImpl> {
    is_over: bool,
    /// Once for each thread.
    sockets: Vec<Arc<BoundSocketFd<S>>>,
}

impl<S: ServerImpl> Default for Accepting<S> {
    fn default() -> Accepting<S> {
        Accepting {
            state: Mutex::new(State {
                is_over: false,
                sockets: Vec::new(),
            }),
        }
    }
}

impl<S: ServerImpl> Accepting<S> {
    /// Runs `accept`, which accepts from `socket`.
    ///
    /// # Errors
    /// What `accept` says, which is EINVAL behind the [`end`](Self::end); ECONNRESET if that has been.
    pub(super) fn run<R>(
        &self,
        socket: &Arc<BoundSocketFd<S>>,
        accept: impl FnOnce() -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let mut state = self.state.lock();
        if state.is_over {
            return Err(Errno::ECONNRESET);
        }
        state.sockets.push(Arc::clone(socket));
        drop(state);
        let _entry = Entry {
            accepting: self,
            socket,
        };
        accept()
    }

    /// Sends away whoever accepts. For a connection that is over.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        let sockets = state.sockets.clone();
        drop(state);
        for socket in sockets {
            let fd = socket.socket().socket();
            if let Err(why) = shutdown(fd.as_raw_fd(), Shutdown::Both) {
                tracing::debug!(%why, "cannot shut down a socket from which somebody accepts");
            }
        }
    }
}

/// That one thread accepts from a socket, until it is dropped.
struct Entry<'a, S: ServerImpl> {
    accepting: &'a Accepting<S>,
    socket: &'a Arc<BoundSocketFd<S>>,
}

impl<S: ServerImpl> Drop for Entry<'_, S> {
    fn drop(&mut self) {
        let mut state = self.accepting.state.lock();
        let is_it = |one: &Arc<BoundSocketFd<S>>| Arc::ptr_eq(one, self.socket);
        if let Some(index) = state.sockets.iter().position(is_it) {
            state.sockets.swap_remove(index);
        }
    }
}
