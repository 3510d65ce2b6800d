//! The report for people.

use std::io::Write;

use super::cells::{
    UNKNOWN, by_number, each, head, microseconds, percentiles, ratio, spread, waits_row,
    waits_table,
};
use super::table::Table;
use super::{Measured, Report, float};
use crate::cost::Usage;
use crate::failure::Stop;
use crate::floor;
use crate::goclient;
use crate::run::Outcome;
use crate::sample::Sample;

impl Report {
    /// Prints it, as Markdown, in tables of 110 columns at the most unless a label is long; that of
    /// gVisor's client has 135.
    pub(crate) fn print(&self, out: &mut impl Write) -> Result<(), Stop> {
        writeln!(out, "{}", self.how())?;
        let tables = [
            ("Servers; memory in MiB", self.servers()),
            ("The floor, µs", self.floor()),
            ("Latency, µs", self.latency()),
            ("Latency compared, µs", self.compared()),
            ("Parts of the mixes: latency, µs", self.parts()),
            ("Cost of an operation; CPU time in µs", self.cost()),
            (
                "Context switches of an operation, voluntary + involuntary",
                self.switches(),
            ),
            ("Waits of the client for an operation", self.waits()),
            ("Waits of the server for an operation", self.server_waits()),
            (
                "gVisor's client: latency and CPU time, µs; p50 of slices: least / median / most",
                self.go(),
            ),
            (
                "gVisor's client: waits of the server for an operation",
                self.go_waits(),
            ),
            ("Idle; memory in MiB", self.idle()),
        ];
        writeln!(out)?;
        for subject in &self.subjects {
            writeln!(out, "- {}: {}", subject.plan.label, subject.plan.origin)?;
        }
        for (title, table) in tables {
            if !table.is_empty() {
                write!(out, "\n## {title}\n\n{}", table.text())?;
            }
        }
        Ok(out.flush()?)
    }

    fn servers(&self) -> Table {
        let head = [
            "server",
            "CPUs",
            "client waits",
            "channels",
            "start, ms",
            "peak RSS",
            "anonymous",
            "threads",
        ];
        let mut table = Table::new(3, &head);
        for subject in &self.subjects {
            let memory = |kind: fn(&crate::cost::Memory) -> u64| {
                let kib = subject.memory.as_ref().map(kind);
                kib.map_or(UNKNOWN.to_owned(), |kib| {
                    format!("{:.1}", float(kib) / 1024.0)
                })
            };
            table.row(vec![
                subject.plan.label.clone(),
                subject.plan.placement.to_string(),
                subject.plan.wait.to_string(),
                subject.plan.channels.to_string(),
                subject.start.map_or(UNKNOWN.to_owned(), |start| {
                    format!("{:.1}", start.as_secs_f64() * 1e3)
                }),
                memory(|memory| memory.peak),
                memory(|memory| memory.anonymous),
                subject
                    .memory
                    .map_or(UNKNOWN.to_owned(), |memory| memory.threads.to_string()),
            ]);
        }
        table
    }

    fn floor(&self) -> Table {
        let mut table = Table::new(1, &head(&["what"], &[]));
        for row in &self.floor {
            let mut cells = vec![match row.op {
                Some(op) => format!("{op}: {}", row.name),
                None => row.name.clone(),
            }];
            cells.extend(percentiles(&row.sample));
            table.row(cells);
        }
        table
    }

    fn latency(&self) -> Table {
        let mut table = Table::new(2, &head(&["operation", "server"], &[]));
        for (measured, subject, outcome) in self.outcomes() {
            let mut cells = vec![measured.work.to_string(), self.label(subject).to_owned()];
            cells.extend(percentiles(&outcome.seen.overall()));
            table.row(cells);
        }
        table
    }

