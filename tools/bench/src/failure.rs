//! What can be in the way.

use std::fmt;
use std::io;

use lisafs::client;

/// Why nothing more is measured.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The command line makes no sense, a server does not answer, or a file cannot be written.
    Trouble(String),
    /// Nobody reads the output any more.
    ClosedPipe,
    /// Somebody asked for the end.
    Interrupted,
}

impl Stop {
    /// Trouble, and with what.
    pub(crate) fn at(what: impl fmt::Display, why: impl fmt::Display) -> Stop {
        Stop::Trouble(format!("{what}: {why}"))
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Trouble(why) => f.write_str(why),
            Stop::ClosedPipe => f.write_str("the output was closed"),
            Stop::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// From writing to stdout.
impl From<io::Error> for Stop {
    fn from(why: io::Error) -> Stop {
        match why.kind() {
            io::ErrorKind::BrokenPipe => Stop::ClosedPipe,
            _ => Stop::at("cannot write the output", why),
        }
    }
}

/// Why an operation is not measured on a server.
#[derive(Debug)]
pub(crate) enum Why {
    /// The server's answer to this operation; others may fare better.
    Refused(client::Error),
    /// There is no server any more.
    Gone(client::Error),
}

impl From<client::Error> for Why {
    fn from(why: client::Error) -> Why {
        match why {
            client::Error::Failed(_) => Why::Gone(why),
            client::Error::Remote(_) | client::Error::Local(_) => Why::Refused(why),
        }
    }
}
