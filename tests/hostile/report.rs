//! What all cases came to.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::case::{Outcome, Sort};
use crate::stage::{GVISOR, OURS};

/// The outcomes, in the order in which the cases ended.
#[derive(Debug, Default)]
pub(crate) struct Report {
    outcomes: Mutex<Vec<Outcome>>,
}

impl Report {
    pub(crate) fn add(&self, outcome: Outcome) {
        self.outcomes().push(outcome);
    }

    fn outcomes(&self) -> MutexGuard<'_, Vec<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same as data.
    pub(crate) fn json(&self) -> Value {
        let outcomes = self.outcomes();
        let cases: Vec<_> = outcomes
            .iter()
            .map(|outcome| {
                let faults: Vec<_> = outcome
                    .faults
                    .iter()
                    .map(|fault| json!({"sort": fault.sort.to_string(), "why": fault.why}))
                    .collect();
                json!({
                    "case": outcome.case,
                    "server": outcome.server,
                    "skipped": outcome.skipped,
                    "left out": outcome.left_out,
                    "rpcs": outcome.rpcs,
                    "tries": outcome.tries,
                    "seconds": outcome.took.as_secs_f64(),
                    "faults": faults,
                })
            })
            .collect();
        let census: serde_json::Map<_, _> = [OURS, GVISOR]
            .into_iter()
            .filter_map(|server| {
                let census = Census::of(&outcomes, server)?;
                Some((server.to_owned(), census.json()))
            })
            .collect();
        json!({"cases": cases, "census": census})
    }
}

/// A line for each server, and a table if there are two.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcomes = self.outcomes();
        let theirs: Vec<_> = of(&outcomes, GVISOR).collect();
        if !theirs.is_empty() {
            writeln!(f, "{:72} {:16} {GVISOR}", "case", OURS)?;
            for outcome in of(&outcomes, OURS) {
                let other = theirs.iter().find(|other| other.case == outcome.case);
                let theirs = other.map_or_else(|| "not asked".to_owned(), |other| in_words(other));
                writeln!(f, "{:72} {:16} {theirs}", outcome.case, in_words(outcome))?;
            }
        }
        for server in [OURS, GVISOR] {
            if let Some(census) = Census::of(&outcomes, server) {
                writeln!(f, "{server}: {census}")?;
            }
        }
        Ok(())
    }
}

fn of<'o>(outcomes: &'o [Outcome], server: &'o str) -> impl Iterator<Item = &'o Outcome> {
    outcomes
        .iter()
        .filter(move |outcome| outcome.server == server)
}

fn in_words(outcome: &Outcome) -> String {
    if !outcome.faults.is_empty() {
        let mut sorts: Vec<_> = outcome.faults.iter().map(|fault| fault.sort).collect();
        sorts.sort_unstable();
        sorts.dedup();
        let words: Vec<_> = sorts.iter().map(Sort::to_string).collect();
        return words.join(", ");
    }
    match outcome.skipped {
        Some(_) => "not asked".to_owned(),
        None => "holds".to_owned(),
    }
}

/// The sums for one server.
#[derive(Debug, Default)]
struct Census {
    cases: usize,
    /// Of these.
    skipped: usize,
    /// Parts that could not be run.
    left_out: usize,
    rpcs: u64,
    tries: u64,
    faults: [usize; Sort::ALL.len()],
}

impl Census {
    fn of(outcomes: &[Outcome], server: &str) -> Option<Census> {
        let mut census = Census::default();
        for outcome in of(outcomes, server) {
            census.cases += 1;
            census.skipped += usize::from(outcome.skipped.is_some());
            census.left_out += outcome.left_out.len();
            census.rpcs += outcome.rpcs;
            census.tries += outcome.tries;
            for fault in &outcome.faults {
                census.faults[fault.sort as usize] += 1;
            }
        }
        (census.cases > 0).then_some(census)
    }

    fn json(&self) -> Value {
        let mut all = json!({
            "cases": self.cases,
            "skipped": self.skipped,
            "left out": self.left_out,
            "rpcs": self.rpcs,
            "tries": self.tries,
        });
        for (sort, count) in Sort::ALL.iter().zip(self.faults) {
            all[sort.to_string()] = json!(count);
        }
        all
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Census {
            cases,
            skipped,
            left_out,
            rpcs,
            tries,
            ..
        } = self;
        write!(
            f,
            "cases {cases}, skipped {skipped}, parts left out {left_out}, RPCs {rpcs}, tries {tries}"
        )?;
        for (sort, count) in Sort::ALL.iter().zip(self.faults).rev() {
            write!(f, ", {sort} {count}")?;
        }
        Ok(())
    }
}
