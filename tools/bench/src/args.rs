//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};
use flipcall::WaitPolicy;

use crate::op::{Op, Ops, USUAL};
use crate::pace::Limit;
use crate::place::Placement;
use crate::server::Versus;
use crate::task::Mix;

const MORE: &str = "\
Operations (--ops), with what they send where the name does not say it:
  ping           a Close of nothing, the smallest message
  fstat          attributes of a handle                  fstat-open  of an open file
  stat           by path: a Walk of three names, handles given up
  walk=N         a Walk of N names (1) that exist        walk-absent one that does not
  walkstat=N     a WalkStat of N names (3)
  fstat-held=N   FStat of one of N files (1000) that are all held, at random
  walk-held=N    a Walk of one name in one of the directories of N files that are all held
  walk-open      a Walk of one name, OpenAt as in `open`, and one Close of both
  open           OpenAt for reading with a donated descriptor, which is closed, and Close
  open-dir       OpenAt without one, and Close
  create         OpenCreateAt, Close and UnlinkAt        mkdir       MkdirAt and UnlinkAt
  mknod, symlink, link, bind                             each with its UnlinkAt
  rename         there, and the next time back           readlink
  setstat        chmod                                   truncate    to nothing
  getdents=N     all of a directory of N entries (100), to its end
  pread=SIZE, pwrite=SIZE                                1 to 64m bytes (4k), through the server
  read-with=SIZE a PRead of 1 to 1m bytes (4k) that are looked at where they came in, not copied
  statfs, getxattr, setxattr, listxattr, fsync, allocate  removexattr after a setxattr
  close=N        a Close of N handles (10), at most 99   connect     and the accept for it
Handles that a walk or a create leaves are given up by the hundred, as the client does it.

Mixes (--mix) have the proportions that were counted in sandboxes: `exclusive` for a root file
system, `shared` for a bind mount, whose names are looked at again and again, and `readonly` for the
lower layer of an overlay. Their parts are shown one by one, too. What a mix leaves behind is removed
in between; that is not in the latencies, but it is in the CPU time.

Latencies are in µs, and count from when a request is sent to when its result can be used. With
--rate they count from when it should have been sent: a stall then shows in each request that it
delays. What counts from when it was sent is shown beside it, as service time.

Placement (--cpus): `free` leaves it to the scheduler, `same` puts server and clients on one CPU,
`apart` puts each on one of its own. A process that sees a single CPU never spins, whatever it is
told: what is polled for might need that CPU.

Other servers (--versus) are commands for a shell, in which {socket} and {dir} stand for where to
listen and what to serve. They end with their stdin, or with SIGTERM. In front of the command there
can be a label and a placement for this server, `LABEL: COMMAND` or `LABEL@PLACEMENT: COMMAND`. All
servers are measured in turns, in slices; a ratio is that of the p50, and behind it are the median of
the ratios of the slices, the smallest and the largest. The first server is what they are compared
with.

Exit status: 0 when all was measured, 1 when a server refused something (which is said on stderr), 2
for a wrong command line, or when a server does not answer. A closed pipe is no error.

Examples:
  lisafs-bench
      The usual operations, on a private gofer and a directory in memory
  lisafs-bench --ops fstat,open --wait park,spin=50 --floor
      Two ways to wait, and what is below both
  lisafs-bench --floor --versus 'Go@same: goserver --listen {socket} {dir}' \\
               --versus 'Go@apart: goserver --listen {socket} {dir}' --plot out.svg
      Another server, in both placements, and a picture
  lisafs-bench --ops fstat --rate 1000 --seconds 10 --wait park,spin=50
      Sparse load: what a policy costs when there is little to do
  lisafs-bench --ops fstat,create --threads 4 --channels 4
      Many at once
  lisafs-bench --connect /run/gofer.sock --mix shared --count 100000 --json out.json
      A server that is there already, and all that is known in a file";

/// Measures lisafs servers: latency, CPU time, memory, and the floor below them
///
/// Starts a gofer of its own on a directory (--serve), by default an empty one in memory, or talks
/// to a server that listens (--connect). Works in a directory that it makes there, through the
/// protocol, and removes in the end.
///
/// For every operation and server shows percentiles of the latency, the CPU time and the context
/// switches of both processes, and how the client waited for answers.
#[derive(Debug, Parser)]
#[command(
    name = "lisafs-bench",
    version,
    max_term_width = 100,
    after_help = "Try `lisafs-bench --help` for operations, mixes and examples.",
    after_long_help = MORE,
)]
#[command(group(ArgGroup::new("server").args(["connect", "serve"])))]
#[command(group(ArgGroup::new("how long").args(["seconds", "count"])))]
pub(crate) struct Args {
    /// Measure the server that listens on this socket
    #[arg(long, value_name = "SOCKET")]
    pub(crate) connect: Option<PathBuf>,

    /// Measure a gofer of our own on this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) serve: Option<PathBuf>,

