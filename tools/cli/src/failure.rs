//! What can go wrong, and how much of the work it ends.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use lisafs::Errno;
use lisafs::client;

/// What a server answers that has been told to end.
const ENDING: Errno = Errno::ECONNRESET;

/// Why a file was not dealt with. Others may be.
#[derive(Debug)]
pub(crate) enum Why {
    /// The server's answer, or the lack of one.
    Client(client::Error),
    /// The system's, about a local file.
    Local(Errno),
    /// This program's.
    Said(&'static str),
}

/// Why no more is done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The command line makes no sense, or the server does not answer.
    Trouble(String),
    /// The same, and it was said already.
    Told,
    /// Nobody reads the output any more.
    ClosedPipe,
}

impl Why {
    /// Whether there is no server any more, so that other files would fare no better.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Why::Client(client::Error::Failed(_)) => true,
            Why::Client(client::Error::Remote(errno)) => *errno == ENDING,
            Why::Client(client::Error::Local(_)) | Why::Local(_) | Why::Said(_) => false,
        }
    }

    /// Which of the two files of a transfer it is about.
    pub(crate) fn subject<'p>(&self, local: &'p Path, remote: &'p Path) -> &'p Path {
        match self {
            Why::Local(_) => local,
            Why::Client(_) | Why::Said(_) => remote,
        }
    }

    pub(crate) fn is(&self, errno: Errno) -> bool {
        match self {
            Why::Client(why) => why.errno() == errno,
            Why::Local(why) => *why == errno,
            Why::Said(_) => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Client(client::Error::Failed(failure)) => match failure.source() {
                Some(source) => write!(f, "{failure}: {source}"),
                None => failure.fmt(f),
            },
            Why::Client(client::Error::Remote(ENDING)) => f.write_str("the server is ending"),
            Why::Client(why) => why.fmt(f),
            Why::Local(why) => why.fmt(f),
            Why::Said(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Trouble(why) => why.fmt(f),
            Stop::Told => f.write_str("not everything could be asked"),
            Stop::ClosedPipe => f.write_str("the output was closed"),
        }
    }
}

impl From<client::Error> for Why {
    fn from(why: client::Error) -> Why {
        Why::Client(why)
    }
}

impl From<io::Error> for Why {
    fn from(why: io::Error) -> Why {
        Why::Local(why.into())
    }
}

impl From<nix::errno::Errno> for Why {
    fn from(why: nix::errno::Errno) -> Why {
        Why::Local(why.into())
    }
}

/// From writing to stdout.
impl From<io::Error> for Stop {
    fn from(why: io::Error) -> Stop {
        match why.kind() {
            io::ErrorKind::BrokenPipe => Stop::ClosedPipe,
            _ => Stop::Trouble(format!("cannot write the output: {}", Errno::from(&why))),
        }
    }
}

#[cfg(test)]
mod tests {
    use lisafs::client;

    use super::*;

    #[test]
    fn a_server_that_ends_is_no_answer_about_a_file() {
        let ending = Why::from(client::Error::Remote(Errno::ECONNRESET));
        assert!(ending.is_final());
        assert_eq!(ending.to_string(), "the server is ending");
        for about_a_file in [
            Why::from(client::Error::Remote(Errno::EIO)),
            Why::Local(Errno::ECONNRESET),
        ] {
            assert!(!about_a_file.is_final());
        }
    }
}
