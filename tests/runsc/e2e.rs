//! Times what file systems do in real sandboxes: with no gofer in the way (directfs), with gVisor's
//! and with ours, in one run.
//!
//! `cargo bench -p lisafs-gofer --bench e2e -- --rounds 5`
//!
//! The configurations take turns, each time in a fresh container and in another order, so that
//! whatever else the machine does happens to all of them. Has to be root; leaves nothing behind.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![allow(dead_code)] // of the modules that it shares with the tests

mod bundle;
mod command;
mod configuration;
mod metadata;
mod processes;
mod report;
mod sandbox;
mod scratch;
mod shell;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use self::bundle::Bundle;
use self::configuration::{Configuration, Variant};
use self::metadata::{WORKLOADS, Workload};
use self::processes::Usage;
use self::sandbox::{LIMIT, Runsc};
use self::scratch::Role;
use self::shell::Shell;
use self::subject::Release;

/// Times metadata workloads in sandboxes: directfs, gVisor's gofer, ours.
#[derive(Parser)]
struct Args {
    /// How often each configuration has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these workloads, with commas between them.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Only configurations with one of these words in their name, such as `shared` or
    /// `exclusive/ours`.
    #[arg(long, value_delimiter = ',')]
    configs: Vec<String>,
    /// Another configuration of our gofer: `NAME:KEY=VALUE[,KEY=VALUE]`, set in its environment.
    #[arg(long = "variant")]
    variants: Vec<Variant>,
    #[arg(long, default_value = "systrap")]
    platform: String,
    /// Another `runsc` than the one that is built from the Go module.
    #[arg(long)]
    runsc: Option<PathBuf>,
    /// Writes every measurement to a file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Runs the sandboxes on these CPUs only, as `taskset -c` names them.
    #[arg(long)]
    cpus: Option<String>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one turn of one configuration has shown.
pub(crate) struct Turn {
    pub(crate) configuration: usize,
    pub(crate) round: usize,
    pub(crate) times: Vec<Timed>,
    pub(crate) sandbox: Usage,
    pub(crate) gofer: Usage,
    /// How long `runsc do true` takes.
    pub(crate) start: Duration,
}

/// One workload's share.
pub(crate) struct Timed {
    pub(crate) wall: Duration,
    pub(crate) sandbox_cpu: Duration,
    pub(crate) gofer_cpu: Duration,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match scratch::enter() {
        Ok(Role::Outside(code)) => return code,
        Ok(Role::Inside) => compare(&args),
        Err(why) => Err(why),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("e2e: {why}");
            ExitCode::from(2)
        }
    }
}

fn compare(args: &Args) -> Result<(), String> {
    let stock = match &args.runsc {
        Some(path) => path.clone(),
        None => Release::Head.runsc()?.to_owned(),
    };
    let workloads = select(&args.workloads)?;
    let configurations = configuration::all(&stock, &args.variants, &args.configs)?;
    let mut turns = Vec::new();
    let began = Instant::now();
    for round in 0..args.rounds {
        for turn in 0..configurations.len() {
            let number = (round + turn) % configurations.len();
            let configuration = &configurations[number];
            eprintln!(
                "e2e: {:4} s, round {}/{}: {}",
                began.elapsed().as_secs(),
                round + 1,
                args.rounds,
                configuration.name,
            );
            let mut measured = measure(configuration, args, &workloads)
                .map_err(|why| format!("{}: {why}", configuration.name))?;
            (measured.configuration, measured.round) = (number, round);
            turns.push(measured);
        }
    }
    print!("{}", report::tables(&configurations, &workloads, &turns));
    if let Some(path) = &args.json {
        let json = report::json(&configurations, &workloads, &turns);
        std::fs::write(path, json.to_string())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn select(names: &[String]) -> Result<Vec<Workload>, String> {
    if names.is_empty() {
        return Ok(WORKLOADS.to_vec());
    }
    let find = |name: &String| {
        let found = WORKLOADS.iter().find(|workload| workload.name == name);
        found.copied().ok_or_else(|| {
            let known = WORKLOADS.map(|workload| workload.name).join(", ");
            format!("no workload is called {name}: {known}")
        })
    };
    names.iter().map(find).collect()
}

fn measure(
    configuration: &Configuration,
    args: &Args,
    workloads: &[Workload],
) -> Result<Turn, String> {
    let runsc = configuration.runsc(&args.platform, args.cpus.as_deref())?;
    let mut bundle = Bundle::new()?;
    metadata::prepare(&bundle)?;
    let start = time_start(&runsc, &bundle)?;
    let mut shell = Shell::start(&runsc, &mut bundle)?;
    let mut times = Vec::new();
    for workload in workloads {
        let before = shell.usage();
        let wall = shell.run(workload.script)?;
        let after = shell.usage();
        times.push(Timed {
            wall,
            sandbox_cpu: after.0.cpu.saturating_sub(before.0.cpu),
            gofer_cpu: after.1.cpu.saturating_sub(before.1.cpu),
        });
    }
    let (sandbox, gofer) = shell.usage();
    shell.end()?;
    Ok(Turn {
        configuration: 0,
        round: 0,
        times,
        sandbox,
        gofer,
        start,
    })
}

/// From starting `runsc do true` until it has ended.
fn time_start(runsc: &Runsc, bundle: &Bundle) -> Result<Duration, String> {
    let root = format!("--root={}", bundle.root("").display());
    let began = Instant::now();
    // An overlay, which it would have else, does not go with shared access.
    let mut command = runsc.command(&["do", "--force-overlay=false", &root, "/bin/true"]);
    command::run(&mut command, LIMIT)?.success()?;
    Ok(began.elapsed())
}
