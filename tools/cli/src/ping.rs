//! `ping`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use flipcall::{WaitPolicy, WaitStats};
use hdrhistogram::Histogram;
use lisafs::client::{Client, ControlFile, Error};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::json;

use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::{Stop, Why};
use crate::json::Object;
use crate::session::Session;

/// Measure how long an answer takes
///
/// Sends one request after the other, and shows how long they took, what CPU time that cost this
/// process, and how it waited: how often it slept (parks), woke the server (wakes), or saw the
/// answer while polling (spin hits) or not in time (spin misses).
#[derive(Debug, clap::Args)]
pub(crate) struct Ping {
    /// Which file; for --op walk, without one, the first in the root directory
    #[arg(value_hint = REMOTE)]
    path: Option<PathBuf>,

    /// How many requests to send
    #[arg(short, long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,

    /// Which request
    #[arg(long, value_enum, default_value_t = Op::Fstat)]
    op: Op,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Op {
    /// The attributes of the file
    Fstat,
    /// A walk from the root to the file, of however many steps
    Walk,
    /// Opening the file; closing it again is not measured
    Open,
}

/// The longest answer that can be measured, in nanoseconds: ten minutes.
const LONGEST: u64 = 600_000_000_000;

const TOO_LONG: &str = "an answer took too long to be measured";

/// How many decimal digits of a measurement are kept.
const DIGITS: u8 = 3;

/// What came of it.
struct Outcome {
    took: Histogram<u64>,
    elapsed: Duration,
    cpu: Duration,
    waits: Vec<WaitStats>,
}

impl Ping {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let path = self.path.clone().unwrap_or_else(|| PathBuf::from("/"));
        let at = self.path.as_ref().map(|path| session.at(path));
        let outcome = self.measure(client, at.as_deref());
        match console.or_complain(path, outcome)? {
            Some(outcome) if console.is_json() => self.json(&outcome, session.wait(), console),
            Some(outcome) => self.text(&outcome, session.wait(), console),
            None => Ok(()),
        }
    }

    fn measure(&self, client: &Client, path: Option<&Path>) -> Result<Outcome, Why> {
        match self.op {
            Op::Fstat => {
                let file = file(client, path)?;
                repeat(self.count, client, || file.stat())
            }
            Op::Open => {
                let file = file(client, path)?;
                repeat(self.count, client, || file.open(libc::O_RDONLY))
            }
            Op::Walk => {
                let root = client.root();
                let path = match path {
                    Some(path) => client.canonicalize(path)?,
                    None => first_name(&root)?,
                };
                let names: Vec<_> = path.iter().filter(|name| *name != "/").collect();
                if names.is_empty() {
                    return Err(Why::Said("the root is not walked to: name another file"));
                }
                repeat(self.count, client, || root.walk(&names))
            }
        }
    }

    fn text(&self, outcome: &Outcome, wait: WaitPolicy, console: &mut Console) -> Result<(), Stop> {
        let Outcome { took, .. } = outcome;
        let microseconds = |nanoseconds: f64| format!("{:.1} µs", nanoseconds / 1e3);
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let at = |quantile| microseconds(took.value_at_quantile(quantile) as f64);
        console.line(&format!(
            "{} {} over {}, wait {wait}: p50 {}, p99 {}, mean {}",
            took.len(),
            self.name(),
            outcome.communicator(),
            at(0.5),
            at(0.99),
            microseconds(took.mean()),
        ))?;
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let each = outcome.cpu.as_nanos() as f64 / took.len() as f64;
        console.line(&format!(
            "{:.3} s in all; CPU time of this process {:.3} s, {} each",
            outcome.elapsed.as_secs_f64(),
            outcome.cpu.as_secs_f64(),
            microseconds(each),
        ))?;
        for (number, waits) in outcome.waits.iter().enumerate() {
            console.line(&format!(
                "channel {number}: {} parks, {} wakes, {} wakes left out, {} spin hits, {} spin misses",
                waits.parks,
                waits.wakes,
                waits.elided_wakes,
                waits.spin_hits,
                waits.spin_misses
            ))?;
        }
        Ok(())
    }

