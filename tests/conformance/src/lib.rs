//! What every lisafs server must do, as cases that run against any of them.
//!
//! A [`Target`] is a server that can be reached. [`run()`] takes each [`Case`] of [`cases`] through a
//! connection of its own, over the socket and over a channel, in a fresh directory that it makes
//! through the protocol and removes afterwards; [`harness`] shows each of them as a test.
//!
//! - The **matrix** asks every message of the table for an object that is alive, deleted, on a
//!   read-only connection, of another kind, and unknown. A message without a row is a failed case,
//!   and so is a refusal after which anything below the directory is not as it was.
//! - The **areas** hold what the matrix cannot say: results, the precedence of errnos, descriptors,
//!   limits, malformed messages, channels in parallel.
//!
//! A server that is read-only is asked the cases `found.*` alone, about what it serves.
//!
//! The answers expected are those of the protocol, with the deviations from gVisor's server that
//! the protocol's own rules ask for. A server that is known to answer otherwise has
//! [`Differences`]: a list of cases that must fail, each with a reason.
//!
//! No call waits for ever: a connection whose server does not answer in time is cut, and the case
//! has failed.
#![forbid(unsafe_code)]

mod areas;
mod caller;
mod calls;
mod case;
mod cleanup;
mod differences;
pub mod harness;
mod line;
mod matrix;
mod probed;
mod run;
mod session;
mod snapshot;
mod target;
mod verdict;
mod watchdog;

pub use caller::{Answer, Caller, RawChannel, encoded};
pub use calls::{Bound, Created, Entry, Opened, Walked, at};
pub use case::{Case, cases};
pub use differences::{Differences, ParseDifferencesError};
pub use line::Via;
pub use probed::Probed;
pub use run::{Outcome, Report, run, run_case};
pub use session::{Mount, Session};
pub use target::{Need, Spawned, Target};
pub use verdict::{Stop, Verdict, refused};
