//! What all connections together can hold, and what each is sure of.

use std::sync::{Arc, OnceLock};

use super::opts::ConnectionOpts;
use super::quota::Quota;
use super::refusal::Refusal;

/// How much all connections of a server can hold together, so that a client who has many does not take
/// everything.
///
/// Whatever others hold, each connection can have 32 descriptors and 1,024 ids, if it may have so many
/// at all. Those are set aside when it starts, along with what its socket, its channels and its threads
/// take. Half of those descriptors may be of files that others have moved or removed. A quarter of either
/// total is for that alone, so that those who are there cannot keep others from coming by holding much.
/// What is stuck in the host when its client has hung up is not counted as far as it was set aside, as
/// long as that makes no more than a quarter of all descriptors beside them.
///
/// ```
/// use lisafs::host::HostFs;
/// use lisafs::server::{Server, Totals};
///
/// let totals = Totals { max_fds: 10_000, ..Totals::default() };
/// let server = Server::<HostFs>::new(100).with_totals(totals);
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// How many descriptors can be open for all clients, those of sockets and channels included; EMFILE
    /// above, and a connection for which not enough can be set aside is refused. As long as the host
    /// does not answer, clients that have hung up can have a quarter as many open beside these, and one
    /// of them all that was set aside for it.
    pub max_fds: usize,
    /// How many ids all clients can have; EMFILE above, and a connection for which not enough can be set
    /// aside is refused: 1,024 for each, or [`ConnectionOpts::max_ids`] where that is less.
    pub max_ids: usize,
}

impl Default for Totals {
    /// No limits beside those of each connection.
    fn default() -> Totals {
        Totals {
            max_fds: usize::MAX,
            max_ids: usize::MAX,
        }
    }
}

/// The descriptors that back ends can open for a connection come what may.
const SURE_FDS: usize = 32;

/// The ids that a connection can have come what may.
const SURE_IDS: usize = 1024;

/// The descriptors of a channel: its memory, and the socket for descriptors.
const OF_CHANNEL: usize = 2;

/// What a thread has open for the time of a request, beyond what is counted.
const PASSING: usize = 4;

/// What the quotas of connections are taken from.
#[derive(Debug)]
pub(super) struct Pools {
    descriptors: Arc<Quota>,
    ids: Arc<Quota>,
    /// The descriptors of connections whose client has gone, which the others do not count with.
    stuck: Arc<Quota>,
}

/// What a connection can hold.
#[derive(Debug)]
pub(super) struct Allowance {
    pub(super) descriptors: Arc<Quota>,
    pub(super) ids: Arc<Quota>,
    /// Holds what is set aside for the connection itself.
    own: Arc<Quota>,
    /// How many descriptors are set aside in all.
    sure_fds: usize,
    of_stuck: Arc<Quota>,
    /// Set aside for what of it is left.
    left: OnceLock<Arc<Quota>>,
}

impl Allowance {
    /// Lets other connections have what is set aside, since the client has gone. Returns whether it
    /// does: there is an end to what may be open beside.
    pub(super) fn give_up(&self) -> bool {
        // There is room for one, however little there is.
        let sure = self.sure_fds.min(self.of_stuck.limit());
        let Ok(left) = Quota::within(&self.of_stuck, sure, sure) else {
            return false;
        };
        // If another was first, that one stays.
        let _ = self.left.set(left);
        for quota in [&self.descriptors, &self.ids, &self.own] {
            quota.give_up();
        }
        true
    }
}

impl Pools {
    pub(super) fn new(totals: Totals) -> Pools {
        Pools {
            descriptors: Quota::new(totals.max_fds),
            ids: Quota::new(totals.max_ids),
            stuck: Quota::new((totals.max_fds / 4).max(1)),
        }
    }

    /// What a connection of these options can hold.
    ///
    /// # Errors
    /// Of what not enough is left to be set aside.
    pub(super) fn allow(&self, opts: &ConnectionOpts) -> Result<Allowance, Refusal> {
        let own = opts.own_fds();
        let of_descriptors = |sure, limit| {
            Quota::within(&self.descriptors, sure, limit).map_err(|_| Refusal::Descriptors)
        };
        Ok(Allowance {
            own: of_descriptors(own, own)?,
            descriptors: of_descriptors(SURE_FDS, opts.max_fds)?,
            ids: Quota::within(&self.ids, SURE_IDS, opts.max_ids).map_err(|_| Refusal::Ids)?,
            sure_fds: opts.sure_fds(),
            of_stuck: Arc::clone(&self.stuck),
            left: OnceLock::new(),
        })
    }
}

impl ConnectionOpts {
    /// The most descriptors that such a connection has open, in the back end and for itself.
    #[must_use]
    pub fn most_fds(&self) -> usize {
        self.max_fds.saturating_add(self.own_fds())
    }

    /// The descriptors that are set aside for such a connection.
    #[must_use]
    pub fn sure_fds(&self) -> usize {
        self.max_fds.min(SURE_FDS).saturating_add(self.own_fds())
    }

    /// The ids that are set aside for such a connection.
    #[must_use]
    pub fn sure_ids(&self) -> usize {
        self.max_ids.min(SURE_IDS)
    }

    /// What a connection has open itself.
    fn own_fds(&self) -> usize {
        let of_channels = self.max_channels.saturating_mul(OF_CHANNEL + PASSING);
        of_channels.saturating_add(1 + PASSING)
    }
}
