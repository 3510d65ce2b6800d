//! `conform`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueHint;
use flipcall::WaitPolicy;
use lisafs_conformance::{
    Differences, Need, Outcome, Probed, Spawned, Target, Via, cases, run_case,
};
use lisafs_gofer::Embedded;
use serde_json::{Map, Value};

use crate::console::Console;
use crate::failure::Stop;
use crate::json::Object;
use crate::progress::counter;
use crate::session::{Origin, Session, THIS_PROGRAM, no_server};
use crate::signals::Interrupt;

/// Ask the server whether it does what the protocol asks
///
/// Runs the conformance suite: each case over a connection of its own, over the socket and over a
/// channel, in a directory that it makes in the root of what is served and removes afterwards. So
/// the server has to let files be made, and to accept one connection after the other.
///
/// What the server is not meant to do is found out before, and its cases are skipped: whether it
/// gives files to others, binds and connects sockets, opens FIFOs, and has extended attributes. With
/// --host-dir, what it did is looked at behind its back as well. With --serve a private gofer is
/// asked, which may do all of it.
///
/// Shows how the cases of each area ended, why some were skipped, and what failed. With --json there
/// is an object for each case, and at the end one with the numbers.
///
/// Exits with 1 if something failed. When it is interrupted, the case that is running is still
/// asked to its end, so that nothing of it stays; a second signal ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lisafs --serve /tmp/empty conform
  lisafs --connect /run/gofer.sock conform --host-dir /srv/data
  lisafs --connect /run/gofer.sock conform rename.")]
pub(crate) struct Conform {
    /// Only the cases with this in their names, which are AREA.WHAT
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,

    /// The directory that is served, if this machine has it and the server is reached by --connect
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    host_dir: Option<PathBuf>,

    /// The socket of another server for the same directory, which is read-only
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    read_only: Option<PathBuf>,

    /// A list of cases that have to fail, each with the reason
    ///
    /// On each line the name of a case, a tab, and the reason; `socket:` or `channel:` before the name
    /// limits it to one of the two. A case that is listed and does not fail is a failure.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    known: Option<PathBuf>,
}

/// A server that listens, and perhaps another one that is read-only.
struct Listening {
    name: String,
    socket: PathBuf,
    read_only: Option<PathBuf>,
    host_dir: Option<PathBuf>,
}

impl Target for Listening {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        match &self.read_only {
            Some(socket) if readonly => UnixStream::connect(socket),
            None if readonly => Err(io::ErrorKind::Unsupported.into()),
            _ => UnixStream::connect(&self.socket),
        }
    }

    fn host_dir(&self) -> Option<&Path> {
        self.host_dir.as_deref()
    }

    fn offers(&self, need: Need) -> bool {
        match need {
            Need::HostAccess => self.host_dir.is_some(),
            Need::ReadOnly => self.read_only.is_some(),
            Need::SharedTree => true,
            // Nothing is known of the rest.
            _ => false,
        }
    }
}

/// How cases ended.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: u64,
    known: u64,
    failed: u64,
    skipped: u64,
}

/// How a case ended, beside the list of those that have to fail.
enum Judged {
    Passed,
    Known(String),
    Failed(String),
    Skipped(String),
}

/// What came of all cases.
#[derive(Default)]
struct Results {
    /// Of each area, over the socket and over a channel.
    areas: BTreeMap<String, [Tally; 2]>,
    /// How often each reason to skip a case was given.
    skipped: BTreeMap<String, u64>,
    failures: Vec<String>,
}