    fn json(&self, outcome: &Outcome, wait: WaitPolicy, console: &mut Console) -> Result<(), Stop> {
        let Outcome { took, .. } = outcome;
        let waits: Vec<_> = outcome
            .waits
            .iter()
            .map(|waits| {
                json!({
                    "parks": waits.parks,
                    "wakes": waits.wakes,
                    "elided_wakes": waits.elided_wakes,
                    "spin_hits": waits.spin_hits,
                    "spin_misses": waits.spin_misses,
                })
            })
            .collect();
        let object = Object::new()
            .set("op", self.name())
            .set("count", took.len())
            .set("communicator", outcome.communicator())
            .set("wait", wait.to_string())
            .set("p50_ns", took.value_at_quantile(0.5))
            .set("p99_ns", took.value_at_quantile(0.99))
            .set("mean_ns", took.mean())
            .set("min_ns", took.min())
            .set("max_ns", took.max())
            .set("elapsed_s", outcome.elapsed.as_secs_f64())
            .set("cpu_s", outcome.cpu.as_secs_f64())
            .set("channels", waits);
        console.object(object)
    }

    fn name(&self) -> &'static str {
        match self.op {
            Op::Fstat => "fstat",
            Op::Walk => "walk",
            Op::Open => "open",
        }
    }
}

impl Outcome {
    fn communicator(&self) -> &'static str {
        if self.waits.is_empty() {
            "the socket"
        } else {
            "a channel"
        }
    }
}

fn file(client: &Client, path: Option<&Path>) -> Result<ControlFile, Error> {
    match path {
        Some(path) => client.lookup(path),
        None => Ok(client.root()),
    }
}

/// A path with a single name.
fn first_name(root: &ControlFile) -> Result<PathBuf, Why> {
    match root.open(libc::O_RDONLY)?.read_dir().next() {
        Some(entry) => Ok(entry?.name.into()),
        None => Err(Why::Said("the root is empty: name a file")),
    }
}

/// Makes `count` requests. What they bring is given up in between, outside of what is measured.
fn repeat<T>(
    count: u64,
    client: &Client,
    mut request: impl FnMut() -> Result<T, Error>,
) -> Result<Outcome, Why> {
    let mut took =
        Histogram::new_with_bounds(1, LONGEST, DIGITS).map_err(|_| Why::Said(TOO_LONG))?;
    // Opens the channel.
    drop(request()?);
    let before = client.wait_stats();
    let (start, cpu) = (Instant::now(), cpu_time()?);
    for _ in 0..count {
        let sent = Instant::now();
        let answer = request()?;
        let nanoseconds = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
        drop(answer);
        took.record(nanoseconds).map_err(|_| Why::Said(TOO_LONG))?;
    }
    let (elapsed, cpu) = (start.elapsed(), cpu_time()?.saturating_sub(cpu));
    let mut before = before.into_iter();
    let waits = client.wait_stats();
    let waits = waits
        .into_iter()
        .map(|after| since(after, before.next().unwrap_or_default()));
    Ok(Outcome {
        took,
        elapsed,
        cpu,
        waits: waits.collect(),
    })
}

fn since(after: WaitStats, before: WaitStats) -> WaitStats {
    WaitStats {
        parks: after.parks.saturating_sub(before.parks),
        wakes: after.wakes.saturating_sub(before.wakes),
        elided_wakes: after.elided_wakes.saturating_sub(before.elided_wakes),
        spin_hits: after.spin_hits.saturating_sub(before.spin_hits),
        spin_misses: after.spin_misses.saturating_sub(before.spin_misses),
        moves: after.moves.saturating_sub(before.moves),
    }
}

/// The CPU time of this process so far.
fn cpu_time() -> Result<Duration, Why> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(
        u64::try_from(microseconds).unwrap_or_default(),
    ))
}
