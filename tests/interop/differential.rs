//! Random sequences of messages, sent to our server and to gVisor's, over equal trees in memory. Every
//! answer and the trees afterwards must be equal, but for the differences that are listed.
//!
//! The same sequences are drawn each time. `LISAFS_DIFFERENTIAL_CASES` asks for another number of them
//! than [`CASES`] for each server and communicator; with [`ALL_SEEN`] or more, a difference that is
//! listed and not seen fails as well. What fails is shrunk to the shortest sequence that does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Completion, Trial};
use lisafs::host::HostFs;
use lisafs::server::Server;
use lisafs_conformance::{Need, Session, Spawned, Stop, Target, Via};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tempfile::TempDir;

use crate::gvisor::Release;
use crate::player::{Player, Seen};
use crate::step::{Step, steps};
use crate::{POLICY, our_server, scratch};

/// How many sequences, as a rule.
const CASES: u32 = 192;

/// With how many of them each difference that is listed has to be seen: some are rare.
const ALL_SEEN: u32 = 900;

/// The longest sequence.
const STEPS: usize = 60;

pub(crate) fn trials(release: &'static Release) -> impl Iterator<Item = Trial> {
    Via::ALL.iter().map(move |&via| {
        let what = format!("_differential::{via}");
        if !nix::unistd::geteuid().is_root() {
            let why = "to gVisor's server without privileges modes matter that do not to ours";
            let name = format!("{}{what}", release.name);
            return Trial::ignorable_test(name, move || Ok(Completion::ignored_with(why)));
        }
        release.trial(&what, move || {
            let known = Known::of(release)?;
            let cases = match std::env::var("LISAFS_DIFFERENTIAL_CASES") {
                Ok(number) => number.parse().map_err(|_| "no number of cases")?,
                Err(_) => CASES,
            };
            let config = Config {
                cases,
                failure_persistence: None,
                ..Config::default()
            };
            let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            let outcome = TestRunner::new_with_rng(config, rng).run(&steps(STEPS), |steps| {
                let differs = compare(release, &known, via, &steps);
                differs.map_err(TestCaseError::fail)
            });
            outcome.map_err(|error| match error {
                TestError::Fail(why, steps) => {
                    // What depends on the steps alone is so each time.
                    let again = compare(release, &known, via, &steps);
                    format!("{why}\nwhen tried again: {again:?}\nafter these steps: {steps:#?}")
                }
                TestError::Abort(why) => why.to_string(),
            })?;
            if cases < CASES {
                return Ok(());
            }
            known.each_message_succeeded()?;
            if cases < ALL_SEEN {
                return Ok(());
            }
            known.each_difference_was_seen(release)
        })
    })
}

/// Our server, in this process.
struct Ours {
    dir: TempDir,
    running: Mutex<Vec<Server<HostFs>>>,
}

impl Target for Ours {
    fn name(&self) -> &str {
        "ours"
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        let (server, stream) = our_server(self.dir.path(), readonly).map_err(io::Error::other)?;
        self.running.lock().unwrap().push(server);
        Ok(stream)
    }

    fn host_dir(&self) -> Option<&Path> {
        Some(self.dir.path())
    }

    fn offers(&self, _: Need) -> bool {
        true
    }
}

/// Plays `steps` to both, as far as they agree.
fn compare(release: &Release, known: &Known, via: Via, steps: &[Step]) -> Result<(), String> {
    let memory = Path::new("/dev/shm");
    let (our_dir, their_dir) = (scratch(memory)?, scratch(memory)?);
    let our_tree = our_dir.path().to_owned();
    let ours: Arc<dyn Target> = Arc::new(Ours {
        dir: our_dir,
        running: Mutex::default(),
    });
    let command = release.server_command(their_dir.path(), &POLICY)?;
    let theirs: Arc<dyn Target> =
        Arc::new(Spawned::new(release.name, command).host_dir(their_dir.path().to_owned()));
    let stopped = |stop: Stop| format!("{stop:?}");
    let mut ours = Player::new(Session::open(&ours, via).map_err(stopped)?);
    let mut theirs = Player::new(Session::open(&theirs, via).map_err(stopped)?);
    let agreed = play(known, steps, &mut ours, &mut theirs)?;
    let trees = (tree(&our_tree)?, tree(their_dir.path())?);
    for player in [ours, theirs] {
        player.into_session().clean().map_err(stopped)?;
    }
    if agreed && trees.0 != trees.1 {
        return Err(format!(
            "the trees differ: ours {:#?}, gVisor's {:#?}",
            trees.0, trees.1
        ));
    }
    Ok(())
}

/// Whether both agreed to the end.
fn play(
    known: &Known,
    steps: &[Step],
    ours: &mut Player,
    theirs: &mut Player,
) -> Result<bool, String> {
    for (number, step) in steps.iter().enumerate() {
        let asked = theirs.offers(step) && (known.xattr || !step.is_about_xattr());
        if !asked || parts_them_for_good(step, ours) {
            continue;
        }
        let (our, their) = (ours.play(step), theirs.play(step));
        let answers = answers(step, &our, &their);
        let listed = known.differences.contains(&answers);
        known.seen.borrow_mut().insert(answers);
        if our == their {
            continue;
        }
        if listed {
            return Ok(false);
        }
        return Err(format!(
            "step {number}, {step:?}: ours {our:?}, gVisor's {their:?}"
        ));
    }
    Ok(true)
}