    /// The latency from when a request was sent, that of the calls below, and the other servers'.
    fn compared(&self) -> Table {
        let mut head = vec!["operation", "server", "p50"];
        if self.load.rate.is_some() {
            head.extend(["service p50", "service p99", "unsent"]);
        }
        if !self.floor.is_empty() {
            head.extend(["calls", "beyond"]);
        }
        if self.subjects.len() > 1 {
            head.extend(["ratio", "of slices", "least–most"]);
        }
        let mut table = Table::new(2, &head);
        if head.len() == 3 {
            return table;
        }
        for (measured, subject, outcome) in self.outcomes() {
            let overall = outcome.seen.overall();
            let mut cells = vec![
                measured.work.to_string(),
                self.label(subject).to_owned(),
                microseconds(overall.p50()),
            ];
            if let Some(service) = &outcome.seen.service {
                cells.extend([microseconds(service.p50()), microseconds(service.at(0.99))]);
                cells.push(outcome.seen.unsent.to_string());
            }
            if !self.floor.is_empty() {
                cells.extend(self.beyond(measured, &overall));
            }
            if self.subjects.len() > 1 {
                cells.extend(ratio(measured, subject));
            }
            table.row(cells);
        }
        table
    }

    /// What was measured, with the number of the server.
    fn outcomes(&self) -> impl Iterator<Item = (&Measured, usize, &Outcome)> {
        self.measured.iter().flat_map(|measured| {
            let outcomes = measured.outcomes.iter().enumerate();
            outcomes.filter_map(move |(subject, outcome)| {
                outcome.as_ref().map(|outcome| (measured, subject, outcome))
            })
        })
    }

    /// The calls below an operation, and what it takes beyond them.
    fn beyond(&self, measured: &Measured, overall: &Sample) -> [String; 2] {
        match floor::below(&self.floor, measured.work) {
            Some(row) => {
                let calls = row.sample.p50();
                let beyond = (float(overall.p50()) - float(calls)) / 1e3;
                [microseconds(calls), format!("{beyond:.2}")]
            }
            None => [UNKNOWN.to_owned(), UNKNOWN.to_owned()],
        }
    }

    fn parts(&self) -> Table {
        let mut table = Table::new(3, &head(&["mix", "part", "server"], &[]));
        for measured in &self.measured {
            for (part, name) in measured.work.parts().into_iter().enumerate() {
                for (subject, outcome) in measured.outcomes.iter().enumerate() {
                    let sample = outcome
                        .as_ref()
                        .and_then(|outcome| outcome.seen.latency.get(part))
                        .filter(|sample| sample.count() > 0);
                    let Some(sample) = sample else { continue };
                    let mut cells = vec![
                        measured.work.to_string(),
                        name.to_owned(),
                        self.label(subject).to_owned(),
                    ];
                    cells.extend(percentiles(sample));
                    table.row(cells);
                }
            }
        }
        table
    }

    fn cost(&self) -> Table {
        let head = [
            "operation",
            "server",
            "requests",
            "per second",
            "client CPU",
            "server CPU",
            "both",
        ];
        self.of_outcomes(&head, |measured, outcome| {
            let requests = measured.work.requests();
            let count = outcome.seen.count();
            let rate = float(count) / outcome.elapsed.as_secs_f64().max(1e-9);
            let mut cells = vec![
                requests.map_or(UNKNOWN.to_owned(), |requests| requests.to_string()),
                format!("{rate:.0}"),
                each(outcome.client.cpu, count),
            ];
            cells.extend(match outcome.server {
                Some(server) => [
                    each(server.cpu, count),
                    each(server.cpu + outcome.client.cpu, count),
                ],
                None => [UNKNOWN.to_owned(), UNKNOWN.to_owned()],
            });
            cells
        })
    }

    fn switches(&self) -> Table {
        let head = ["operation", "server", "of the client", "of the server"];
        self.of_outcomes(&head, |_, outcome| {
            let count = outcome.seen.count();
            let switches = |usage: Usage| {
                let (gave, lost) = (usage.voluntary, usage.involuntary);
                format!("{} + {}", by_number(gave, count), by_number(lost, count))
            };
            let server = outcome.server.map_or(UNKNOWN.to_owned(), switches);
            vec![switches(outcome.client), server]
        })
    }

