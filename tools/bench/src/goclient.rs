//! gVisor's own client against the same servers: `gobench` of tests/interop.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::failure::Stop;
use crate::place::Cpus;
use crate::sample::PERCENTILES;
use crate::target::Target;

/// One operation, as that client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) op: String,
    pub(crate) count: u64,
    /// In nanoseconds: those of [`PERCENTILES`], and the longest.
    pub(crate) percentiles: Vec<u64>,
    /// CPU time of the client for each operation, in nanoseconds.
    pub(crate) client_cpu: Option<u64>,
    /// CPU time of the server for each operation, in nanoseconds.
    pub(crate) server_cpu: Option<u64>,
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

/// Runs the program at `path` with so many samples of one operation.
pub(crate) fn run(
    path: &Path,
    target: &mut Target,
    cpus: &Cpus,
    op: &str,
    count: u64,
) -> Result<Row, Stop> {
    let about = |why: &dyn std::fmt::Display| Stop::at(path.display(), why);
    let stream = target.server().stream()?;
    let here = cpus.of_client(target.plan.placement);
    let before = target.usage();
    let done = cpus
        .during(&here, || {
            Command::new(path)
                .args(["--fd", "0", "--count", &count.to_string(), "--ops", op])
                .stdin(Stdio::from(OwnedFd::from(stream)))
                .output()
        })
        .and_then(|done| done)
        .map_err(|why| about(&why))?;
    if !done.status.success() {
        return Err(about(&String::from_utf8_lossy(&done.stderr)));
    }
    let text = String::from_utf8_lossy(&done.stdout);
    let (mut row, runs) = parse(&text).ok_or_else(|| about(&format!("not understood: {text}")))?;
    if let (Some(after), Some(before)) = (target.usage(), before) {
        let cpu = (after - before).cpu.as_nanos() / u128::from(runs.max(1));
        row.server_cpu = u64::try_from(cpu).ok();
    }
    Ok(row)
}

/// A line of that client, and how often it ran the operation.
fn parse(line: &str) -> Option<(Row, u64)> {
    let object: Value = serde_json::from_str(line).ok()?;
    let number = |key: &str| object.get(key)?.as_u64();
    let names = PERCENTILES.iter().map(|(_, name)| *name).chain(["max"]);
    let row = Row {
        op: object.get("op")?.as_str()?.to_owned(),
        count: number("count")?,
        percentiles: names
            .map(|name| number(&format!("{}_ns", name.replace('.', ""))))
            .collect::<Option<_>>()?,
        client_cpu: number("cpu_ns"),
        server_cpu: None,
    };
    Some((row, number("runs")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_all_percentiles() {
        let line = r#"{"op":"FStat","count":7,"runs":9,"p50_ns":1,"p90_ns":2,"p99_ns":3,"p999_ns":4,
            "p9999_ns":5,"max_ns":6,"cpu_ns":8}"#;
        let (row, runs) = parse(line).unwrap();
        assert_eq!(runs, 9);
        assert_eq!((row.op.as_str(), row.count), ("FStat", 7));
        assert_eq!(row.percentiles, [1, 2, 3, 4, 5, 6]);
        assert_eq!(row.client_cpu, Some(8));
        assert!(parse(&line.replace("p9999", "p9998")).is_none());
        assert!(parse("nonsense").is_none());
    }
}
