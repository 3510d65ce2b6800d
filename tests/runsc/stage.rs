//! A case with either gofer, and the comparison.

use std::path::PathBuf;

use libtest_mimic::{Completion, Failed, Trial};

use crate::bundle;
use crate::command::Finished;
use crate::probe;
use crate::sandbox::Runsc;
use crate::subject::{Release, Subject};

/// On what a case runs.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) release: Release,
    pub(crate) platform: &'static str,
    pub(crate) subject: Subject,
    pub(crate) binary: PathBuf,
}

impl Stage {
    pub(crate) fn new(release: Release, platform: &'static str) -> Stage {
        Stage {
            release,
            platform,
            subject: Subject::Stock,
            binary: PathBuf::new(),
        }
    }

    /// A `runsc` that uses its gofer for all that it can be used for.
    pub(crate) fn runsc(&self) -> Result<Runsc, String> {
        let runsc = Runsc::new(&self.binary, self.platform)?;
        Ok(match self.release {
            Release::Debian => runsc,
            Release::Head => runsc.flag("--directfs=false").flag("--overlay2=none"),
        })
    }
}

/// What a case makes of a stage: to be the same with either gofer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What the containers said.
    pub(crate) said: Vec<String>,
    /// What is on the host afterwards, as [`tree_hash`](crate::tree_hash) has it.
    pub(crate) tree: Vec<String>,
}

impl Seen {
    /// Notes what a process said that has succeeded.
    pub(crate) fn success(&mut self, finished: Finished) -> Result<(), String> {
        self.said.push(finished.success()?);
        Ok(())
    }

    /// The same, with what it has to have said.
    pub(crate) fn says(&mut self, finished: Finished, expected: &str) -> Result<(), String> {
        let said = finished.success()?;
        if said != expected {
            return Err(format!("said {said:?} in place of {expected:?}"));
        }
        self.said.push(said);
        Ok(())
    }

    /// Notes what a process said that has failed, as it should.
    pub(crate) fn failure(&mut self, finished: Finished) -> Result<(), String> {
        if finished.status.success() {
            return Err(format!("succeeded: {}", finished.stdout));
        }
        self.said
            .push(format!("{:?} {}", finished.status.code(), finished.stdout));
        Ok(())
    }
}

/// What is done, with either gofer.
pub(crate) type Act = fn(&Stage) -> Result<Seen, String>;

/// The same with what it captures.
type AnyAct = dyn Fn(&Stage) -> Result<Seen, String> + Send;

/// Something that has to work.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) act: Box<AnyAct>,
}

/// A case as a test: ignored, with the reason, where something is not installed; in CI it fails
/// then.
pub(crate) fn trial(case: Case) -> Trial {
    Trial::ignorable_test(case.name.clone(), move || {
        let missing = bundle::missing()
            .or_else(|| probe::program().err())
            .or_else(|| case.stage.release.runsc().err());
        match missing {
            Some(reason) if std::env::var_os("CI").is_some() => Err(Failed::from(reason)),
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => compare(&case)
                .map(|()| Completion::Completed)
                .map_err(Failed::from),
        }
    })
}

fn compare(case: &Case) -> Result<(), String> {
    let stock = act(case, Subject::Stock)?;
    let ours = act(case, Subject::Ours)?;
    if stock.said != ours.said {
        return Err(format!(
            "the container said, with gVisor's gofer:\n{}\nwith ours:\n{}",
            stock.said.join("\n"),
            ours.said.join("\n"),
        ));
    }
    let only = |these: &[String], those: &[String]| {
        let lines = these.iter().filter(|line| !those.contains(line));
        lines.take(20).cloned().collect::<Vec<_>>().join("\n")
    };
    if stock.tree == ours.tree {
        Ok(())
    } else {
        Err(format!(
            "left on the host, only with gVisor's gofer:\n{}\nonly with ours:\n{}",
            only(&stock.tree, &ours.tree),
            only(&ours.tree, &stock.tree),
        ))
    }
}

fn act(case: &Case, subject: Subject) -> Result<Seen, String> {
    let stock = case.stage.release.runsc()?;
    let mut stage = case.stage.clone();
    stage.subject = subject;
    stage.binary = subject.runsc(stock)?;
    (case.act)(&stage).map_err(|why| format!("with the gofer called {}: {why}", subject.name()))
}