/// A rename between two names of one file changes nothing, but gVisor's server takes its target for
/// deleted from then on.
fn parts_them_for_good(step: &Step, ours: &mut Player) -> bool {
    match *step {
        Step::Rename(from, old, to, new) | Step::RenameWith(from, old, to, new, _) => {
            ours.are_links((from, old), (to, new))
        }
        _ => false,
    }
}

/// All that is below `dir`, in words.
fn tree(dir: &Path) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    // The session's directory is called differently in each.
    for session in fs::read_dir(dir).map_err(|error| error.to_string())? {
        let session = session.map_err(|error| error.to_string())?.path();
        describe(&session, "", &mut lines).map_err(|error| error.to_string())?;
    }
    lines.sort_unstable();
    Ok(lines)
}

fn describe(path: &Path, shown: &str, lines: &mut Vec<String>) -> io::Result<()> {
    let stat = fs::symlink_metadata(path)?;
    let (mode, nlink, owner) = (stat.mode(), stat.nlink(), (stat.uid(), stat.gid()));
    let kind = stat.file_type();
    let content = match (kind.is_file(), kind.is_symlink()) {
        // Nobody reads what only root could, or what is all holes.
        (true, _) if stat.len() > 1 << 20 => format!("{} bytes", stat.len()),
        (true, _) => match fs::read(path) {
            Ok(content) => format!("{content:?}"),
            Err(_) => format!("{} bytes", stat.len()),
        },
        (_, true) => format!("{:?}", fs::read_link(path)?),
        _ => String::new(),
    };
    lines.push(format!("{shown} {mode:o} {nlink} {owner:?} {content}"));
    if kind.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name();
            let shown = format!("{shown}/{}", name.to_string_lossy());
            describe(&entry.path(), &shown, lines)?;
        }
    }
    Ok(())
}

/// What is known of gVisor's server.
struct Known {
    /// Whether it has extended attributes. Without them it offers messages about them all the same.
    xattr: bool,
    /// The differences that are meant.
    differences: BTreeSet<Answers>,
    /// All that was answered.
    seen: RefCell<BTreeSet<Answers>>,
}

/// What each release was seen to answer differently, over each communicator that is through.
static DIFFERENCES_SEEN: Mutex<BTreeMap<&str, Vec<BTreeSet<Answers>>>> =
    Mutex::new(BTreeMap::new());

/// A message, our answer and gVisor's, each "ok" or an error.
type Answers = (String, String, String);

fn answers(step: &Step, ours: &Seen, theirs: &Seen) -> Answers {
    let word = |seen: &Seen| match seen {
        Ok(_) => "ok".to_owned(),
        Err(errno) => errno.clone(),
    };
    (step.mid().to_string(), word(ours), word(theirs))
}

impl Known {
    fn of(release: &Release) -> Result<Known, String> {
        let mut known = BTreeSet::new();
        let lines = include_str!("reply-differences.txt").lines();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [message, ours, theirs, reason] = fields[..] else {
                return Err(format!("not four fields: {line:?}"));
            };
            if reason.trim().is_empty() {
                return Err(format!("no reason: {line:?}"));
            }
            let message = match message.split_once(':') {
                Some((name, _)) if release.name != name => continue,
                Some((_, message)) => message,
                None => message,
            };
            known.insert((message.to_owned(), ours.to_owned(), theirs.to_owned()));
        }
        Ok(Known {
            xattr: release.xattr,
            differences: known,
            seen: RefCell::default(),
        })
    }

    /// Fails if a difference that is listed was seen over none of the communicators. The last of them
    /// finds out.
    fn each_difference_was_seen(&self, release: &Release) -> Result<(), String> {
        let mut seen = DIFFERENCES_SEEN
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let by_via = seen.entry(release.name).or_default();
        by_via.push(self.seen.borrow().clone());
        if by_via.len() < Via::ALL.len() {
            return Ok(());
        }
        let is_stale = |listed: &&Answers| !by_via.iter().any(|seen| seen.contains(*listed));
        let stale: Vec<_> = self.differences.iter().filter(is_stale).collect();
        if stale.is_empty() {
            Ok(())
        } else {
            Err(format!("listed, but never seen: {stale:?}"))
        }
    }

    /// Fails if a message never succeeded: nothing much was compared then.
    fn each_message_succeeded(&self) -> Result<(), String> {
        let seen = self.seen.borrow();
        let succeeds = |message: &String| {
            let success = (message.clone(), "ok".to_owned(), "ok".to_owned());
            seen.contains(&success)
        };
        match seen.iter().find(|(message, ..)| !succeeds(message)) {
            Some((message, ..)) => Err(format!("{message} never succeeded")),
            None => Ok(()),
        }
    }
}
