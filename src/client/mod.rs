//! Reaching a server.
//!
//! [`Client`] is a connection that any number of threads use, and reads like [`std::fs`]: paths,
//! [`File`], [`ReadDir`]. Below the paths are the server's own objects, each with a handle that gives
//! it up when dropped: [`ControlFile`], [`OpenFile`], [`BoundSocket`]. Below those, [`Socket`] and
//! [`Channel`] carry one request at a time and hide nothing.
//!
//! | | |
//! |---|---|
//! | `fs`, `remove`, `open_options`, `file`, `resolve` | paths |
//! | `control_file`, `create`, `set_attributes`, `xattr`, `open_file`, `read_dir`, `bound_socket`, `handle` | handles |
//! | `connection`, `pool`, `closes`, `watchdog` | what all of them share |
//! | `communicator`, `socket`, `channel`, `reply`, `watched`, `mount`, `error` | one request, one reply |
#![forbid(unsafe_code)]

mod bound_socket;
mod channel;
mod closes;
mod communicator;
mod connection;
mod control_file;
mod create;
mod error;
mod file;
mod fs;
mod handle;
mod mount;
mod open_file;
mod open_options;
mod pool;
mod read_dir;
mod remove;
mod reply;
mod resolve;
mod set_attributes;
mod socket;
mod watchdog;
mod watched;
mod xattr;

pub use bound_socket::BoundSocket;
pub use channel::{Channel, PendingChannel};
pub use communicator::{Bounds, Communicator};
pub use connection::{Client, ClientOptions};
pub use control_file::{ControlFile, WalkOutcome, WalkStatus};
pub use create::Create;
pub use error::{Error, Failure, FailureKind};
pub use file::File;
pub use mount::{MountReply, SupportedMids};
pub use open_file::OpenFile;
pub use open_options::OpenOptions;
pub use read_dir::{DirEntry, ReadDir};
pub use reply::Reply;
pub use set_attributes::SetAttributes;
pub use socket::Socket;
