//! The report for programs: one object. Times are in nanoseconds and counts are totals, except
//! where a name says otherwise; what is not known is null.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Measured, Report, Subject, float};
use crate::cost::{Memory, Usage, Waits};
use crate::failure::Stop;
use crate::pace::Limit;
use crate::run::Outcome;
use crate::sample::{PERCENTILES, Sample};

impl Report {
    /// Writes it to a file.
    pub(crate) fn write_json(&self, path: &Path) -> Result<(), Stop> {
        let text = format!("{:#}\n", self.json());
        fs::write(path, text).map_err(|why| Stop::at(path.display(), why))
    }

    fn json(&self) -> Value {
        let (seconds, count) = match self.load.limit {
            Limit::Time(time) => (Some(time.as_secs_f64()), None),
            Limit::Count(count) => (None, Some(count)),
        };
        let floor = self.floor.iter().map(|row| {
            json!({
                "name": row.name,
                "op": row.op.map(|op| op.to_string()),
                "latency": latency(&row.sample),
            })
        });
        json!({
            "load": {
                "threads": self.load.threads,
                "seconds": seconds,
                "count": count,
                "rate_per_second": self.load.rate,
                "slices": self.load.slices,
                "busy_loops_per_cpu": self.busy,
            },
            "servers": self.subjects.iter().map(server).collect::<Vec<_>>(),
            "floor": floor.collect::<Vec<_>>(),
            "measured": self.measured.iter().map(|one| self.measured(one)).collect::<Vec<_>>(),
            "refused": self.refused,
        })
    }

    fn measured(&self, measured: &Measured) -> Value {
        let outcomes = measured.outcomes.iter().enumerate();
        let results = outcomes.filter_map(|(subject, outcome)| {
            let mut result = result(measured, outcome.as_ref()?);
            let ratio = measured.ratio(subject).map(|ratio| {
                json!({
                    "of_p50": ratio.of_p50,
                    "median_of_slices": ratio.median,
                    "least_of_slices": ratio.least,
                    "most_of_slices": ratio.most,
                })
            });
            result.insert("server".to_owned(), self.label(subject).into());
            result.insert("ratio_to_first".to_owned(), ratio.into());
            Some(Value::Object(result))
        });
        json!({
            "work": measured.work.to_string(),
            "requests_each": measured.work.requests(),
            "results": results.collect::<Vec<_>>(),
        })
    }
}

fn server(subject: &Subject) -> Value {
    let idle = subject.idle.map(|idle| {
        json!({
            "connections": idle.connections,
            "channels": idle.channels,
            "seconds": idle.time.as_secs_f64(),
            "used": idle.server.map(usage),
            "memory": idle.memory.map(memory),
        })
    });
    let go = subject.go.iter().map(|row| {
        json!({
            "op": row.op,
            "count": row.sample.count(),
            "runs": row.runs,
            "latency": latency(&row.sample),
            "slice_p50_ns": row.medians,
            "client_cpu_each_ns": row.client_cpu_each(),
            "server_cpu_each_ns": row.server_cpu_each(),
            "server_waits": row.server_waits.map(waits),
        })
    });
    let plan = &subject.plan;
    json!({
        "label": plan.label,
        "is": plan.origin.to_string(),
        "placement": plan.placement.to_string(),
        "client_waits": plan.wait.to_string(),
        "channels": plan.channels,
        "start_ns": subject.start.map(nanoseconds),
        "memory": subject.memory.map(memory),
        "idle": idle,
        "go_client": go.collect::<Vec<_>>(),
    })
}

fn result(measured: &Measured, outcome: &Outcome) -> Map<String, Value> {
    let parts = measured.work.parts().into_iter().zip(&outcome.seen.latency);
    let parts = parts.filter(|(_, sample)| sample.count() > 0);
    let parts: Map<_, _> = parts
        .map(|(name, sample)| (name.to_owned(), latency(sample)))
        .collect();
    let count = outcome.seen.count();
    let fields = [
        ("latency", latency(&outcome.seen.overall())),
        ("service", outcome.seen.service.as_ref().map(latency).into()),
        ("unsent", outcome.seen.unsent.into()),
        ("parts", Value::Object(parts)),
        ("elapsed_ns", nanoseconds(outcome.elapsed).into()),
        (
            "per_second",
            (float(count) / outcome.elapsed.as_secs_f64().max(1e-9)).into(),
        ),
        ("client", usage(outcome.client)),
        ("server_used", outcome.server.map(usage).into()),
        ("waits", waits(outcome.waits)),
        ("server_waits", outcome.server_waits.map(waits).into()),
        ("slice_p50_ns", outcome.medians.clone().into()),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn latency(sample: &Sample) -> Value {
    let mut object = Map::new();
    for (quantile, name) in PERCENTILES {
        object.insert(format!("{name}_ns"), sample.at(quantile).into());
    }
    object.insert("count".to_owned(), sample.count().into());
    object.insert("min_ns".to_owned(), sample.min().into());
    object.insert("max_ns".to_owned(), sample.max().into());
    object.insert("mean_ns".to_owned(), sample.mean().into());
    Value::Object(object)
}

fn usage(usage: Usage) -> Value {
    json!({
        "cpu_ns": nanoseconds(usage.cpu),
        "voluntary_switches": usage.voluntary,
        "involuntary_switches": usage.involuntary,
    })
}

fn waits(waits: Waits) -> Value {
    let events = waits.events();
    let events = events.map(|(name, number)| (name.to_owned(), number.into()));
    Value::Object(events.into_iter().collect())
}

fn memory(memory: Memory) -> Value {
    json!({
        "peak_kib": memory.peak,
        "anonymous_kib": memory.anonymous,
        "threads": memory.threads,
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
