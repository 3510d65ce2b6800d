//! Asking a server.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::case::{Case, cases};
use crate::differences::Differences;
use crate::line::Via;
use crate::session::Session;
use crate::target::Target;
use crate::verdict::Stop;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server did what it must.
    Passed,
    /// It did not.
    Failed(String),
    /// It could not be asked.
    Skipped(String),
}

/// What a server did in all cases.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Each case with its communicator, in the order they were run.
    pub outcomes: Vec<(String, Via, Outcome)>,
}

impl Report {
    /// The cases that ended otherwise than `known` says, each with what is wrong about it. `known` is
    /// to be that [of](Differences::of) the server.
    #[must_use]
    pub fn complaints(&self, known: &Differences) -> Vec<String> {
        let mut complaints: Vec<String> = self
            .outcomes
            .iter()
            .filter_map(|(name, via, outcome)| {
                let why = known.judge(name, *via, outcome.clone()).err()?;
                Some(format!("{name} over the {via}: {why}"))
            })
            .collect();
        complaints.extend(
            known
                .strangers()
                .map(|name| format!("{name}: no such case")),
        );
        complaints
    }
}

/// Asks `target` all cases whose name contains `filter`, one after the other, and tells `observe` of
/// each.
pub fn run(
    target: &Arc<dyn Target>,
    filter: &str,
    mut observe: impl FnMut(&Case, Via, &Outcome),
) -> Report {
    let mut report = Report::default();
    for case in cases().iter().filter(|case| case.name().contains(filter)) {
        for via in case.vias() {
            let outcome = run_case(target, case, *via);
            observe(case, *via, &outcome);
            report
                .outcomes
                .push((case.name().to_owned(), *via, outcome));
        }
    }
    report
}

/// Asks one case over one communicator. A case that panics has failed.
#[must_use]
pub fn run_case(target: &Arc<dyn Target>, case: &Case, via: Via) -> Outcome {
    if let Some(need) = case.needs().iter().find(|need| !target.offers(**need)) {
        return Outcome::Skipped(need.to_string());
    }
    let mut session = match Session::open(target, via) {
        Ok(session) => session,
        Err(Stop::Skipped(why)) => return Outcome::Skipped(why),
        Err(Stop::Failed(why)) => return Outcome::Failed(format!("cannot begin: {why}")),
    };
    let asked = catch_unwind(AssertUnwindSafe(|| case.ask(&mut session)));
    let timed_out = session.timed_out();
    let cleaned = session.clean();
    match (asked, cleaned) {
        (Err(_), _) => Outcome::Failed("the case panicked".to_owned()),
        (Ok(Err(Stop::Failed(why))), _) if timed_out => {
            Outcome::Failed(format!("the server did not answer in time: {why}"))
        }
        (Ok(Err(Stop::Failed(why))), _) => Outcome::Failed(why),
        (Ok(_), _) if timed_out => Outcome::Failed("the server did not answer in time".to_owned()),
        (Ok(_), Err(Stop::Failed(why))) => Outcome::Failed(format!("cannot clean up: {why}")),
        (Ok(Err(Stop::Skipped(why))), _) => Outcome::Skipped(why),
        (Ok(Ok(())), _) => Outcome::Passed,
    }
}
