//! All that is asked for, from the start of the servers to the report.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use tempfile::TempDir;

use crate::args::Args;
use crate::busy::Busy;
use crate::failure::Stop;
use crate::floor;
use crate::goclient;
use crate::idle;
use crate::place::Cpus;
use crate::progress::Progress;
use crate::report::{Measured, Report, Subject};
use crate::run::{Crew, Load, Outcome, Stopped};
use crate::server::Origin;
use crate::target::{Plan, Target};
use crate::work::Work;

/// How many samples gVisor's client takes of each operation unless somebody says otherwise.
const GO_COUNT: u64 = 20_000;

/// Where files are in memory.
const MEMORY: &str = "/dev/shm";

/// Measures everything.
pub(crate) fn run(args: &Args, stop: &AtomicBool) -> Result<Report, Stop> {
    let cpus = Cpus::usable().map_err(|why| Stop::at("cannot see the CPUs", why))?;
    let scratch = scratch()?;
    let served = scratch.path().join("served");
    fs::create_dir(&served).map_err(|why| Stop::at(served.display(), why))?;
    let dir = match &args.serve {
        Some(dir) => dir.clone(),
        None => served,
    };
    let ops = args.ops().map_err(Stop::Trouble)?;
    let works: Vec<Work> = ops
        .into_iter()
        .map(Work::Op)
        .chain(args.mix.iter().copied().map(Work::Mix))
        .collect();
    let load = Load {
        threads: args.threads,
        limit: args.limit(),
        rate: args.rate,
        slices: args.slices,
    };
    let plans = plans(args, &dir);
    let progress = Progress::new(steps(args, &load, &cpus, &works, plans.len()));

    let mut report = Report::new(args, load);
    if args.floor {
        // On the file system that is served, if that is known.
        let beside = TempDir::new_in(&dir).map_err(|why| Stop::at(dir.display(), why))?;
        report.floor = floor::measure(&cpus, &args.wait, &works, beside.path(), &progress)?;
    }
    let _busy = Busy::start(args.busy * cpus.count())
        .map_err(|why| Stop::at("cannot keep the CPUs busy", why))?;
    let mut targets = Vec::new();
    for (number, plan) in plans.into_iter().enumerate() {
        targets.push(Target::open(plan, &cpus, number, scratch.path())?);
    }
    for work in works {
        let measured = measure(work, &targets, &cpus, &load, stop, &progress)?;
        report.refused.extend(measured.1);
        report.measured.push(measured.0);
    }
    let mut go = vec![Vec::new(); targets.len()];
    if let Some(path) = &args.go_client {
        let count = args.count.unwrap_or(GO_COUNT);
        let count = count.div_ceil(u64::from(load.slices.max(1)));
        for op in goclient::OPS {
            let mut rows = vec![goclient::Row::new(op); targets.len()];
            for _ in 0..load.slices {
                for (row, target) in rows.iter_mut().zip(&mut targets) {
                    progress.begin(format!("gVisor's client, {op}, {}", target.plan.label));
                    row.slice(path, target, &cpus, count, stop)?;
                    progress.step(1);
                }
            }
            for (all, row) in go.iter_mut().zip(rows) {
                all.push(row);
            }
        }
    }
    for (target, go) in targets.iter_mut().zip(go) {
        target.clear()?;
        let idle = match args.idle {
            Some(connections) => {
                progress.begin(format!("idle, {}", target.plan.label));
                let connections = usize::from(connections);
                let idle = idle::watch(target, &cpus, connections, args.seconds, stop)?;
                progress.step(u64::from(load.slices));
                Some(idle)
            }
            None => None,
        };
        report.subjects.push(Subject {
            plan: target.plan.clone(),
            start: target.start,
            memory: target.memory(),
            idle,
            go,
        });
    }
    Ok(report)
}

