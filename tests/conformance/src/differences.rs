//! What is known of a server that answers otherwise.

use core::str::FromStr;
use std::collections::BTreeMap;

use thiserror::Error;

use crate::case::cases;
use crate::line::Via;
use crate::run::Outcome;
use crate::target::{Need, Target};

/// Cases that must fail, each with the reason.
///
/// As text: one line each, the name of the case, a tab, the reason. `socket:` or `channel:` before
/// the name limits the line to that communicator, and `unprivileged:` before that to a server which
/// may not give files to others. Empty lines and lines that begin with `#` are comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    reasons: BTreeMap<String, String>,
}

/// A line is none of a list of differences.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {why}")]
pub struct ParseDifferencesError {
    line: usize,
    why: &'static str,
}

impl FromStr for Differences {
    type Err = ParseDifferencesError;

    fn from_str(text: &str) -> Result<Differences, ParseDifferencesError> {
        let mut reasons = BTreeMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let wrong = |why| ParseDifferencesError { line, why };
            let (name, reason) = text.split_once('\t').ok_or(wrong("no tab"))?;
            if reason.trim().is_empty() {
                return Err(wrong("no reason"));
            }
            let before = reasons.insert(name.to_owned(), reason.trim().to_owned());
            if before.is_some() {
                return Err(wrong("the case is already listed"));
            }
        }
        Ok(Differences { reasons })
    }
}

/// What limits a line to servers without [`Need::Privileged`].
const UNPRIVILEGED: &str = "unprivileged:";

impl Differences {
    /// Those that `target` must show.
    #[must_use]
    pub fn of(self, target: &dyn Target) -> Differences {
        let reasons = self.reasons.into_iter().filter_map(|(name, reason)| {
            match name.strip_prefix(UNPRIVILEGED) {
                Some(_) if target.offers(Need::Privileged) => None,
                Some(name) => Some((name.to_owned(), reason)),
                None => Some((name, reason)),
            }
        });
        Differences {
            reasons: reasons.collect(),
        }
    }

    /// The reason why a case must fail over a communicator.
    #[must_use]
    pub fn reason(&self, case: &str, via: Via) -> Option<&str> {
        self.reasons
            .get(&format!("{via}:{case}"))
            .or_else(|| self.reasons.get(case))
            .map(String::as_str)
    }

    /// Turns a failure that is listed into a success, and a success that is listed into a failure.
    ///
    /// # Errors
    /// What is wrong: the failure that is not listed, or that the entry is stale.
    pub fn judge(&self, case: &str, via: Via, outcome: Outcome) -> Result<Outcome, String> {
        match (outcome, self.reason(case, via)) {
            (Outcome::Failed(why), None) => Err(why),
            (Outcome::Failed(_), Some(_)) => Ok(Outcome::Passed),
            (Outcome::Passed, Some(reason)) => {
                Err(format!("listed as a difference ({reason}), but it passes"))
            }
            (outcome, _) => Ok(outcome),
        }
    }

    /// Listed names that no case has.
    pub fn strangers(&self) -> impl Iterator<Item = &str> {
        let cases = cases();
        self.reasons.keys().map(String::as_str).filter(move |name| {
            let (via, bare) = match name.split_once(':') {
                Some((via, bare)) => (Some(via), bare),
                None => (None, *name),
            };
            !cases.iter().any(|case| {
                let runs = |via: &str| case.vias().iter().any(|own| own.to_string() == via);
                case.name() == bare && via.is_none_or(runs)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Differences, Need, Outcome, Via};
    use crate::target::Spawned;

    fn failed() -> Outcome {
        Outcome::Failed("no".to_owned())
    }

    #[test]
    fn a_listed_case_must_fail_and_any_other_must_not() {
        let known: Differences = "# gVisor\n\nwalk.bound\tbecause\n".parse().unwrap();
        let judge = |case: &str, outcome| known.judge(case, Via::Socket, outcome);
        assert_eq!(judge("walk.bound", failed()), Ok(Outcome::Passed));
        assert!(judge("walk.bound", Outcome::Passed).is_err());
        assert_eq!(judge("walk.other", failed()), Err("no".to_owned()));
        assert_eq!(judge("walk.other", Outcome::Passed), Ok(Outcome::Passed));
        let skipped = Outcome::Skipped("there is none".to_owned());
        assert_eq!(judge("walk.bound", skipped.clone()), Ok(skipped));
    }

    #[test]
    fn a_line_can_be_about_one_communicator() {
        let known: Differences = "socket:walk.bound\tbecause".parse().unwrap();
        assert_eq!(known.reason("walk.bound", Via::Socket), Some("because"));
        assert_eq!(known.reason("walk.bound", Via::Channel), None);
    }

    #[test]
    fn a_line_can_be_about_servers_without_privileges() {
        let known: Differences = "unprivileged:socket:walk.bound\tbecause".parse().unwrap();
        let reason = |target: Spawned| {
            let known = known.clone().of(&target);
            known.reason("walk.bound", Via::Socket).is_some()
        };
        let target = || Spawned::new("any", Vec::new());
        assert!(reason(target()));
        assert!(!reason(target().offering(&[Need::Privileged])));
    }

    #[test]
    fn a_list_is_refused_with_the_number_of_the_bad_line() {
        for (text, message) in [
            ("a.b\tc\nwalk.bound because", "line 2: no tab"),
            ("walk.bound\t ", "line 1: no reason"),
            ("a.b\tc\na.b\td", "line 2: the case is already listed"),
        ] {
            let error = text.parse::<Differences>().unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn names_without_a_case_are_found() {
        let known: Differences = "walk.no_such\tbecause\nsocket:walk.stops_at_a_missing_name\tx"
            .parse()
            .unwrap();
        assert_eq!(known.strangers().collect::<Vec<_>>(), ["walk.no_such"]);
    }
}
