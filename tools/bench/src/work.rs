//! What is to be repeated: an operation or a mix.

use std::fmt;

use lisafs::client::Error;

use crate::area::Seat;
use crate::op::Op;
use crate::task::{self, BoxTask, Mix};

/// An operation or a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Op(Op),
    Mix(Mix),
}

impl Work {
    /// Makes what it needs, and the task.
    ///
    /// # Errors
    /// The server's; EPROTO when it does not behave as the work supposes.
    pub(crate) fn prepare(self, seat: &Seat) -> Result<BoxTask, Error> {
        match self {
            Work::Op(op) => task::prepare(op, seat),
            Work::Mix(mix) => mix.prepare(seat),
        }
    }

    /// What its parts are called; nothing for an operation, which is one.
    pub(crate) fn parts(self) -> Vec<&'static str> {
        match self {
            Work::Op(_) => Vec::new(),
            Work::Mix(_) => Mix::parts().collect(),
        }
    }

    /// How many requests each is, if that does not depend on the server.
    pub(crate) fn requests(self) -> Option<u32> {
        match self {
            Work::Op(op) => op.requests(),
            Work::Mix(_) => None,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Op(op) => op.fmt(f),
            Work::Mix(mix) => write!(f, "mix {mix}"),
        }
    }
}
