//! Packet windows in shared memory, handed back and forth with futexes.
//!
//! A **channel** connects a client and a server process. Its **packet window** is a piece of shared
//! memory that holds one datagram; a word in it says whose turn it is. The client writes a request
//! and hands the window over, the server writes its reply over the request and hands it back. An
//! idle side sleeps on the word, or first polls it for a while ([`WaitPolicy`]). Next to the window
//! runs a socket pair for descriptors that the server gives away ([`FdSender`], [`FdReceiver`]).
//! How a window gets into the other process is up to the caller; [`FrameSocket`] is made for it.
//! The bytes are those of gVisor's flipcall, and either side can be the Go program;
//! `channel-layout.md` at the root of the repository specifies them.
//!
//! ```
//! use flipcall::{ClientEndpoint, PacketWindow, ServerEndpoint, Spinners, WaitPolicy};
//!
//! # fn main() -> Result<(), flipcall::Error> {
//! let spinners = Spinners::new();
//! let window = PacketWindow::create(4096)?;
//! let (fd, descriptor) = (window.try_clone_fd()?, window.descriptor());
//!
//! // The server would be another process.
//! let server = ServerEndpoint::new(window, WaitPolicy::Park, &spinners);
//! let server = std::thread::spawn(move || -> Result<(), flipcall::Error> {
//!     let (mut channel, len) = server.recv_first()?;
//!     let mut request = vec![0; len];
//!     channel.payload().copy_to(0, &mut request).expect("a length is checked on arrival");
//!     request.make_ascii_uppercase();
//!     channel.payload().copy_from(0, &request).expect("as long as before");
//!     channel.send_last(len)
//! });
//!
//! let window = PacketWindow::from_peer(fd, descriptor)?;
//! let mut channel = ClientEndpoint::new(window, WaitPolicy::Park, &spinners).connect()?;
//! channel.payload().copy_from(0, b"hello").expect("4096 bytes have room for five");
//! let len = channel.send_recv(5)?;
//! let mut reply = vec![0; len];
//! channel.payload().copy_to(0, &mut reply).expect("a length is checked on arrival");
//! assert_eq!(reply, b"HELLO");
//! # server.join().expect("the server does not panic")
//! # }
//! ```
//!
//! # Trust
//!
//! Neither side trusts the other. Everything in a window may change at any moment, so it is only
//! ever seen through [`SharedBytes`], which copies; lengths and control states are judged on
//! arrival, once, and what no rule allows ends the channel. A window is sealed at its size, so that
//! no access can fault. A peer can refuse to answer, and that is all: every wait ends when the
//! local [`Closer`] says so, whatever is in the window. A peer that dies says nothing at all; watch
//! the socket.
//!
//! # Map of the code
//!
//! | | |
//! |---|---|
//! | `endpoint` | who may do what: [`ClientEndpoint`], [`ServerEndpoint`], [`Active`], [`Closer`] |
//! | `control` | the hand-over protocol on an abstract word; explored by loom |
//! | `wait`, `futex` | how to wait for a turn, and for how long to poll; the system calls |
//! | `window`, `mapping`, `shared` | making, checking, mapping windows; the view of their bytes |
//! | `handshake` | the JSON exchanged once per channel |
//! | `fdchannel`, `socket`, `sys` | descriptors one by one; frames; sendmsg and recvmsg |
//! | `error` | the one error: why a channel, window or socket cannot be used |
//! | `inflight` | how many descriptors a peer can leave untaken |

#[cfg(not(target_os = "linux"))]
compile_error!("flipcall needs Linux: futexes, memfds and their seals");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("flipcall supports 64-bit targets only");
#[cfg(not(target_endian = "little"))]
compile_error!(
    "flipcall supports little-endian targets only: the protocol is in native byte order"
);

mod control;
mod endpoint;
mod error;
mod fdchannel;
mod futex;
mod handshake;
mod inflight;
mod mapping;
mod shared;
mod socket;
mod sys;
mod wait;
mod window;

pub use endpoint::{Active, ClientEndpoint, Closer, ServerEndpoint};
pub use error::{Error, ErrorKind};
pub use fdchannel::{FdReceiver, FdSender, fd_channel};
pub use shared::{OutOfBounds, SharedBytes};
pub use socket::{FrameBuffer, FrameSocket, Received, SendError, refuse_descriptors};
pub use wait::{ParseWaitPolicyError, Spinners, WaitPolicy, WaitStats};
pub use window::{PacketWindow, WindowDescriptor};
