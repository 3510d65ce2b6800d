//! What is said of clients that are not served.
#![forbid(unsafe_code)]

use std::io;

use lisafs::observe::Occurrences;
use lisafs::server::Refusal;
use tracing::warn;

/// Clients that were turned away or have to wait: how many, by reason.
///
/// Whoever may connect can do so as often as they like, so that not each of them is worth a line.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    connections: Occurrences,
    descriptors: Occurrences,
    ids: Occurrences,
    others: Occurrences,
    waits: Occurrences,
    hung: Occurrences,
}

impl Refusals {
    /// Says that a client was turned away, and what to do.
    pub(crate) fn turned_away(&self, why: Refusal) {
        let (times, advice) = match why {
            Refusal::Connections => (&self.connections, "permit more with --max-connections"),
            Refusal::Descriptors => (
                &self.descriptors,
                "permit more with --max-total-fds, or less to each with --max-channels and --max-fds",
            ),
            Refusal::Ids => (
                &self.ids,
                "permit more with --max-total-ids, or less to each with --max-ids",
            ),
            _ => (
                &self.others,
                "raise the limits of this process, of open files and of threads",
            ),
        };
        if let Some(count) = times.happened() {
            warn!(count, "a client was turned away: {why}: {advice}");
        }
    }

    /// Says that nobody is accepted as long as those who were turned away are not gone.
    pub(crate) fn closing_takes_long(&self) {
        if let Some(count) = self.hung.happened() {
            warn!(
                count,
                "clients have to wait: sockets of others who were turned away are not closed yet, or hang for \
                 what was sent to them"
            );
        }
    }

    /// Says that a client cannot be accepted yet, and what to do.
    pub(crate) fn has_to_wait(&self, why: &io::Error) {
        if let Some(count) = self.waits.happened() {
            warn!(
                count,
                "a client has to wait: {why}: raise the limit of open files of this process"
            );
        }
    }
}
