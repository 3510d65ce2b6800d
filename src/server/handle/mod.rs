//! The handlers: one implementation of [`Serve`](super::dispatch::Serve) for each row of the table.
//!
//! Each follows the same order, which decides the errno when a request is wrong in several ways:
//! names, ids and their kinds, then the locks, then what only holds under them, then the back end.

mod create;
mod directory;
mod io;
mod link;
mod mount;
mod open;
mod socket;
mod stat;
mod walk;
mod xattr;
