//! The client against a server that misbehaves: a scripted one, in this process.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod contents;
mod fake;
mod gifts;
mod paths;
mod raw;
mod removal;
mod shared;
mod walks;
