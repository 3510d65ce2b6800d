//! The difference between two moments, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::sample::{Sample, quantile};
use crate::json::Object;
use crate::text::escaped;

/// What a gofer did between two moments.
#[derive(Debug)]
pub(super) struct Table {
    elapsed: f64,
    /// The most frequent first.
    rows: Vec<Row>,
    transports: Vec<(String, f64)>,
    errors: Vec<(String, f64)>,
    waits: Vec<(String, f64)>,
    read: f64,
    written: f64,
    /// What is held now.
    held: Vec<(&'static str, f64)>,
}

/// The requests of one kind.
#[derive(Debug)]
struct Row {
    message: String,
    rate: f64,
    /// In seconds.
    p50: Option<f64>,
    p99: Option<f64>,
}

/// What clients hold, as the gofer calls it.
const HELD: [&str; 5] = ["connections", "channels", "ids", "objects", "descriptors"];

impl Table {
    /// What happened in `elapsed` seconds. A gofer that was started anew in between has begun at 0.
    pub(super) fn new(before: &Sample, after: &Sample, elapsed: f64) -> Table {
        let anew = before.is_ahead_of(after);
        let nothing = Sample::default();
        let before = if anew { &nothing } else { before };
        let rates = |before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>| {
            let mut rates: Vec<(String, f64)> = after
                .iter()
                .map(|(key, now)| {
                    let then = before.get(key).copied().unwrap_or(0.0);
                    (key.clone(), (now - then) / elapsed)
                })
                .filter(|(_, rate)| *rate > 0.0)
                .collect();
            rates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
            rates
        };
        let plain = |sample: &Sample, name: &str| sample.plain.get(name).copied().unwrap_or(0.0);
        let bytes = |name| (plain(after, name) - plain(before, name)) / elapsed;
        let rows = rates(&before.requests, &after.requests).into_iter();
        Table {
            elapsed,
            rows: rows
                .map(|(message, rate)| {
                    let buckets = |sample: &Sample| {
                        let buckets = sample.latency.get(&message);
                        buckets.cloned().unwrap_or_default()
                    };
                    let (then, now) = (buckets(before), buckets(after));
                    Row {
                        p50: quantile(&then, &now, 0.5),
                        p99: quantile(&then, &now, 0.99),
                        message,
                        rate,
                    }
                })
                .collect(),
            transports: rates(&before.transports, &after.transports),
            errors: rates(&before.errors, &after.errors),
            waits: rates(&before.waits, &after.waits),
            read: bytes("read_bytes_total"),
            written: bytes("written_bytes_total"),
            held: HELD.map(|name| (name, plain(after, name))).to_vec(),
        }
    }

    /// For a program.
    pub(super) fn object(&self) -> Object {
        let rates = |rates: &[(String, f64)]| -> Value {
            let rates = rates.iter().map(|(key, rate)| (key.clone(), json!(rate)));
            Value::Object(rates.collect())
        };
        let rows = self.rows.iter().map(|row| {
            json!({
                "message": row.message,
                "per_second": row.rate,
                "p50_s": row.p50,
                "p99_s": row.p99,
            })
        });
        let held = self.held.iter().map(|(name, count)| (*name, whole(*count)));
        let object = Object::new()
            .set("elapsed_s", self.elapsed)
            .set("requests", rows.collect::<Vec<_>>())
            .set("transports_per_second", rates(&self.transports))
            .set("errors_per_second", rates(&self.errors))
            .set("waits_per_second", rates(&self.waits))
            .set("read_bytes_per_second", self.read)
            .set("written_bytes_per_second", self.written);
        held.fold(object, |object, (name, count)| object.set(name, count))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sum of nothing is -0.
        let total = self.rows.iter().fold(0.0, |total, row| total + row.rate);
        write!(f, "{total:.0} requests/s")?;
        listed(f, " over ", &self.transports)?;
        writeln!(
            f,
            "; {}/s read, {}/s written",
            Bytes(self.read),
            Bytes(self.written)
        )?;
        let held = self.held.iter();
        let held: Vec<String> = held
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        writeln!(f, "{}", held.join(", "))?;
        f.write_str(if self.errors.is_empty() {
            "no errors"
        } else {
            "errors/s: "
        })?;
        listed(f, "", &self.errors)?;
        f.write_str(if self.waits.is_empty() {
            "\nno waits"
        } else {
            "\nwaits/s: "
        })?;
        listed(f, "", &self.waits)?;
        writeln!(f, "\n")?;
        writeln!(
            f,
            "{:<16} {:>10} {:>10} {:>10}",
            "message", "per second", "p50", "p99"
        )?;
        for row in &self.rows {
            let (p50, p99) = (Took(row.p50).to_string(), Took(row.p99).to_string());
            let Row { message, rate, .. } = row;
            let message = escaped(message.as_ref()).to_string();
            writeln!(f, "{message:<16} {rate:>10.0} {p50:>10} {p99:>10}")?;
        }
        Ok(())
    }
}

/// A count as JSON: a number without a point.
fn whole(count: f64) -> Value {
    let count = format!("{count:.0}").parse::<u64>();
    count.map_or(Value::Null, Value::from)
}

/// `channel 10, socket 2`.
fn listed(f: &mut fmt::Formatter<'_>, head: &str, rates: &[(String, f64)]) -> fmt::Result {
    let rates = rates
        .iter()
        .map(|(key, rate)| format!("{} {rate:.0}", escaped(key.as_ref())));
    let rates: Vec<String> = rates.collect();
    if !rates.is_empty() {
        write!(f, "{head}{}", rates.join(", "))?;
    }
    Ok(())
}

/// A time in seconds, in the unit that suits it.
struct Took(Option<f64>);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("-"),
            Some(took) if took < 1e-3 => write!(f, "{:.1} µs", took * 1e6),
            Some(took) if took < 1.0 => write!(f, "{:.1} ms", took * 1e3),
            Some(took) => write!(f, "{took:.1} s"),
        }
    }
}

