//! What came of it all.

mod cells;
mod json;
mod plot;
mod table;
mod text;

use std::time::Duration;

use crate::args::Args;
use crate::cost::Memory;
use crate::floor;
use crate::goclient;
use crate::idle::Idle;
use crate::pace::Limit;
use crate::run::{Load, Outcome};
use crate::target::Plan;
use crate::work::Work;

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) load: Load,
    pub(crate) busy: u32,
    pub(crate) floor: Vec<floor::Row>,
    pub(crate) measured: Vec<Measured>,
    pub(crate) subjects: Vec<Subject>,
    /// What was not measured, and why.
    pub(crate) refused: Vec<String>,
}

/// One work on all servers, in the order of the subjects; None where it was refused.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) work: Work,
    pub(crate) outcomes: Vec<Option<Outcome>>,
}

/// A server, and what is known of it beside latencies.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) plan: Plan,
    /// From its start to its answer to the first Mount, if it was started for this.
    pub(crate) start: Option<Duration>,
    pub(crate) memory: Option<Memory>,
    pub(crate) idle: Option<Idle>,
    pub(crate) go: Vec<goclient::Row>,
}

/// How much longer another server takes than the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) of_p50: f64,
    /// The median of those of the slices, which one that was disturbed does not move.
    pub(crate) median: f64,
    /// Of any slice.
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Report {
    pub(crate) fn new(args: &Args, load: Load) -> Report {
        Report {
            load,
            busy: args.busy,
            floor: Vec::new(),
            measured: Vec::new(),
            subjects: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn label(&self, subject: usize) -> &str {
        let subject = self.subjects.get(subject);
        subject.map_or("", |subject| &subject.plan.label)
    }

    /// How it was measured, in words.
    fn how(&self) -> String {
        let limit = match self.load.limit {
            Limit::Time(time) => format!("{} s", time.as_secs_f64()),
            Limit::Count(count) => format!("{count} times"),
        };
        let pace = match self.load.rate {
            Some(rate) => format!("open loop of {rate}/s"),
            None => "closed loop".to_owned(),
        };
        let busy = match self.busy {
            0 => String::new(),
            busy => format!(", {busy} busy loops per CPU"),
        };
        format!(
            "{pace}, {} thread(s), {limit} in {} slices{busy}",
            self.load.threads, self.load.slices,
        )
    }
}

impl Measured {
    /// Of the outcome with that number to the first.
    pub(crate) fn ratio(&self, subject: usize) -> Option<Ratio> {
        let first = self.outcomes.first()?.as_ref()?;
        let other = self.outcomes.get(subject)?.as_ref()?;
        let of_p50 = quotient(other.seen.overall().p50(), first.seen.overall().p50())?;
        let slices = other.medians.iter().zip(&first.medians);
        let slices = slices.filter_map(|(other, first)| quotient(*other, *first));
        let mut slices: Vec<_> = slices.collect();
        slices.sort_unstable_by(f64::total_cmp);
        let (least, most) = (slices.first().copied(), slices.last().copied());
        Some(Ratio {
            of_p50,
            median: median(&slices).unwrap_or(of_p50),
            least: least.map_or(of_p50, |least| least.min(of_p50)),
            most: most.map_or(of_p50, |most| most.max(of_p50)),
        })
    }
}

/// A number for people: 53 bits are enough for them.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// Of numbers in their order: the one in the middle, or between the two there.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

fn quotient(a: u64, b: u64) -> Option<f64> {
    (b > 0).then(|| float(a) / float(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }
}
