//! gVisor's own client against the same servers: `gobench` of tests/interop.
//!
//! How fast it is depends on which threads its runtime runs it on and where the scheduler puts
//! those when it starts, so it is started many times, the servers in turns.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::Value;

use crate::cost::{Usage, Waits, more};
use crate::failure::Stop;
use crate::place::Cpus;
use crate::sample::Sample;
use crate::target::Target;

/// One operation, as that client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) op: &'static str,
    pub(crate) sample: Sample,
    /// The p50 of each slice, in nanoseconds.
    pub(crate) medians: Vec<u64>,
    /// How often the operation ran, with what was not measured.
    pub(crate) runs: u64,
    /// Of the client, while it measured.
    client_cpu: Duration,
    /// Of the server, for all runs. None if its process cannot be seen.
    server: Option<Usage>,
    /// Of the server, for all runs. None if it does not say.
    pub(crate) server_waits: Option<Waits>,
}

/// What that client measures.
pub(crate) const OPS: [&str; 7] = [
    "FStat",
    "Walk",
    "WalkAbsent",
    "WalkStat",
    "OpenAt",
    "Create",
    "Mkdir",
];

impl Row {
    pub(crate) fn new(op: &'static str) -> Row {
        Row {
            op,
            sample: Sample::new(),
            medians: Vec::new(),
            runs: 0,
            client_cpu: Duration::ZERO,
            server: Some(Usage::default()),
            server_waits: Some(Waits::default()),
        }
    }

    /// Runs the program at `path` with `count` samples.
    pub(crate) fn slice(
        &mut self,
        path: &Path,
        target: &mut Target,
        cpus: &Cpus,
        count: u64,
        stop: &AtomicBool,
    ) -> Result<(), Stop> {
        let about = |why: &dyn std::fmt::Display| Stop::at(path.display(), why);
        let stream = target.server().stream()?;
        let here = cpus.of_client(target.plan.placement);
        // Asking is work for the server: that is in none of the other numbers.
        let waited = target.server_waits()?;
        let before = target.usage();
        let done = cpus
            .during(&here, || {
                Command::new(path)
                    .args(["--fd", "0", "--count", &count.to_string(), "--ops", self.op])
                    .stdin(Stdio::from(OwnedFd::from(stream)))
                    .output()
            })
            .and_then(|done| done)
            .map_err(|why| about(&why))?;
        let after = target.usage();
        // It has got the ^C as well.
        if stop.load(Relaxed) {
            return Err(Stop::Interrupted);
        }
        if !done.status.success() {
            return Err(about(&String::from_utf8_lossy(&done.stderr)));
        }
        let text = String::from_utf8_lossy(&done.stdout);
        let line = Line::parse(&text)
            .filter(|line| line.op == self.op)
            .ok_or_else(|| {
                about(&format!(
                    "not understood, is it the gobench of this version? {text}"
                ))
            })?;
        self.medians.push(line.sample.p50());
        self.sample.merge(&line.sample);
        self.runs += line.runs;
        self.client_cpu += line.cpu;
        self.server = more(self.server, before, after);
        self.server_waits = more(self.server_waits, waited, target.server_waits()?);
        Ok(())
    }

    /// CPU time of the client for each operation, in nanoseconds.
    pub(crate) fn client_cpu_each(&self) -> u64 {
        each(self.client_cpu, self.sample.count())
    }

    /// CPU time of the server for each operation, in nanoseconds.
    pub(crate) fn server_cpu_each(&self) -> Option<u64> {
        self.server.map(|server| each(server.cpu, self.runs))
    }
}

/// In nanoseconds.
fn each(time: Duration, count: u64) -> u64 {
    u64::try_from(time.as_nanos() / u128::from(count.max(1))).unwrap_or(u64::MAX)
}

/// What that client prints of an operation.
struct Line {
    op: String,
    sample: Sample,
    runs: u64,
    cpu: Duration,
}

impl Line {
    fn parse(line: &str) -> Option<Line> {
        let object: Value = serde_json::from_str(line).ok()?;
        let number = |key: &str| object.get(key)?.as_u64();
        let count = number("count")?;
        let mut sample = Sample::new();
        for pair in object.get("histogram")?.as_array()? {
            let [took, times] = pair.as_array()?.as_slice() else {
                return None;
            };
            sample.record_many(took.as_u64()?, times.as_u64()?);
        }
        let cpu = number("cpu_ns")?.checked_mul(count)?;
        (sample.count() == count).then_some(Line {
            op: object.get("op")?.as_str()?.to_owned(),
            sample,
            runs: number("runs")?,
            cpu: Duration::from_nanos(cpu),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_all_samples() {
        let line = r#"{"op":"FStat","count":7,"runs":9,"cpu_ns":8,"p50_ns":10,
            "histogram":[[10,4],[20,2],[1000,1]]}"#;
        let parsed = Line::parse(line).unwrap();
        assert_eq!((parsed.op.as_str(), parsed.runs), ("FStat", 9));
        assert_eq!(parsed.cpu, Duration::from_nanos(56));
        let sample = parsed.sample;
        assert_eq!((sample.count(), sample.p50(), sample.at(0.8)), (7, 10, 20));
        assert_eq!(sample.max(), 1000);
        for broken in [
            line.replace("histogram", "other"),
            line.replace("[20,2]", "[20]"),
            line.replace("[20,2]", "[20,3]"),
            line.replace("\"runs\":9,", ""),
            "nonsense".to_owned(),
        ] {
            assert!(Line::parse(&broken).is_none(), "{broken}");
        }
    }
}
