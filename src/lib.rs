//! lisafs: files over shared memory, from a server that does not trust its client.
//!
//! lisafs is the protocol by which gVisor's sandbox kernel reaches host files through a trusted
//! process, the *gofer*. This crate is both ends of it, byte-compatible with gVisor's own:
//!
//! - [`client`]: typed handles and paths, much like `std::fs`;
//! - [`server`]: the runtime, which serves any back end that implements its traits;
//! - [`host`]: the back end that serves a directory of the host;
//! - [`wire`]: the messages as bytes.
//!
//! ```
//! use std::os::unix::net::UnixStream;
//! use lisafs::client::Client;
//! use lisafs::host::{HostFs, HostOptions};
//! use lisafs::server::{ConnectionOpts, Server};
//! use lisafs::wire::FileType;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir();
//! let server = Server::new(1);
//! let (ours, theirs) = UnixStream::pair()?;
//! let backend = HostFs::open(&directory, HostOptions::default())?;
//! server.start_connection(theirs, backend, ConnectionOpts::default())?;
//!
//! let client = Client::from_stream(ours)?;
//! assert_eq!(client.metadata("/")?.file_type(), FileType::Directory);
//! # Ok(())
//! # }
//! ```
//!
//! # Trust
//!
//! The client may be malicious and may change shared memory at any time; the served directory may
//! be changed by others. So lengths are judged before memory is touched, messages are parsed from
//! private copies, ids come from private memory, names are a checked type, and no operation names
//! a file by a host path. A client can be refused and can be made to wait. It cannot choose a panic,
//! a hang or a descriptor of the server. What it has the server hold is bounded: ids, descriptors,
//! channels, message size and what is in flight for one client by `server::ConnectionOpts`, ids and
//! descriptors for all together by `server::Totals`. A client of this crate does not trust its server
//! either, except with the contents of files.
//!
//! # The way of a request
//!
//! ```text
//! client                                     server
//! ControlFile / OpenFile / Client
//!   pool: channel or socket
//!     encode into the window  ── futex ──▶   1 channel   the word flips, the length is checked
//!                                            2 dispatch  the header, copied once; is it admitted?
//!                                            3 wire      the body, copied once, is decoded
//!                                            4 fds       ids become objects
//!                                            5 guarantee locks become a proof
//!                                            6 host      one system call; the reply is in place
//!     copy out, decode        ◀── futex ──       descriptors queued, new ids published
//! ```
//!
//! # Map of the code
//!
//! | | |
//! |---|---|
//! | crate `flipcall` (`transport/`) | windows, hand-over, descriptor channel, frames |
//! | [`wire`] | one table row and one record a message; knows no I/O |
//! | [`client`] | communicators, pool and watchdog, typed handles, paths |
//! | [`server`] | connections, dispatch, handlers, ids, nodes, locks, the back-end traits |
//! | [`observe`] | watching requests on either side; a trace |
//! | [`host`] | the back end: handles, creation, attributes, directories, sockets |

#[cfg(any(feature = "client", feature = "server"))]
mod channel_header;
#[cfg(feature = "client")]
pub mod client;
mod errno;
#[cfg(feature = "host")]
pub mod host;
#[cfg(any(feature = "client", feature = "server"))]
pub mod observe;
#[cfg(feature = "server")]
pub mod server;
pub mod wire;

pub use errno::Errno;
