//! The gofer as a process: its sockets, its signals, its end, and what it leaves behind.
#![allow(clippy::panic, clippy::unwrap_used)] // outside of test functions, too

mod census;
mod handover;
#[path = "../../../../tests/server/lingering.rs"]
mod lingering;
mod metrics;
mod mixed;
mod process;
mod refuse;
mod sandbox;
mod serve;
mod signals;
#[path = "../../src/skipped.rs"]
#[allow(dead_code)] // what other tests use
mod skipped;
mod trace;
mod tracer;
