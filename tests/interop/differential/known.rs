//! What is known of a release of gVisor's server, and what was seen of it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use lisafs::wire::{Mid, messages};

use super::player::{Player, Seen};
use super::step::{Step, Turn};
use crate::gvisor::Release;

/// A message, our answer and gVisor's, each "ok" or an error.
type Answers = (String, String, String);

pub(super) struct Known {
    /// Whether the server has extended attributes. Without them it offers messages about them all the same.
    xattr: bool,
    /// The differences that are meant.
    differences: BTreeSet<Answers>,
    /// The messages that it can be asked for.
    answered: RefCell<BTreeSet<Mid>>,
    /// All that was answered, and how often.
    seen: RefCell<BTreeMap<Answers, u64>>,
    /// How much was sent by the second connection, and over a communicator that was not there at first.
    apart: Cell<(u64, u64)>,
}

fn answers(step: &Step, ours: &Seen, theirs: &Seen) -> Answers {
    let word = |seen: &Seen| match seen {
        Ok(_) => "ok".to_owned(),
        Err(errno) => errno.clone(),
    };
    (step.mid().to_string(), word(ours), word(theirs))
}

impl Known {
    pub(super) fn of(release: &Release) -> Result<Known, String> {
        let mut known = BTreeSet::new();
        let lines = include_str!("reply-differences.txt").lines();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [message, ours, theirs, reason] = fields[..] else {
                return Err(format!("not four fields: {line:?}"));
            };
            if reason.trim().is_empty() {
                return Err(format!("no reason: {line:?}"));
            }
            let message = match message.split_once(':') {
                Some((name, _)) if release.name != name => continue,
                Some((_, message)) => message,
                None => message,
            };
            known.insert((message.to_owned(), ours.to_owned(), theirs.to_owned()));
        }
        Ok(Known {
            xattr: release.xattr,
            differences: known,
            answered: RefCell::default(),
            seen: RefCell::default(),
            apart: Cell::default(),
        })
    }

    /// Finds out what gVisor's server can be asked: Flush always, though no release offers it.
    pub(super) fn meet(&self, theirs: &Player) {
        let xattr = Mid::FGET_XATTR..=Mid::FREMOVE_XATTR;
        let answers = |mid: &Mid| {
            let offered = theirs.offers(*mid) || *mid == Mid::FLUSH;
            offered && (self.xattr || !xattr.contains(mid))
        };
        let all = messages().map(|message| message.mid);
        self.answered.replace(all.filter(answers).collect());
    }

    /// Whether it can be asked `step`.
    pub(super) fn answers(&self, step: &Step) -> bool {
        self.answered.borrow().contains(&step.mid())
    }

    /// Takes down what both answered, and says whether that difference is listed.
    pub(super) fn is_listed(&self, step: &Step, ours: &Seen, theirs: &Seen) -> bool {
        let answers = answers(step, ours, theirs);
        let listed = self.differences.contains(&answers);
        *self.seen.borrow_mut().entry(answers).or_default() += 1;
        listed
    }

    /// Notes which way a message took, and whether over a communicator that was added.
    pub(super) fn sent(&self, turn: &Turn, added: bool) {
        let (second, over_added) = self.apart.get();
        self.apart.set((
            second + u64::from(turn.by > 0),
            over_added + u64::from(added),
        ));
    }

    /// Fails if a difference that is listed was not seen.
    pub(super) fn each_difference_was_seen(&self) -> Result<(), String> {
        let seen = self.seen.borrow();
        let is_stale = |listed: &&Answers| !seen.contains_key(*listed);
        let stale: Vec<_> = self.differences.iter().filter(is_stale).collect();
        if stale.is_empty() {
            Ok(())
        } else {
            Err(format!("listed, but no witness comes to it: {stale:?}"))
        }
    }

    /// Fails if a message never succeeded: nothing much was compared then. Where gVisor's server has to
    /// refuse it, ours has to be seen to serve it.
    pub(super) fn each_message_succeeded(&self) -> Result<(), String> {
        let seen = self.seen.borrow();
        let succeeds = |answers: &&Answers| {
            answers.1 == "ok" && (answers.2 == "ok" || self.differences.contains(*answers))
        };
        let succeeded: BTreeSet<_> = seen.keys().filter(succeeds).map(|seen| &seen.0).collect();
        let answered = self.answered.borrow();
        match answered
            .iter()
            .find(|mid| !succeeded.contains(&mid.to_string()))
        {
            Some(mid) => Err(format!("{mid} never succeeded")),
            None => Ok(()),
        }
    }

    /// How often each message was sent, and how often both refused it or differed.
    pub(super) fn counts(&self) -> String {
        let mut counts = BTreeMap::<&str, [u64; 3]>::new();
        let seen = self.seen.borrow();
        for ((message, ours, theirs), &count) in &*seen {
            let [sent, refused, differed] = counts.entry(message).or_default();
            *sent += count;
            *refused += if ours != "ok" && theirs != "ok" {
                count
            } else {
                0
            };
            *differed += if ours == theirs { 0 } else { count };
        }
        let all: u64 = seen.values().sum();
        let (second, added) = self.apart.get();
        let mut lines = format!(
            "{all} messages, {second} over the second connection, {added} over channels opened \
             meanwhile; sent, refused by both, answered differently:"
        );
        for (message, [sent, refused, differed]) in counts {
            lines += &format!("\n  {message}: {sent}, {refused}, {differed}");
        }
        lines
    }
}
