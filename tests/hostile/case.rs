//! One attack, and how it ended.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Failed};
use lisafs_conformance::{Stop, Verdict};

use crate::stage::{Begin, Program, Stage};

/// How often what has to be tried often is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// All cases in a minute, for every build.
    Short,
    /// The full counts.
    Long,
}

/// What is done to a server.
#[derive(Clone)]
pub(crate) enum Attack {
    /// By a function.
    Own(fn(&mut Stage) -> Verdict),
    /// By cases of the conformance suite, all whose name begins so.
    Conformance(&'static str),
}

/// An attack with what it needs.
#[derive(Clone)]
pub(crate) struct Case {
    name: &'static str,
    /// The rows of [`crate::attacks`] that it answers.
    pub(crate) numbers: &'static [&'static str],
    /// The words that the server is started with.
    options: &'static [&'static str],
    /// What is mounted below the directory that it serves.
    mounts: &'static [&'static str],
    /// How many descriptors it may have.
    descriptors: Option<u32>,
    /// Why gVisor's server cannot be attacked like this.
    pub(crate) ours_only: Option<&'static str>,
    attack: Attack,
}

impl Case {
    pub(crate) const fn new(
        name: &'static str,
        numbers: &'static [&'static str],
        attack: fn(&mut Stage) -> Verdict,
    ) -> Case {
        Case {
            name,
            numbers,
            options: &[],
            mounts: &[],
            descriptors: None,
            ours_only: None,
            attack: Attack::Own(attack),
        }
    }

    /// Cases of the conformance suite, in one server process.
    pub(crate) const fn conformance(
        prefix: &'static str,
        numbers: &'static [&'static str],
    ) -> Case {
        Case {
            name: prefix,
            numbers,
            options: &["--host-uds", "all", "--host-fifo", "open"],
            mounts: &[],
            descriptors: None,
            ours_only: None,
            attack: Attack::Conformance(prefix),
        }
    }

    pub(crate) const fn options(mut self, options: &'static [&'static str]) -> Case {
        self.options = options;
        self
    }

    /// With a file system of its own on each of these names, which can be told to hang. Mounted before
    /// the server starts: one in a sandbox sees no others.
    pub(crate) const fn mounts(mut self, names: &'static [&'static str]) -> Case {
        self.mounts = names;
        self
    }

    /// With a limit of the system's, as `ulimit -n` sets it.
    pub(crate) const fn descriptors(mut self, most: u32) -> Case {
        self.descriptors = Some(most);
        self
    }

    pub(crate) const fn ours_only(mut self, why: &'static str) -> Case {
        self.ours_only = Some(why);
        self
    }

    /// Without the numbers of what it is about.
    pub(crate) fn plain_name(&self) -> String {
        let sort = match self.attack {
            Attack::Own(_) => "",
            Attack::Conformance(_) => "conformance::",
        };
        format!("{sort}{}", self.name)
    }

    /// With the numbers of what it is about.
    pub(crate) fn full_name(&self) -> String {
        format!("{}::{}", self.numbers.join("+"), self.plain_name())
    }

    /// Attacks a server that is started for it.
    pub(crate) fn run(&self, program: &Program, scale: Scale, seed: u64) -> Outcome {
        let mut outcome = Outcome {
            case: self.full_name(),
            server: program.name(),
            skipped: None,
            left_out: Vec::new(),
            faults: Vec::new(),
            rpcs: 0,
            tries: 0,
            took: Duration::ZERO,
        };
        let since = Instant::now();
        let begin = Begin {
            case: self.name,
            options: self.options,
            mounts: self.mounts,
            descriptors: self.descriptors,
        };
        let mut stage = match Stage::set(program, begin, scale, seed) {
            Ok(stage) => stage,
            Err(Stop::Skipped(why)) => {
                outcome.skipped = Some(why);
                return outcome;
            }
            Err(Stop::Failed(why)) => {
                let why = format!("no stage: {why}");
                outcome.faults.push(Fault::new(Sort::Wrong, why));
                return outcome;
            }
        };
        let verdict = catch_unwind(AssertUnwindSafe(|| match self.attack {
            Attack::Own(attack) => attack(&mut stage),
            Attack::Conformance(prefix) => stage.conformance(prefix),
        }));
        match verdict {
            Ok(Ok(())) => {}
            Ok(Err(Stop::Skipped(why))) => outcome.skipped = Some(why),
            Ok(Err(Stop::Failed(why))) => outcome.faults.push(Fault::new(Sort::Wrong, why)),
            Err(_) => outcome
                .faults
                .push(Fault::new(Sort::Wrong, "the case itself panicked")),
        }
        outcome.faults.extend(stage.settle());
        (outcome.rpcs, outcome.tries) = (stage.rpcs(), stage.tries());
        outcome.left_out = stage.take_left_out();
        outcome.took = since.elapsed();
        outcome
    }
}

/// In which way a server has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    /// It did or answered something else than it should.
    Wrong,
    /// It is dead.
    Crash,
    /// It does not answer.
    Hang,
    /// It has logged a bug of its own.
    Panic,
    /// It has kept something.
    Leak,
    /// It has let itself be led out of what it serves.
    Escape,
}

impl Sort {
    pub(crate) const ALL: [Sort; 6] = [
        Sort::Wrong,
        Sort::Crash,
        Sort::Hang,
        Sort::Panic,
        Sort::Leak,
        Sort::Escape,
    ];
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Sort::Wrong => "wrong",
            Sort::Crash => "crash",
            Sort::Hang => "hang",
            Sort::Panic => "panic",
            Sort::Leak => "leak",
            Sort::Escape => "escape",
        })
    }
}

/// A failure.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) sort: Sort,
    pub(crate) why: String,
}

impl Fault {
    pub(crate) fn new(sort: Sort, why: impl Into<String>) -> Fault {
        let why = why.into();
        Fault { sort, why }
    }
}

/// How a case ended for a server.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) case: String,
    pub(crate) server: &'static str,
    pub(crate) skipped: Option<String>,
    /// What of it could not be run, and why.
    pub(crate) left_out: Vec<String>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) rpcs: u64,
    /// Attempts that could have gone wrong each for itself.
    pub(crate) tries: u64,
    pub(crate) took: Duration,
}

impl Outcome {
    pub(crate) fn completion(&self) -> Result<Completion, Failed> {
        let faults = self.faults.iter();
        let lines: Vec<_> = faults
            .map(|fault| format!("{}: {}", fault.sort, fault.why))
            .collect();
        match (&self.skipped, lines.is_empty()) {
            (_, false) => Err(lines.join("\n").into()),
            (Some(why), true) => Ok(Completion::ignored_with(why)),
            (None, true) => Ok(Completion::Completed),
        }
    }
}
