//! Doors for `tests/fuzz`, which feeds what `runsc` says to what understands it.
//!
//! cargo-fuzz sets `cfg(fuzzing)`; without it there is none of this.
#![forbid(unsafe_code)]

pub use crate::runsc::fuzzing::{argv, spec};
