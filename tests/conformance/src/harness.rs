//! The cases as tests of a test binary, which is to be declared with `harness = false`.

use core::fmt;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::case::cases;
use crate::differences::Differences;
use crate::run::{Outcome, run_case};
use crate::target::Target;

/// A server, and what is known of it.
pub struct Subject {
    target: Arc<dyn Target>,
    known: Differences,
}

impl Subject {
    /// A server that must pass every case.
    #[must_use]
    pub fn new(target: Arc<dyn Target>) -> Subject {
        Subject {
            target,
            known: Differences::default(),
        }
    }

    /// Lists the cases that must fail.
    #[must_use]
    pub fn knowing(mut self, known: Differences) -> Subject {
        self.known = known.of(&*self.target);
        self
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("target", &self.target.name())
            .field("known", &self.known)
            .finish()
    }
}

/// Runs all cases against all servers: the `main` of a test. Takes the arguments of libtest; a case
/// is called `server::communicator::area.what`, and a skipped one is shown as ignored with the
/// reason.
#[must_use]
pub fn main(subjects: Vec<Subject>) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = subjects.into_iter().flat_map(trials).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The cases against one server, for a `main` that has other tests besides.
#[must_use]
pub fn trials(subject: Subject) -> Vec<Trial> {
    let Subject { target, known } = subject;
    let name = target.name().to_owned();
    let known = Arc::new(known);
    let strangers: Vec<String> = known.strangers().map(str::to_owned).collect();
    let mut trials = vec![Trial::test(format!("{name}::differences"), move || {
        if strangers.is_empty() {
            Ok(())
        } else {
            Err(format!("no such cases: {}", strangers.join(" ")).into())
        }
    })];
    for case in cases() {
        for &via in case.vias() {
            let (case, target, known) = (case.clone(), Arc::clone(&target), Arc::clone(&known));
            let name = format!("{name}::{via}::{}", case.name());
            trials.push(Trial::ignorable_test(name, move || {
                completion(known.judge(case.name(), via, run_case(&target, &case, via)))
            }));
        }
    }
    trials
}

fn completion(judged: Result<Outcome, String>) -> Result<Completion, Failed> {
    match judged? {
        Outcome::Passed => Ok(Completion::Completed),
        Outcome::Skipped(why) => Ok(Completion::ignored_with(why)),
        Outcome::Failed(why) => Err(why.into()),
    }
}
