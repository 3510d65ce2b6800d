//! Numbers for people, and the columns that several tables have.

use std::time::Duration;

use super::table::Table;
use super::{Measured, float};
use crate::cost::Waits;
use crate::sample::{PERCENTILES, Sample};

/// What is not known.
pub(super) const UNKNOWN: &str = "–";

pub(super) fn head<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let names = PERCENTILES.iter().map(|(_, name)| *name);
    let first = first.iter().copied().chain(["count"]);
    first
        .chain(names)
        .chain(["max"])
        .chain(more.iter().copied())
        .collect()
}

pub(super) fn percentiles(sample: &Sample) -> Vec<String> {
    let mut cells = vec![sample.count().to_string()];
    let quantiles = PERCENTILES.iter().map(|(quantile, _)| sample.at(*quantile));
    cells.extend(quantiles.chain([sample.max()]).map(microseconds));
    cells
}

pub(super) fn waits_table() -> Table {
    let names = Waits::default().events().map(|(name, _)| name);
    let names = names.map(|name| name.replace('_', " "));
    let mut head = vec!["operation", "server"];
    head.extend(names.iter().map(String::as_str));
    Table::new(2, &head)
}

pub(super) fn waits_row(names: [String; 2], waits: Waits, count: u64) -> Vec<String> {
    let numbers = waits.events().map(|(_, number)| by_number(number, count));
    names.into_iter().chain(numbers).collect()
}

/// The least, the median and the most of what slices have seen, in nanoseconds.
pub(super) fn spread(slices: &[u64]) -> String {
    let mut sorted = slices.to_vec();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2);
    let parts = [sorted.first(), middle, sorted.last()];
    parts
        .map(|took| took.map_or(UNKNOWN.to_owned(), |took| microseconds(*took)))
        .join(" / ")
}

/// The ratio of the p50, the median of those of the slices, and how far they are apart.
pub(super) fn ratio(measured: &Measured, subject: usize) -> [String; 3] {
    match measured.ratio(subject) {
        Some(_) if subject == 0 => ["1".to_owned(), "1".to_owned(), String::new()],
        Some(ratio) => [
            format!("{:.2}", ratio.of_p50),
            format!("{:.2}", ratio.median),
            format!("{:.2}–{:.2}", ratio.least, ratio.most),
        ],
        None => [UNKNOWN; 3].map(str::to_owned),
    }
}

/// A part of `time`, in µs.
pub(super) fn each(time: Duration, count: u64) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e6 / float(count.max(1)))
}

/// So many for each; small numbers need more digits, because few are what is hoped for.
pub(super) fn by_number(number: u64, count: u64) -> String {
    match float(number) / float(count.max(1)) {
        _ if number == 0 => "0".to_owned(),
        share if share < 0.1 => format!("{share:.4}"),
        share => format!("{share:.2}"),
    }
}

pub(super) fn microseconds(nanoseconds: u64) -> String {
    match nanoseconds {
        0..=99_999 => format!("{:.2}", float(nanoseconds) / 1e3),
        _ => format!("{:.0}", float(nanoseconds) / 1e3),
    }
}