struct Bytes(f64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(f64, &str); 3] = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => write!(f, "{:.1} {name}", self.0 / unit),
            None => write!(f, "{:.0} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(walks: u32, errors: u32) -> Sample {
        Sample::parse(&format!(
            "lisafs_requests_total{{message=\"Walk\",transport=\"channel\"}} {walks}\n\
             lisafs_request_duration_seconds_bucket{{le=\"0.000002\",message=\"Walk\"}} {walks}\n\
             lisafs_errors_total{{errno=\"ENOENT\"}} {errors}\n\
             lisafs_read_bytes_total {walks}000\n\
             lisafs_ids 5\n"
        ))
    }

    #[test]
    fn a_table_shows_what_happened_in_between() {
        let table = Table::new(&sample(100, 7), &sample(300, 7), 2.0).to_string();
        assert_eq!(
            table,
            "100 requests/s over channel 100; 100.0 kB/s read, 0 B/s written\n\
             connections 0, channels 0, ids 5, objects 0, descriptors 0\n\
             no errors\n\
             no waits\n\
             \n\
             message          per second        p50        p99\n\
             Walk                    100     1.0 µs     2.0 µs\n"
        );
    }

    #[test]
    fn nothing_is_shown_as_nothing() {
        let table = Table::new(&sample(5, 0), &sample(5, 0), 1.0).to_string();
        assert!(table.starts_with("0 requests/s; 0 B/s read"), "{table}");
    }

    #[test]
    fn counts_are_whole_numbers_for_a_program() {
        let object = Value::from(Table::new(&sample(5, 0), &sample(5, 0), 1.0).object());
        assert_eq!(object["ids"].to_string(), "5");
        assert_eq!(object["descriptors"].to_string(), "0");
        assert_eq!(object["read_bytes_per_second"].to_string(), "0.0");
    }

    #[test]
    fn a_terminal_is_told_nothing_by_whoever_answers() {
        let answer = Sample::parse(
            "lisafs_requests_total{message=\"\x1b[2J\",transport=\"\u{9b}A\"} 1\n\
             lisafs_errors_total{errno=\"\x07\"} 1\n",
        );
        let table = Table::new(&Sample::default(), &answer, 1.0).to_string();
        let obeyed = |character: char| character.is_control() && character != '\n';
        assert!(!table.contains(obeyed), "{table:?}");
        assert!(table.contains("\\x1b[2J"), "{table}");
    }

    #[test]
    fn a_gofer_that_was_started_anew_has_begun_at_nothing() {
        let table = Table::new(&sample(300, 7), &sample(50, 1), 1.0);
        assert_eq!(table.rows[0].rate, 50.0);
        assert_eq!(table.errors, [("ENOENT".to_owned(), 1.0)]);
        // It has been asked as often by now, but it has read less.
        let was = Sample::parse("lisafs_read_bytes_total 700\n");
        let table = Table::new(&was, &Sample::parse("lisafs_read_bytes_total 30\n"), 1.0);
        assert_eq!(table.read, 30.0);
    }
}
