//! Reaching a server.
//!
//! Below, [`Socket`] and [`Channel`] carry one request at a time and hide nothing.
#![forbid(unsafe_code)]

mod channel;
mod communicator;
mod error;
mod mount;
mod reply;
mod socket;

pub use channel::{Channel, PendingChannel};
pub use communicator::{Bounds, Communicator};
pub use error::{Error, Failure, FailureKind};
pub use mount::{MountReply, SupportedMids};
pub use reply::Reply;
pub use socket::Socket;