    /// What to measure, with commas between: names as listed below, or `all`, or `none`
    #[arg(long, value_name = "LIST")]
    pub(crate) ops: Option<Ops>,

    /// Measure requests in real proportions: exclusive, shared or readonly
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) mix: Vec<Mix>,

    /// How many threads send requests, on one connection
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: u32,

    /// How many shared-memory channels the connection has at the most; 0 is the socket alone
    ///
    /// One for each thread unless said otherwise, but at most 4, which is what servers give.
    #[arg(long, value_name = "N")]
    pub(crate) channels: Option<usize>,

    /// How long to measure each operation on each server
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    pub(crate) seconds: Duration,

    /// How many to measure of each operation on each server, instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Send so many in a second, whether the last is answered or not: an open loop
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(crate) rate: Option<f64>,

    /// In how many slices the servers take turns
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) slices: u32,

    /// How the clients and our gofer wait for each other: adaptive, park, or spin=USEC
    ///
    /// With commas between several, one after the other is measured. Other servers are talked to
    /// with the first.
    #[arg(
        long,
        value_name = "HOW",
        default_value = "adaptive",
        value_delimiter = ','
    )]
    pub(crate) wait: Vec<WaitPolicy>,

    /// Where servers and clients run: free, same or apart; several with commas between
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "free",
        value_delimiter = ','
    )]
    pub(crate) cpus: Vec<Placement>,

    /// Measure what no request can beat: hand-overs between CPUs, and bare system calls
    ///
    /// Adds to each operation what it takes beyond the calls that it ends in. Who spins on the CPU
    /// of whom it waits for does so until the scheduler takes the CPU away, in milliseconds: that
    /// row is there to show why nobody does it.
    #[arg(long)]
    pub(crate) floor: bool,

    /// Measure another server as well, by turns; may be given several times
    #[arg(long, value_name = "COMMAND")]
    pub(crate) versus: Vec<Versus>,

    /// Time gVisor's own client against the same servers: the path of a built `gobench`
    ///
    /// It is in tests/interop/go. It sends --count of each of its operations, or 20000. It is
    /// started anew for each slice, because where it is placed when it starts decides how fast it is:
    /// the percentiles are of all slices, and beside them are the least, the median and the largest
    /// p50 of a slice. CPU time and waits of the server are for each that ran, its warm-up included.
    #[arg(long, value_name = "PATH")]
    pub(crate) go_client: Option<PathBuf>,

    /// Show how our gofer waited for requests as well
    ///
    /// Its counters (`lisafs-gofer serve --metrics`) are read before and after each slice. To keep
    /// them costs it about 0.01 µs of a request, which is why they have to be asked for. Other
    /// servers have none.
    #[arg(long, conflicts_with = "connect")]
    pub(crate) server_waits: bool,

    /// Watch each server with so many idle connections, all of their channels open
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) idle: Option<u16>,

    /// Keep each CPU busy with so many other processes meanwhile
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=64))]
    pub(crate) busy: u32,

    /// Write all that was measured to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draw the latencies, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

impl Args {
    /// What to measure beside mixes.
    pub(crate) fn ops(&self) -> Result<Vec<Op>, String> {
        match &self.ops {
            Some(ops) => Ok(ops.0.clone()),
            None if !self.mix.is_empty() => Ok(Vec::new()),
            None => USUAL.parse().map(|Ops(usual)| usual),
        }
    }

    pub(crate) fn channels(&self) -> usize {
        let threads = usize::try_from(self.threads).unwrap_or(usize::MAX);
        self.channels.unwrap_or(threads.min(4))
    }

    pub(crate) fn limit(&self) -> Limit {
        self.count.map_or(Limit::Time(self.seconds), Limit::Count)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|why| format!("{why}"))?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|time| (0.001..=86_400.0).contains(&time.as_secs_f64()))
        .ok_or_else(|| "from 0.001 to 86400".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(rate),
        _ => Err("from 0.001 to 100000000 in a second".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_help_names_every_operation() {
        let help = Args::command().render_long_help().to_string();
        let words: Vec<_> = help
            .split(|letter: char| letter != '-' && !letter.is_alphanumeric())
            .collect();
        for op in "all".parse::<Ops>().unwrap().0 {
            let op = op.to_string();
            let name = op.split('=').next().unwrap();
            assert!(words.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |arguments: &[&str]| {
            Args::try_parse_from([&["lisafs-bench"], arguments].concat()).is_err()
        };
        assert!(refused(&["--connect", "a", "--serve", "b"]));
        assert!(refused(&["--seconds", "1", "--count", "1"]));
        for seconds in ["0", "-1", "nan", "1e99", "x"] {
            assert!(refused(&["--seconds", seconds]), "{seconds}");
        }
        for rate in ["0", "nan", "inf", "x"] {
            assert!(refused(&["--rate", rate]), "{rate}");
        }
        assert!(!refused(&["--cpus", "same,apart", "--wait", "park,spin=5"]));
    }
}
