//! `lisafs-bench`: measures lisafs servers: latency, CPU time, memory, and the floor below them.
//!
//! | | |
//! |---|---|
//! | `args` | the command line |
//! | `suite` | all that is asked for, from the start of the servers to the report |
//! | `op`, `work`, `task`, `area` | what is measured, and the tree that it needs |
//! | `server`, `target`, `place` | processes, the clients they have, the CPUs they run on |
//! | `run`, `pace` | slices and threads; closed and open loops |
//! | `sample`, `cost`, `exported` | latencies; CPU time, context switches, waits, memory; a gofer's counters |
//! | `floor`, `goclient`, `idle`, `busy` | what no request can beat; other clients; no and other load |
//! | `report` | text, JSON, SVG |
//! | `progress`, `interrupt`, `failure` | a terminal, ^C, what can be in the way |
#![forbid(unsafe_code)]

mod area;
mod args;
mod busy;
mod cost;
mod exported;
mod failure;
mod floor;
mod goclient;
mod idle;
mod interrupt;
mod op;
mod pace;
mod place;
mod progress;
mod report;
mod run;
mod sample;
mod server;
mod suite;
mod target;
mod task;
mod work;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use lisafs_gofer::Embedded;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use self::args::Args;
use self::failure::Stop;

/// Something was refused.
const NO: u8 = 1;
/// The question makes no sense, or there is nobody to answer it.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    if let Some(gofer) = Embedded::from_env() {
        // Listens, and so would go on when whoever started it is killed.
        let _ = prctl::set_pdeathsig(Signal::SIGTERM);
        return gofer.run();
    }
    if env::args_os().nth(1).is_some_and(|verb| verb == busy::VERB) {
        return busy::main();
    }
    let args = match Args::try_parse_from(env::args_os()) {
        Ok(args) => args,
        Err(why) => {
            let failed = why.use_stderr();
            // Nobody is left to tell if that fails.
            let _ = why.print();
            return ExitCode::from(if failed { TROUBLE } else { 0 });
        }
    };
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NO),
        // Whoever closes a pipe has seen enough.
        Err(Stop::ClosedPipe) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "lisafs-bench: {why}");
            ExitCode::from(TROUBLE)
        }
    }
}

/// Whether all was measured that was asked for.
fn run(args: &Args) -> Result<bool, Stop> {
    let interrupted =
        interrupt::watch().map_err(|why| Stop::at("cannot watch for signals", why))?;
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let report = suite::run(args, &interrupted)?;
    for why in &report.refused {
        // The exit status says so as well, if nobody reads this.
        let _ = writeln!(io::stderr(), "lisafs-bench: {why}");
    }
    // The files first: whoever closes the pipe still has them.
    if let Some(path) = &args.json {
        report.write_json(path)?;
    }
    if let Some(path) = &args.plot {
        report.draw(path)?;
    }
    report.print(&mut io::stdout().lock())?;
    Ok(report.refused.is_empty())
}
