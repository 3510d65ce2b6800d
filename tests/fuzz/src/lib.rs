//! What the fuzz targets share.
//!
//! | | |
//! |---|---|
//! | `frames` | an input as messages, for the targets that take bytes |
//! | `replies` | what a reply has to look like, whatever was asked |
#![forbid(unsafe_code)]

mod frames;
mod replies;

pub use self::frames::{Frame, Frames};
pub use self::replies::judge;
