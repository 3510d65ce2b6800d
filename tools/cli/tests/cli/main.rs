//! The command line tool, through the binary: what it prints, how it exits, what it leaves behind.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // outside of test functions, too

mod attributes;
mod change;
mod conform;
mod fixture;
mod interrupt;
mod listing;
mod manual;
mod measure;
mod outline;
mod refuse;
mod rpc;
mod shell;
mod special;
mod terminal;
mod top;
mod trace;
mod transfer;
mod tree;
