//! The command line tool, through the binary: what it prints, how it exits, what it leaves behind.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // outside of test functions, too

mod change;
mod fixture;
mod interrupt;
mod listing;
mod measure;
mod refuse;
mod rpc;
mod top;
mod trace;
mod transfer;
mod tree;
