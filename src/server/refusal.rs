//! Why a connection is not made.

use std::io;

use crate::Errno;

/// Why a client is not served.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::host::{HostFs, HostOptions};
/// use lisafs::server::{ConnectionOpts, Refusal, Server, Totals};
///
/// # let served = lisafs_served::directory()?;
/// # let directory = served.path();
/// let host = HostFs::open(directory, HostOptions::default())?;
/// let totals = Totals { max_ids: 1000, ..Totals::default() };
/// let server = Server::new(1).with_totals(totals);
/// let refused = server.connect_directly(host, ConnectionOpts::default()).unwrap_err();
/// assert_eq!(refused, Refusal::Ids);
/// assert_eq!(refused.errno(), Errno::EMFILE);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There are as many connections as there may be, those included whose clients have left threads
    /// in the host and that keep their places for it.
    #[error("there are as many clients as there may be")]
    Connections,
    /// [`Totals::max_fds`](super::Totals::max_fds) leaves too few to be set aside.
    #[error("too few descriptors of the total are left to be set aside for one more client")]
    Descriptors,
    /// [`Totals::max_ids`](super::Totals::max_ids) leaves too few to be set aside.
    #[error("too few ids of the total are left to be set aside for one more client")]
    Ids,
    /// The options make no sense, the server has been shut down, or the system has no descriptor or
    /// thread.
    #[error(transparent)]
    Other(#[from] Errno),
}

impl Refusal {
    /// EMFILE for what the limits of the server do not permit.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            Refusal::Connections | Refusal::Descriptors | Refusal::Ids => Errno::EMFILE,
            Refusal::Other(errno) => errno,
        }
    }
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Errno {
        refusal.errno()
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        refusal.errno().into()
    }
}