impl Conform {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        // A case that is cut off leaves its directory behind. There are no other threads yet.
        let interrupt = Interrupt::watch()?;
        let known = self.known()?;
        let target = self.target(session)?;
        let probed = Probed::new(target).map_err(|why| {
            let why = match why {
                lisafs_conformance::Stop::Failed(why) | lisafs_conformance::Stop::Skipped(why) => {
                    why
                }
            };
            Stop::Trouble(format!("{}: cannot be asked: {why}", session.name()))
        })?;
        let known = known.of(&probed);
        let target: Arc<dyn Target> = Arc::new(probed);
        let all = cases();
        let asked: Vec<_> = all
            .iter()
            .filter(|case| case.name().contains(&self.filter))
            .flat_map(|case| case.vias().iter().map(move |via| (case, *via)))
            .collect();
        if asked.is_empty() {
            let filter = &self.filter;
            return Err(Stop::Trouble(format!("no case has `{filter}` in its name")));
        }
        let bar = counter(asked.len() as u64);
        let mut results = Results::default();
        for (case, via) in &asked {
            bar.set_message(case.name().to_owned());
            let judged = judge(&known, case.name(), *via, run_case(&target, case, *via));
            bar.inc(1);
            if console.is_json() {
                console.object(object(case.name(), *via, &judged))?;
                // It takes minutes until all are there, and nobody may be reading.
                console.flush()?;
            }
            results.add(case.name(), *via, judged);
            if interrupt.came() {
                break;
            }
        }
        bar.finish_and_clear();
        let strangers = known
            .strangers()
            .map(|name| format!("{name}: no such case"));
        results.failures.extend(strangers);
        if !results.failures.is_empty() {
            console.say_no();
        }
        if console.is_json() {
            console.object(results.object())?;
        } else {
            results.print(self.known.is_some(), console)?;
        }
        console.flush()?;
        if interrupt.came() {
            console.note(&format!(
                "interrupted: {} of {} cases were asked",
                results.count(),
                asked.len()
            ));
        }
        // Its gofers end with it.
        drop(target);
        interrupt.heed();
        Ok(())
    }

    fn known(&self) -> Result<Differences, Stop> {
        let Some(path) = &self.known else {
            return Ok(Differences::default());
        };
        let parsed = fs::read_to_string(path)
            .map_err(|why| lisafs::Errno::from(&why).to_string())
            .and_then(|text| text.parse::<Differences>().map_err(|why| why.to_string()));
        parsed.map_err(|why| Stop::Trouble(format!("{}: {why}", path.display())))
    }

    fn target(&self, session: &Session) -> Result<Arc<dyn Target>, Stop> {
        let name = session.name().to_owned();
        match session.origin() {
            Origin::Inherited(_) => Err(Stop::Trouble(
                "--fd: each case needs a connection: use --connect or --serve".to_owned(),
            )),
            Origin::Listening(socket) => {
                for socket in [Some(socket), self.read_only.as_ref()]
                    .into_iter()
                    .flatten()
                {
                    UnixStream::connect(socket).map_err(|why| {
                        Stop::Trouble(format!("{}: {}", socket.display(), no_server(&why)))
                    })?;
                }
                Ok(Arc::new(Listening {
                    name,
                    socket: socket.clone(),
                    read_only: self.read_only.clone(),
                    host_dir: self.host_dir.clone(),
                }))
            }
            Origin::Private(server) => {
                let dir = &server.dir;
                if self.host_dir.is_some() || self.read_only.is_some() {
                    let why = "--host-dir and --read-only are for --connect: of a private server they \
                               are known";
                    return Err(Stop::Trouble(why.to_owned()));
                }
                // Each gofer would say so, and nobody would hear it.
                let found = fs::canonicalize(dir).and_then(|dir| fs::read_dir(&dir).map(|_| dir));
                let dir = found.map_err(|why| {
                    let why = lisafs::Errno::from(&why);
                    Stop::Trouble(format!("{name}: cannot serve it: {why}"))
                })?;
                let command = |more: &[&str]| private(&dir, session.wait(), more);
                Ok(Arc::new(
                    Spawned::new(&name, command(&[]))
                        .readonly(command(&["--readonly"]))
                        .host_dir(dir.clone()),
                ))
            }
        }
    }
}

/// The words that start a gofer that may do all that cases ask for.
fn private(dir: &Path, wait: WaitPolicy, more: &[&str]) -> Vec<OsString> {
    let mut command = Embedded::command(THIS_PROGRAM);
    command
        .args(["--fd", "0", "--host-uds", "all", "--host-fifo", "open"])
        .args(["--wait", &wait.to_string()])
        .args(more)
        .arg("--")
        .arg(dir);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsString::from).collect()
}

fn judge(known: &Differences, case: &str, via: Via, outcome: Outcome) -> Judged {
    match (known.judge(case, via, outcome.clone()), outcome) {
        (Err(why), _) => Judged::Failed(why),
        (Ok(_), Outcome::Failed(_)) => {
            Judged::Known(known.reason(case, via).unwrap_or_default().to_owned())
        }
        (Ok(Outcome::Skipped(why)), _) => Judged::Skipped(why),
        (Ok(_), _) => Judged::Passed,
    }
}

