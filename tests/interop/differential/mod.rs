//! Random sequences of messages, sent to our server and to gVisor's over two connections to equal trees
//! in memory. Every answer and the trees afterwards must be equal, but for the differences that are
//! listed, each of which has a sequence of its own that comes to it.
//!
//! The same sequences are drawn each time, or others with a number as `LISAFS_DIFFERENTIAL_SEED`.
//! `LISAFS_DIFFERENTIAL_CASES` asks for another number of them than [`CASES`] for each server and
//! communicator, and for the counts of what was sent. What fails is shrunk to the shortest sequence that
//! does.

mod files;
mod known;
mod names;
mod player;
mod seat;
mod sequence;
mod servers;
mod sockets;
mod step;
mod tree;
mod witnesses;

use std::str::FromStr;

use libtest_mimic::{Completion, Trial};
use lisafs_conformance::Via;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::gvisor::Release;
use known::Known;
use player::Player;
use sequence::turns;
use servers::{Ours, Served, Theirs};
use step::Turn;
use tree::tree;
use witnesses::witnesses;

/// How many sequences, as a rule.
const CASES: u32 = 160;

/// The longest sequence.
const STEPS: usize = 120;

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
            for witness in witnesses() {
                compare(release, &known, via, &witness)?;
            }
            known.each_difference_was_seen()?;
            let asked = number("LISAFS_DIFFERENTIAL_CASES")?;
            let cases = asked.unwrap_or(CASES);
            let seed = number("LISAFS_DIFFERENTIAL_SEED")?;
            draw(release, &known, via, cases, seed)?;
            if asked.is_some() {
                println!(
                    "{} over {via}: {cases} sequences, {}",
                    release.name,
                    known.counts()
                );
            }
            if cases < CASES {
                return Ok(());
            }
            known.each_message_succeeded()
        })
    })
}

/// The number that is in a variable of the environment, if there is such a variable.
fn number<N: FromStr>(variable: &str) -> Result<Option<N>, String> {
    match std::env::var(variable) {
        Ok(text) => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!("{variable} is {text:?}, which is no number")),
        },
        Err(_) => Ok(None),
    }
}

/// Draws `cases` sequences, as far as all is well.
fn draw(
    release: &Release,
    known: &Known,
    via: Via,
    cases: u32,
    seed: Option<u64>,
) -> Result<(), String> {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = match seed {
        Some(seed) => TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(); 4].concat()),
        None => TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    };
    let outcome = TestRunner::new_with_rng(config, rng).run(&turns(STEPS), |turns| {
        let differs = compare(release, known, via, &turns);
        differs.map_err(TestCaseError::fail)
    });
    outcome.map_err(|error| match error {
        TestError::Fail(why, turns) => {
            // What depends on the steps alone is so each time.
            let again = compare(release, known, via, &turns);
            format!("{why}\nwhen tried again: {again:?}\nafter these steps: {turns:#?}")
        }
        TestError::Abort(why) => why.to_string(),
    })
}

/// Plays `turns` to both, as far as they agree.
fn compare(release: &Release, known: &Known, via: Via, turns: &[Turn]) -> Result<(), String> {
    let (ours, theirs) = (Ours::start()?, Theirs::start(release)?);
    let mut players = (Player::new(&ours, via)?, Player::new(&theirs, via)?);
    known.meet(&players.1);
    if !play(known, turns, &mut players.0, &mut players.1)? {
        return Ok(());
    }
    let trees = (tree(ours.dir())?, tree(theirs.dir())?);
    if trees.0 == trees.1 {
        Ok(())
    } else {
        let (ours, theirs) = trees;
        Err(format!(
            "the trees differ: ours {ours:#?}, gVisor's {theirs:#?}"
        ))
    }
}

/// Whether both agreed to the end.
fn play(
    known: &Known,
    turns: &[Turn],
    ours: &mut Player,
    theirs: &mut Player,
) -> Result<bool, String> {
    for (number, turn) in turns.iter().enumerate() {
        let step = &turn.step;
        if !known.answers(step) || ours.would_part(turn) {
            continue;
        }
        let added = ours.goes_over_added(turn);
        let (our, their) = (ours.play(turn), theirs.play(turn));
        known.sent(turn, added);
        let listed = known.is_listed(step, &our, &their);
        if our == their {
            continue;
        }
        if !listed {
            return Err(format!(
                "step {number}, {turn:?}: ours {our:?}, gVisor's {their:?}"
            ));
        }
        // What fails has no side effects.
        if !step.changes_nothing() && (our.is_ok() || their.is_ok()) {
            return Ok(false);
        }
    }
    Ok(true)
}
