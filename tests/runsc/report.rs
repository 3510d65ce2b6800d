//! Tables and JSON of what `e2e` has measured.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::configuration::{Configuration, MODES};
use crate::metadata::Workload;
use crate::processes::Usage;
use crate::{Timed, Turn};

/// Below this, stock is as good as directfs: there is no gap worth the name.
const GAP: f64 = 1.2;

/// The middle one, or the mean of the two; NaN of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    match (values.get(upper), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(&value), 1) => value,
        (Some(&value), _) => (value + values[upper - 1]) / 2.0,
    }
}

/// What there is to compare, by mode.
struct Mode<'a> {
    configurations: &'a [Configuration],
    turns: &'a [Turn],
    mode: &'static str,
}

impl Mode<'_> {
    /// The configurations of this mode, by number.
    fn members(&self) -> impl Iterator<Item = (usize, &Configuration)> {
        let all = self.configurations.iter().enumerate();
        all.filter(|(_, configuration)| configuration.mode == self.mode)
    }

    fn find(&self, kind: &str) -> Option<usize> {
        let mut members = self.members();
        members
            .find(|(_, configuration)| configuration.kind == kind)
            .map(|(number, _)| number)
    }

    /// The value of each round.
    fn values(&self, number: usize, value: impl Fn(&Turn) -> f64) -> Vec<f64> {
        let turns = self.turns.iter();
        turns
            .filter(|turn| turn.configuration == number)
            .map(value)
            .collect()
    }

    fn median(&self, number: usize, value: impl Fn(&Turn) -> f64) -> f64 {
        median(self.values(number, value))
    }

    /// The median of the ratios in each round, in which both met the same machine.
    fn ratio(&self, one: Option<usize>, other: Option<usize>, value: impl Fn(&Turn) -> f64) -> f64 {
        let (Some(one), Some(other)) = (one, other) else {
            return f64::NAN;
        };
        let pairs = self
            .values(one, &value)
            .into_iter()
            .zip(self.values(other, &value));
        median(pairs.map(|(one, other)| one / other).collect())
    }
}

fn number(value: f64, digits: usize) -> String {
    if value.is_finite() {
        format!("{value:.digits$}")
    } else {
        "-".to_owned()
    }
}

/// Everything as Markdown.
pub(crate) fn tables(
    configurations: &[Configuration],
    workloads: &[Workload],
    turns: &[Turn],
) -> String {
    let mut text = String::new();
    for mode in MODES {
        let mode = Mode {
            configurations,
            turns,
            mode,
        };
        if mode.members().next().is_some() {
            times(&mut text, &mode, workloads);
            resources(&mut text, &mode);
        }
    }
    text
}

fn row(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn head(text: &mut String, cells: &[String]) {
    row(text, cells);
    let ruled: Vec<String> = (0..cells.len())
        .map(|column| if column == 0 { "---" } else { "---:" }.to_owned())
        .collect();
    row(text, &ruled);
}

fn times(text: &mut String, mode: &Mode<'_>, workloads: &[Workload]) {
    let (directfs, stock) = (mode.find("directfs"), mode.find("stock"));
    let mut cells = vec![format!("{}, seconds", mode.mode)];
    cells.extend(
        mode.members()
            .map(|(_, configuration)| configuration.kind.clone()),
    );
    cells.push("stock/directfs".to_owned());
    let ours = || {
        let members = mode.members();
        members.filter(|(number, _)| Some(*number) != directfs && Some(*number) != stock)
    };
    for (_, configuration) in ours() {
        let kind = &configuration.kind;
        cells.extend([
            format!("{kind}/stock"),
            format!("{kind}/directfs"),
            "gap closed".to_owned(),
        ]);
    }
    head(text, &cells);
    for (index, workload) in workloads.iter().enumerate() {
        let wall = |turn: &Turn| turn.times[index].wall.as_secs_f64();
        let mut cells = vec![workload.name.to_owned()];
        cells.extend(
            mode.members()
                .map(|(member, _)| number(mode.median(member, wall), 3)),
        );
        let gap = mode.ratio(stock, directfs, wall);
        cells.push(number(gap, 2));
        for (member, _) in ours() {
            cells.push(number(mode.ratio(Some(member), stock, wall), 2));
            cells.push(number(mode.ratio(Some(member), directfs, wall), 2));
            let closed = match (stock, directfs) {
                (Some(stock), Some(directfs)) if gap >= GAP => {
                    let [fast, slow, ours] =
                        [directfs, stock, member].map(|member| mode.median(member, wall));
                    format!("{:.0} %", (slow - ours) / (slow - fast) * 100.0)
                }
                _ => "-".to_owned(),
            };
            cells.push(closed);
        }
        row(text, &cells);
    }
    text.push('\n');
}

fn resources(text: &mut String, mode: &Mode<'_>) {
    let heads = [
        "start `do true`, ms",
        "sandbox CPU, s",
        "gofer CPU, s",
        "sandbox peak RSS, MiB",
        "gofer peak RSS, MiB",
    ];
    let mut cells = vec![format!("{}, all workloads", mode.mode)];
    cells.extend(heads.map(str::to_owned));
    head(text, &cells);
    #[allow(clippy::cast_precision_loss)] // of kibibytes
    let mebibytes = |usage: &Usage| usage.peak_rss as f64 / 1024.0;
    for (member, configuration) in mode.members() {
        row(
            text,
            &[
                configuration.kind.clone(),
                number(
                    mode.median(member, |turn| turn.start.as_secs_f64() * 1e3),
                    0,
                ),
                number(
                    mode.median(member, |turn| turn.sandbox.cpu.as_secs_f64()),
                    2,
                ),
                number(mode.median(member, |turn| turn.gofer.cpu.as_secs_f64()), 2),
                number(mode.median(member, |turn| mebibytes(&turn.sandbox)), 1),
                number(mode.median(member, |turn| mebibytes(&turn.gofer)), 1),
            ],
        );
    }
    text.push('\n');
}

/// Every measurement: an element for each turn.
pub(crate) fn json(
    configurations: &[Configuration],
    workloads: &[Workload],
    turns: &[Turn],
) -> Value {
    let seconds = |duration: Duration| json!(duration.as_secs_f64());
    let usage = |usage: &Usage| json!({"cpu": seconds(usage.cpu), "peak_rss_kib": usage.peak_rss});
    let timed = |(workload, timed): (&Workload, &Timed)| {
        json!({
            "workload": workload.name,
            "wall": seconds(timed.wall),
            "sandbox_cpu": seconds(timed.sandbox_cpu),
            "gofer_cpu": seconds(timed.gofer_cpu),
        })
    };
    let turn = |turn: &Turn| {
        json!({
            "configuration": configurations[turn.configuration].name,
            "round": turn.round,
            "do_true": seconds(turn.start),
            "sandbox": usage(&turn.sandbox),
            "gofer": usage(&turn.gofer),
            "times": workloads.iter().zip(&turn.times).map(timed).collect::<Vec<_>>(),
        })
    };
    turns.iter().map(turn).collect()
}
