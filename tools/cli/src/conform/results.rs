//! How the cases ended, and how that is shown.

use std::collections::BTreeMap;

use lisafs_conformance::{Differences, Outcome, Via};
use serde_json::{Map, Value};

use crate::console::Console;
use crate::failure::Stop;
use crate::json::Object;

/// How cases ended.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: u64,
    known: u64,
    failed: u64,
    skipped: u64,
}

/// How a case ended, beside the list of those that have to fail.
pub(super) enum Judged {
    Passed,
    Known(String),
    Failed(String),
    Skipped(String),
}

/// What came of all cases.
#[derive(Default)]
pub(super) struct Results {
    /// Of each area, over the socket and over a channel.
    areas: BTreeMap<String, [Tally; 2]>,
    /// How often each reason to skip a case was given.
    skipped: BTreeMap<String, u64>,
    /// How often each reason of the list was one for a case to fail.
    known: BTreeMap<String, u64>,
    failures: Vec<String>,
}

pub(super) fn judge(known: &Differences, case: &str, via: Via, outcome: Outcome) -> Judged {
    match (known.judge(case, via, outcome.clone()), outcome) {
        (Err(why), _) => Judged::Failed(why),
        (Ok(_), Outcome::Failed(_)) => {
            Judged::Known(known.reason(case, via).unwrap_or_default().to_owned())
        }
        (Ok(Outcome::Skipped(why)), _) => Judged::Skipped(why),
        (Ok(_), _) => Judged::Passed,
    }
}

pub(super) fn object(case: &str, via: Via, judged: &Judged) -> Object {
    let (outcome, why) = match judged {
        Judged::Passed => ("passed", None),
        Judged::Known(why) => ("known", Some(why)),
        Judged::Failed(why) => ("failed", Some(why)),
        Judged::Skipped(why) => ("skipped", Some(why)),
    };
    let object = Object::new()
        .set("case", case)
        .set("communicator", via.to_string())
        .set("outcome", outcome);
    match why {
        Some(why) => object.set("why", why.as_str()),
        None => object,
    }
}

impl Tally {
    fn plus(self, other: Tally) -> Tally {
        Tally {
            passed: self.passed + other.passed,
            known: self.known + other.known,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }

    fn object(self) -> Object {
        Object::new()
            .set("passed", self.passed)
            .set("known", self.known)
            .set("failed", self.failed)
            .set("skipped", self.skipped)
    }

    /// The columns of a table, in which nothing is a dot.
    fn columns(self, known: bool) -> String {
        let cell = |count: u64| match count {
            0 => ".".to_owned(),
            count => count.to_string(),
        };
        let known = match known {
            true => format!(" {:>6}", cell(self.known)),
            false => String::new(),
        };
        format!(
            "{:>8}{known} {:>7} {:>7}",
            cell(self.passed),
            cell(self.failed),
            cell(self.skipped)
        )
    }
}

impl Results {
    pub(super) fn add(&mut self, case: &str, via: Via, judged: Judged) {
        let area = case.split('.').next().unwrap_or(case).to_owned();
        let [socket, channel] = self.areas.entry(area).or_default();
        let tally = match via {
            Via::Socket => socket,
            Via::Channel => channel,
        };
        match judged {
            Judged::Passed => tally.passed += 1,
            Judged::Known(why) => {
                tally.known += 1;
                *self.known.entry(why).or_default() += 1;
            }
            Judged::Failed(why) => {
                tally.failed += 1;
                self.failures.push(format!("{case} over the {via}: {why}"));
            }
            Judged::Skipped(why) => {
                tally.skipped += 1;
                *self.skipped.entry(why).or_default() += 1;
            }
        }
    }

    fn total(&self) -> [Tally; 2] {
        let none = [Tally::default(); 2];
        let areas = self.areas.values();
        areas.fold(none, |[socket, channel], [over_socket, over_channel]| {
            [socket.plus(*over_socket), channel.plus(*over_channel)]
        })
    }

    /// What the list says that is not about a case.
    pub(super) fn add_strangers(&mut self, known: &Differences) {
        let strangers = known.strangers();
        let told = strangers.map(|name| format!("{name}: no such case"));
        self.failures.extend(told);
    }

    /// Whether the server did what it must, beside what is listed.
    pub(super) fn is_good(&self) -> bool {
        self.failures.is_empty()
    }

    /// How many cases ended.
    pub(super) fn count(&self) -> u64 {
        let [socket, channel] = self.total();
        let Tally {
            passed,
            known,
            failed,
            skipped,
        } = socket.plus(channel);
        passed + known + failed + skipped
    }

    pub(super) fn object(&self) -> Object {
        let both = |[socket, channel]: [Tally; 2]| {
            let object = Object::new().set("socket", socket.object());
            Value::from(object.set("channel", channel.object()))
        };
        let areas = self
            .areas
            .iter()
            .map(|(area, tallies)| (area.clone(), both(*tallies)));
        let areas: Map<String, Value> = areas.collect();
        let [socket, channel] = self.total();
        socket.plus(channel).object().set("areas", areas)
    }

    pub(super) fn print(&self, known: bool, console: &mut Console) -> Result<(), Stop> {
        let header = match known {
            true => "  passed  known  failed skipped",
            false => "  passed  failed skipped",
        };
        let width = header.len();
        console.line(&format!(
            "{:14}{:>width$}   {:>width$}",
            "", "over the socket", "over a channel"
        ))?;
        console.line(&format!("{:14}{header}   {header}", "area"))?;
        let total = ("total".to_owned(), self.total());
        let areas = self
            .areas
            .iter()
            .map(|(area, tallies)| (area.clone(), *tallies));
        for (area, [socket, channel]) in areas.chain([total]) {
            let (socket, channel) = (socket.columns(known), channel.columns(known));
            console.line(&format!("{area:14}{socket}   {channel}"))?;
        }
        for (what, reasons) in [("skipped", &self.skipped), ("known to differ", &self.known)] {
            if !reasons.is_empty() {
                console.line(&format!("\n{what}:"))?;
            }
            for (why, count) in reasons {
                console.line(&format!("{count:>5}  {why}"))?;
            }
        }
        if !self.failures.is_empty() {
            console.line("\nfailed:")?;
        }
        for failure in &self.failures {
            console.line(&format!("  {failure}"))?;
        }
        Ok(())
    }
}