/// How many steps all of it takes: a slice is one, and so is about as much time elsewhere.
fn steps(args: &Args, load: &Load, cpus: &Cpus, works: &[Work], servers: usize) -> u64 {
    let floor = if args.floor {
        floor::steps(cpus, &args.wait, works)
    } else {
        0
    };
    let go = args.go_client.as_ref().map_or(0, |_| goclient::OPS.len());
    let idle = usize::from(args.idle.is_some());
    let in_slices = (works.len() + go + idle) * servers;
    u64::try_from(floor).unwrap_or_default()
        + u64::try_from(in_slices).unwrap_or_default() * u64::from(load.slices)
}

/// A directory for sockets and, by default, for what is served.
fn scratch() -> Result<TempDir, Stop> {
    let made = if Path::new(MEMORY).is_dir() {
        tempfile::Builder::new()
            .prefix("lisafs-bench.")
            .tempdir_in(MEMORY)
    } else {
        tempfile::Builder::new().prefix("lisafs-bench.").tempdir()
    };
    made.map_err(|why| Stop::at("cannot make a scratch directory", why))
}

/// All servers, in the order in which they are measured and shown.
fn plans(args: &Args, dir: &Path) -> Vec<Plan> {
    let mut plans = Vec::new();
    let several = |label: &str, tags: &[(bool, String)]| {
        let tags = tags.iter().filter(|(shown, _)| *shown);
        tags.fold(label.to_owned(), |label, (_, tag)| {
            format!("{label}, {tag}")
        })
    };
    for placement in &args.cpus {
        for wait in &args.wait {
            let tags = [
                (args.wait.len() > 1, wait.to_string()),
                (args.cpus.len() > 1, placement.to_string()),
            ];
            let (label, origin) = match &args.connect {
                Some(path) => ("server", Origin::Listening(path.clone())),
                None => (
                    "ours",
                    Origin::Private {
                        dir: dir.to_owned(),
                        wait: *wait,
                        channels: args.channels(),
                        metrics: args.server_waits,
                    },
                ),
            };
            plans.push(Plan {
                label: several(label, &tags),
                origin,
                placement: *placement,
                wait: *wait,
                channels: args.channels(),
            });
        }
    }
    for versus in &args.versus {
        let placements = match versus.placement {
            Some(placement) => vec![placement],
            None => args.cpus.clone(),
        };
        let tagged = placements.len() > 1 || versus.placement.is_some();
        for placement in placements {
            plans.push(Plan {
                label: several(&versus.label, &[(tagged, placement.to_string())]),
                origin: Origin::Command {
                    command: versus.command.clone(),
                    dir: PathBuf::from(dir),
                },
                placement,
                wait: args
                    .wait
                    .first()
                    .copied()
                    .unwrap_or(flipcall::WaitPolicy::Park),
                channels: args.channels(),
            });
        }
    }
    plans
}

/// Measures a work on all servers, in turns, and says who refuses it.
fn measure(
    work: Work,
    targets: &[Target],
    cpus: &Cpus,
    load: &Load,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<(Measured, Vec<String>), Stop> {
    let mut refused = Vec::new();
    let mut refuse = |target: &Target, why: Stopped| match why {
        Stopped::Work(why) => {
            refused.push(format!("{}: {work}: {why}", target.plan.label));
            Ok(())
        }
        Stopped::All(Stop::Trouble(why)) => Err(Stop::at(&target.plan.label, why)),
        Stopped::All(why) => Err(why),
    };
    let mut crews: Vec<Option<Crew>> = Vec::new();
    for target in targets {
        progress.begin(format!("{work}, {}", target.plan.label));
        crews.push(match Crew::new(work, target, load) {
            Ok(crew) => Some(crew),
            Err(why) => {
                refuse(target, why)?;
                None
            }
        });
    }
    for _ in 0..load.slices {
        for (crew, target) in crews.iter_mut().zip(targets) {
            progress.begin(format!("{work}, {}", target.plan.label));
            if let Some(measured) = crew
                && let Err(why) = measured.slice(target, cpus, load, stop)
            {
                refuse(target, why)?;
                *crew = None;
            }
            progress.step(1);
        }
    }
    let outcomes: Vec<Option<Outcome>> = crews
        .into_iter()
        .map(|crew| crew.map(Crew::outcome))
        .collect();
    Ok((Measured { work, outcomes }, refused))
}
