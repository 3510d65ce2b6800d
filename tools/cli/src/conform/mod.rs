//! `conform`.

mod results;
mod server;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueHint;
use lisafs_conformance::{Differences, Outcome, Target, cases, run_case};

use self::results::{Results, judge, object};
use self::server::Asked;
use crate::console::Console;
use crate::failure::Stop;
use crate::progress::counter;
use crate::session::Session;
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
/// With --start there is a server process for each connection, which is its standard input. That is
/// for servers in which one client can harm the others, as gVisor's are. No --connect, --fd or
/// --serve is given then.
///
/// A call that is not answered within ten seconds is cut off, and its case has failed.
///
/// Shows how the cases of each area ended, why some were skipped, which reasons the list of --known
/// gave, and what failed. With --json there is an object for each case, and at the end one with the
/// numbers.
///
/// Exits with 1 if something failed that is not listed. When it is interrupted, the case that is running is still
/// asked to its end, so that nothing of it stays; a second signal ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lisafs --serve /tmp/empty conform
  lisafs --connect /run/gofer.sock conform --host-dir /srv/data
  lisafs --connect /run/gofer.sock conform rename.
  lisafs conform --host-dir /tmp/empty \\
      --start 'lisafs-gofer serve --fd {fd} --host-uds all --host-fifo open {dir}' \\
      --start-read-only 'lisafs-gofer serve --fd {fd} --readonly --host-uds all --host-fifo open {dir}'
  lisafs conform --host-dir /var/tmp/empty --known tests/interop/differences.txt \\
      --start 'goserver --fd {fd} --host-uds all --host-fifo open {dir}' \\
      --start-read-only 'goserver --fd {fd} --readonly --host-uds all --host-fifo open {dir}'")]
pub(crate) struct Conform {
    /// Only the cases with this in their names, which are AREA.WHAT
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,

    /// Start this for each connection
    ///
    /// The words of COMMAND may be quoted as in a shell, but no shell sees them. The connection is its
    /// standard input: `{fd}` stands for the number of that, 0, and `{dir}` for the --host-dir. What
    /// it writes is thrown away, but see --server-log.
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    start: Option<OsString>,

    /// Start this for each connection that has to be read-only
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "start",
        value_hint = ValueHint::CommandString,
    )]
    start_read_only: Option<OsString>,

    /// Append what the servers of --start write on stderr to this file
    #[arg(long, value_name = "FILE", requires = "start", value_hint = ValueHint::FilePath)]
    server_log: Option<PathBuf>,

    /// The directory that is served, if this machine has it; for --connect and --start
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    host_dir: Option<PathBuf>,

    /// The socket of another server for the same directory, which is read-only; for --connect
    #[arg(long, value_name = "SOCKET", conflicts_with = "start", value_hint = ValueHint::FilePath)]
    read_only: Option<PathBuf>,

    /// A list of cases that have to fail, each with the reason
    ///
    /// On each line the name of a case, a tab, and the reason; `socket:` or `channel:` before the name
    /// limits it to one of the two. A case that is listed and does not fail is a failure.
    /// `tests/interop` has such lists for gVisor's servers.
    #[arg(long, visible_alias = "differences", value_name = "FILE", value_hint = ValueHint::FilePath)]
    known: Option<PathBuf>,
}

impl Conform {
    /// Whether it starts the servers itself, and needs no session.
    pub(crate) fn starts_servers(&self) -> bool {
        self.start.is_some()
    }

    /// Asks the server of the session, or those that it starts itself.
    pub(crate) fn run(&self, session: Option<&Session>, console: &mut Console) -> Result<(), Stop> {
        // A case that is cut off leaves its directory behind. There are no other threads yet.
        let interrupt = Interrupt::watch()?;
        let known = self.known()?;
        let asked = match session {
            Some(session) => Asked::of_session(self, session)?,
            None => Asked::started(self)?,
        };
        let probed = asked.probe()?;
        let known = known.of(&probed);
        let target: Arc<dyn Target> = Arc::new(probed);
        let all = cases();
        let questions: Vec<_> = all
            .iter()
            .filter(|case| case.name().contains(&self.filter))
            .flat_map(|case| case.vias().iter().map(move |via| (case, *via)))
            .collect();
        if questions.is_empty() {
            let filter = &self.filter;
            return Err(Stop::Trouble(format!("no case has `{filter}` in its name")));
        }
        let bar = counter(questions.len() as u64);
        let mut results = Results::default();
        for (case, via) in &questions {
            bar.set_message(case.name().to_owned());
            let outcome = run_case(&target, case, *via);
            if matches!(outcome, Outcome::Failed(_)) {
                asked.end_servers();
            }
            let judged = judge(&known, case.name(), *via, outcome);
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
        results.add_strangers(&known);
        if !results.is_good() {
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
                questions.len()
            ));
        }
        // Its servers end with it.
        drop((target, asked));
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
}
