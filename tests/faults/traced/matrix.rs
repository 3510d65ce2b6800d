//! What each failure has led to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::expected::Outcome;

/// A request on a kernel, and a call that it makes: which, and the how manieth with that name.
type Row = (&'static str, &'static str, usize, &'static str, usize);

/// All failures.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    rows: Mutex<BTreeMap<Row, Vec<(Errno, Outcome)>>>,
}

impl Matrix {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<Row, Vec<(Errno, Outcome)>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, row: Row, errno: Errno, outcome: Outcome) {
        self.rows().entry(row).or_default().push((errno, outcome));
    }

    /// Which requests have had which call failed.
    pub(crate) fn failed(&self) -> BTreeSet<(&'static str, &'static str)> {
        let rows = self.rows();
        let pairs = rows
            .keys()
            .map(|(_, request, _, call, _)| (*request, *call));
        pairs.collect()
    }

    /// How many failures of what there were.
    pub(crate) fn sums(&self) -> String {
        let rows = self.rows();
        let count = |wanted: fn(&Outcome) -> bool| {
            let outcomes = rows.values().flatten();
            outcomes.filter(|(_, outcome)| wanted(outcome)).count()
        };
        format!(
            "{} calls failed {} times: {} requests refused with that errno, {} of them undone, {} with \
             another, {} done in part, {} done, {} aborts",
            rows.len(),
            count(|_| true),
            count(|outcome| matches!(outcome, Outcome::Refused | Outcome::Undone)),
            count(|outcome| *outcome == Outcome::Undone),
            count(|outcome| matches!(outcome, Outcome::RefusedAs(_))),
            count(|outcome| matches!(outcome, Outcome::Partly(_))),
            count(|outcome| *outcome == Outcome::Done),
            count(|outcome| *outcome == Outcome::Aborted),
        )
    }
}

/// A line for each call, in the order in which the requests make them.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let mut last = ("", "");
        for ((kernel, request, _, call, occurrence), outcomes) in rows.iter() {
            if last != (*kernel, *request) {
                writeln!(f, "{request} ({kernel})")?;
                last = (kernel, request);
            }
            let name = format!("{call} {}", occurrence + 1);
            write!(f, "    {name:20}")?;
            for (index, (errno, outcome)) in outcomes.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                match outcome {
                    Outcome::Refused => write!(f, "{comma}{errno:?}")?,
                    Outcome::RefusedAs(other) => write!(f, "{comma}{errno:?} as {other:?}")?,
                    Outcome::Undone => write!(f, "{comma}{errno:?} undone")?,
                    Outcome::Partly(kept) => {
                        let names: Vec<_> = kept.iter_names().map(|(name, _)| name).collect();
                        write!(f, "{comma}{errno:?} but {}", names.join(" "))?;
                    }
                    Outcome::Done => write!(f, "{comma}{errno:?} done")?,
                    Outcome::Aborted => write!(f, "{comma}{errno:?} abort")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