fn object(case: &str, via: Via, judged: &Judged) -> Object {
    let (outcome, why) = match judged {
        Judged::Passed => ("passed", None),
        Judged::Known(why) => ("known", Some(why)),
        Judged::Failed(why) => ("failed", Some(why)),
        Judged::Skipped(why) => ("skipped", Some(why)),
    };
    let object = Object::new()
        .set("case", case)
        .set("communicator", via.to_string())
        .set("outcome", outcome);
    match why {
        Some(why) => object.set("why", why.as_str()),
        None => object,
    }
}

impl Tally {
    fn plus(self, other: Tally) -> Tally {
        Tally {
            passed: self.passed + other.passed,
            known: self.known + other.known,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }

    fn object(self) -> Object {
        Object::new()
            .set("passed", self.passed)
            .set("known", self.known)
            .set("failed", self.failed)
            .set("skipped", self.skipped)
    }

    /// The columns of a table, in which nothing is a dot.
    fn columns(self, known: bool) -> String {
        let cell = |count: u64| match count {
            0 => ".".to_owned(),
            count => count.to_string(),
        };
        let known = match known {
            true => format!(" {:>6}", cell(self.known)),
            false => String::new(),
        };
        format!(
            "{:>8}{known} {:>7} {:>7}",
            cell(self.passed),
            cell(self.failed),
            cell(self.skipped)
        )
    }
}

impl Results {
    fn add(&mut self, case: &str, via: Via, judged: Judged) {
        let area = case.split('.').next().unwrap_or(case).to_owned();
        let [socket, channel] = self.areas.entry(area).or_default();
        let tally = match via {
            Via::Socket => socket,
            Via::Channel => channel,
        };
        match judged {
            Judged::Passed => tally.passed += 1,
            Judged::Known(_) => tally.known += 1,
            Judged::Failed(why) => {
                tally.failed += 1;
                self.failures.push(format!("{case} over the {via}: {why}"));
            }
            Judged::Skipped(why) => {
                tally.skipped += 1;
                *self.skipped.entry(why).or_default() += 1;
            }
        }
    }

    fn total(&self) -> [Tally; 2] {
        let none = [Tally::default(); 2];
        let areas = self.areas.values();
        areas.fold(none, |[socket, channel], [over_socket, over_channel]| {
            [socket.plus(*over_socket), channel.plus(*over_channel)]
        })
    }

    /// How many cases ended.
    fn count(&self) -> u64 {
        let [socket, channel] = self.total();
        let Tally {
            passed,
            known,
            failed,
            skipped,
        } = socket.plus(channel);
        passed + known + failed + skipped
    }

    fn object(&self) -> Object {
        let both = |[socket, channel]: [Tally; 2]| {
            let object = Object::new().set("socket", socket.object());
            Value::from(object.set("channel", channel.object()))
        };
        let areas = self
            .areas
            .iter()
            .map(|(area, tallies)| (area.clone(), both(*tallies)));
        let areas: Map<String, Value> = areas.collect();
        let [socket, channel] = self.total();
        socket.plus(channel).object().set("areas", areas)
    }

    fn print(&self, known: bool, console: &mut Console) -> Result<(), Stop> {
        let header = match known {
            true => "  passed  known  failed skipped",
            false => "  passed  failed skipped",
        };
        let width = header.len();
        console.line(&format!(
            "{:14}{:>width$}   {:>width$}",
            "", "over the socket", "over a channel"
        ))?;
        console.line(&format!("{:14}{header}   {header}", "area"))?;
        let total = ("total".to_owned(), self.total());
        let areas = self
            .areas
            .iter()
            .map(|(area, tallies)| (area.clone(), *tallies));
        for (area, [socket, channel]) in areas.chain([total]) {
            let (socket, channel) = (socket.columns(known), channel.columns(known));
            console.line(&format!("{area:14}{socket}   {channel}"))?;
        }
        if !self.skipped.is_empty() {
            console.line("\nskipped:")?;
        }
        for (why, count) in &self.skipped {
            console.line(&format!("{count:>5}  {why}"))?;
        }
        if !self.failures.is_empty() {
            console.line("\nfailed:")?;
        }
        for failure in &self.failures {
            console.line(&format!("  {failure}"))?;
        }
        Ok(())
    }
}
