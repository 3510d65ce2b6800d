//! What a sandbox is made of, and what has become of each of it.
#![forbid(unsafe_code)]

use std::fmt;

use caps::Capability;
use tracing::{info, warn};

use super::caps::TO_CONNECT;

/// A part of the sandbox that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Namespaces,
    PivotRoot,
    Groups,
    Capabilities,
    Process,
    NoNewPrivs,
    Landlock,
    Seccomp,
}

impl Layer {
    /// In the order in which they are told.
    pub(crate) const ALL: [Layer; 8] = [
        Layer::Namespaces,
        Layer::PivotRoot,
        Layer::Groups,
        Layer::Capabilities,
        Layer::Process,
        Layer::NoNewPrivs,
        Layer::Landlock,
        Layer::Seccomp,
    ];

    /// What the log, the metrics and `check` call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Layer::Namespaces => "namespaces",
            Layer::PivotRoot => "pivot_root",
            Layer::Groups => "groups",
            Layer::Capabilities => "capabilities",
            Layer::Process => "process",
            Layer::NoNewPrivs => "no_new_privs",
            Layer::Landlock => "landlock",
            Layer::Seccomp => "seccomp",
        }
    }
}

/// What no_new_privs is good for.
pub(crate) const NO_NEW_PRIVS: &str = "programs give no privileges";

/// Which capabilities are left of those that were to be kept, if any.
pub(crate) fn capabilities(some_are_left: bool, kept: &[Capability]) -> String {
    let connects = TO_CONNECT
        .iter()
        .all(|capability| kept.contains(capability));
    let what = match (some_are_left, connects) {
        (false, _) => "none",
        (true, false) => "no more than files of other owners take",
        (true, true) => "no more than files of other owners and connecting as others take",
    };
    what.to_owned()
}

/// Why a layer is not there, and what can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}: {advice}")]
pub(crate) struct Missing {
    pub(crate) why: String,
    pub(crate) advice: String,
}

impl Missing {
    pub(crate) fn new(why: impl fmt::Display, advice: impl Into<String>) -> Missing {
        Missing {
            why: why.to_string(),
            advice: advice.into(),
        }
    }
}

/// What has become of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) layer: Layer,
    /// What is in force.
    pub(crate) outcome: Result<String, Missing>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, advice) = match &self.outcome {
            Ok(what) => (what, None),
            Err(missing) => (&missing.why, Some(missing.advice.as_str())),
        };
        f.write_str(&line(self.layer.name(), what, advice))
    }
}

/// What is said of a layer, under one another: `what` is in force, or why it is not, and then there is
/// `advice`.
pub(crate) fn line(layer: &str, what: &str, advice: Option<&str>) -> String {
    let width = Layer::ALL.map(|layer| layer.name().len()).into_iter().max();
    let width = width.unwrap_or_default();
    match advice {
        None => format!("{layer:width$}  in force: {what}"),
        Some(advice) => format!("{layer:width$}  missing: {what}: {advice}"),
    }
}

/// What has become of all that were tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) states: Vec<State>,
}

impl Report {
    pub(crate) fn note(&mut self, layer: Layer, outcome: Result<String, Missing>) {
        self.states.push(State { layer, outcome });
    }

    /// Logs what the sandbox is made of.
    pub(crate) fn log(&self) {
        for state in &self.states {
            match &state.outcome {
                Ok(_) => info!("sandbox: {state}"),
                Err(_) => warn!("sandbox: {state}"),
            }
        }
    }

    pub(crate) fn has(&self, layer: Layer) -> bool {
        let mut states = self.states.iter();
        states.any(|state| state.layer == layer && state.outcome.is_ok())
    }

    /// Whether nothing is missing.
    pub(crate) fn is_complete(&self) -> bool {
        Layer::ALL.into_iter().all(|layer| self.has(layer))
    }
}