    fn waits(&self) -> Table {
        let mut table = waits_table();
        for (measured, subject, outcome) in self.outcomes() {
            let names = [measured.work.to_string(), self.label(subject).to_owned()];
            table.row(waits_row(names, outcome.waits, outcome.seen.count()));
        }
        table
    }

    /// Of servers that say it.
    fn server_waits(&self) -> Table {
        let mut table = waits_table();
        for (measured, subject, outcome) in self.outcomes() {
            let Some(waits) = outcome.server_waits else {
                continue;
            };
            let names = [measured.work.to_string(), self.label(subject).to_owned()];
            table.row(waits_row(names, waits, outcome.seen.count()));
        }
        table
    }

    /// A table with a row of `cells` for each operation and server, behind their names.
    fn of_outcomes(
        &self,
        head: &[&str],
        cells: impl Fn(&Measured, &Outcome) -> Vec<String>,
    ) -> Table {
        let mut table = Table::new(2, head);
        for (measured, subject, outcome) in self.outcomes() {
            let mut row = vec![measured.work.to_string(), self.label(subject).to_owned()];
            row.extend(cells(measured, outcome));
            table.row(row);
        }
        table
    }

    /// What gVisor's client has seen of each server: by operation, in the order in which it
    /// measures them.
    fn go_rows(&self) -> Vec<(&str, &goclient::Row)> {
        let rows = self.subjects.iter().flat_map(|subject| {
            let label = subject.plan.label.as_str();
            subject.go.iter().map(move |row| (label, row))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|(_, row)| goclient::OPS.iter().position(|op| *op == row.op));
        rows
    }

    fn go(&self) -> Table {
        let more = ["p50 of slices", "client", "server"];
        let mut table = Table::new(2, &head(&["operation", "server"], &more));
        for (label, row) in self.go_rows() {
            let mut cells = vec![row.op.to_owned(), label.to_owned()];
            cells.extend(percentiles(&row.sample));
            let server = row.server_cpu_each();
            cells.extend([
                spread(&row.medians),
                microseconds(row.client_cpu_each()),
                server.map_or(UNKNOWN.to_owned(), microseconds),
            ]);
            table.row(cells);
        }
        table
    }

    fn go_waits(&self) -> Table {
        let mut table = waits_table();
        for (label, row) in self.go_rows() {
            if let Some(waits) = row.server_waits {
                let names = [row.op.to_owned(), label.to_owned()];
                table.row(waits_row(names, waits, row.runs));
            }
        }
        table
    }

    fn idle(&self) -> Table {
        let head = [
            "server",
            "connections",
            "channels",
            "seconds",
            "wake-ups",
            "CPU, µs",
            "peak RSS",
            "anonymous",
            "threads",
        ];
        let mut table = Table::new(1, &head);
        for subject in &self.subjects {
            let Some(idle) = subject.idle else { continue };
            let usage = |show: fn(Usage) -> String| idle.server.map_or(UNKNOWN.to_owned(), show);
            let memory = |kind: fn(crate::cost::Memory) -> String| {
                idle.memory.map_or(UNKNOWN.to_owned(), kind)
            };
            table.row(vec![
                subject.plan.label.clone(),
                idle.connections.to_string(),
                idle.channels.to_string(),
                format!("{:.1}", idle.time.as_secs_f64()),
                usage(|usage| (usage.voluntary + usage.involuntary).to_string()),
                usage(|usage| each(usage.cpu, 1)),
                memory(|memory| format!("{:.1}", float(memory.peak) / 1024.0)),
                memory(|memory| format!("{:.1}", float(memory.anonymous) / 1024.0)),
                memory(|memory| memory.threads.to_string()),
            ]);
        }
        table
    }
}
