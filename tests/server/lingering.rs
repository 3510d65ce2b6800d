//! A descriptor whose last close(2) waits: a TCP socket that lingers over what its peer does not read.

use std::io::{self, IoSlice, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use lisafs_patience::PATIENCE;
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt};

/// Longer than any test.
const SECONDS: libc::c_int = 3600;

/// Does what is not to be held up by what was left in sockets.
///
/// # Panics
/// If it is: all of that is closed then, so that there is an end.
pub(crate) fn beside<T>(left: Vec<Lingering>, act: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    let keeper = thread::spawn(move || {
        let waited = is_done.recv_timeout(2 * PATIENCE);
        drop(left);
        waited
    });
    let result = act();
    drop(done);
    let waited = keeper.join().unwrap();
    assert_eq!(
        waited,
        Err(RecvTimeoutError::Disconnected),
        "it was held up"
    );
    result
}

/// The peer. When it is dropped, closing is done.
pub(crate) struct Lingering {
    /// Until it is sent.
    sent: Option<TcpStream>,
    _peer: TcpStream,
}

impl Lingering {
    pub(crate) fn new() -> Lingering {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let more = [0; 1 << 16];
        // Until there is no room, twice: the kernel makes some while it sends.
        for _ in 0..2 {
            while stream.write_all(&more).is_ok() {}
        }
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: SECONDS,
        };
        setsockopt(&stream, Linger, &linger).unwrap();
        Lingering {
            sent: Some(stream),
            _peer: peer,
        }
    }

    /// Leaves it in the socket at the other end of `client`, where nobody reads it: behind the header of
    /// a frame whose length ends the connection. Nobody else has it then.
    ///
    /// # Errors
    /// As sendmsg(2): EPERM where the other end refuses descriptors.
    pub(crate) fn leave_in(&mut self, client: impl AsFd) -> io::Result<()> {
        let stream = self.sent.take().unwrap();
        let client = client.as_fd().as_raw_fd();
        let send = |bytes: &[u8], gift: &[ControlMessage<'_>]| {
            let flags = MsgFlags::MSG_NOSIGNAL;
            sendmsg::<()>(client, &[IoSlice::new(bytes)], gift, flags, None)
        };
        let header = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        send(&header, &[])?;
        let fds = [stream.as_raw_fd()];
        let sent = send(b"x", &[ControlMessage::ScmRights(&fds)]);
        if sent.is_err() {
            // It must not be this process that waits.
            self.sent = Some(stream);
        }
        sent?;
        Ok(())
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(stream) = &self.sent {
            let at_once = libc::linger {
                l_onoff: 0,
                l_linger: 0,
            };
            setsockopt(stream, Linger, &at_once).unwrap();
        }
    }
}
