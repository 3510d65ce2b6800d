//! What the fuzz targets share.
//!
//! | | |
//! |---|---|
//! | `frames` | an input as messages, for the targets that take bytes |
//! | `replies` | what a reply has to look like, whatever was asked |
//! | `scratch` | a directory to serve, and one next to it that nobody may reach |
//! | `outside` | what of the host nobody may reach, shared with `tests/hostile` |
//! | `step` | a request as a choice, for sequences that make sense |
//! | `words` | the names in them |
//! | `player` | sends such requests, and keeps the ids and descriptors that it is given |
//! | `donated` | what a descriptor may be, whatever was asked |
//! | `server` | a hostile server, which answers with what it is given |
//! | `writes` | an input as what is written to a socket, with descriptors |
//! | `descriptors` | how many this process has |
#![forbid(unsafe_code)]

mod descriptors;
mod donated;
mod frames;
#[path = "../../hostile/outside.rs"]
#[allow(dead_code, unreachable_pub)] // what the hostile suite uses
mod outside;
mod player;
mod replies;
mod scratch;
mod server;
mod step;
mod words;
mod writes;

pub use self::descriptors::count_descriptors;
pub use self::frames::{Frame, Frames};
pub use self::player::Player;
pub use self::replies::judge;
pub use self::scratch::Scratch;
pub use self::server::HostileServer;
pub use self::step::{Choice, Step};
pub use self::writes::{Writes, Written};
