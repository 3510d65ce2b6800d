//! What a failed call leads to, where that is not its errno in the reply and nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use lisafs::Errno;
use lisafs::wire::SetStat;

use super::call::PROBED;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Refused with the errno of the call, and nothing has changed.
    Refused,
    /// Refused with another errno, and nothing has changed.
    RefusedAs(Errno),
    /// Refused with the errno of the call, and what had been made was removed again: of the files that
    /// were there before, the times tell.
    Undone,
    /// All was done but these attributes, of which the client was told, with the errno of the call.
    Partly(SetStat),
    /// As if nothing had failed.
    Done,
    /// The server has ended itself.
    Aborted,
}

/// A failure that is not simply passed on.
struct Exception {
    /// The beginnings of the names of the requests.
    requests: &'static [&'static str],
    calls: &'static [&'static str],
    outcome: Outcome,
    why: &'static str,
}

const fn exception(
    requests: &'static [&'static str],
    calls: &'static [&'static str],
    outcome: Outcome,
    why: &'static str,
) -> Exception {
    Exception {
        requests,
        calls,
        outcome,
        why,
    }
}

use self::Outcome::{Aborted, Done, Partly, RefusedAs, Undone};

const OWNER: SetStat = SetStat::UID.union(SetStat::GID);
const TIMES: SetStat = SetStat::ATIME.union(SetStat::MTIME);

const EXCEPTIONS: &[Exception] = &[
    exception(
        &[""],
        &["close"],
        Done,
        "the descriptor is gone all the same, and nobody could do anything about it",
    ),
    exception(
        &[
            "OpenCreateAt",
            "MkdirAt",
            "MknodAt",
            "SymlinkAt",
            "LinkAt",
            "BindAt",
        ],
        &["openat", "statx"],
        Undone,
        "what was made cannot be looked at, and is removed again",
    ),
    exception(
        &["OpenCreateAt", "MkdirAt", "BindAt"],
        &["fchownat", "fchmodat", "fchmodat2", "fstat"],
        Undone,
        "what was made is not as was asked for, and is removed again",
    ),
    exception(
        &["BindAt, long name"],
        &["renameat2"],
        Undone,
        "a long name is given to a socket that was bound to a short one",
    ),
    exception(
        &["SetStat, all"],
        &["openat", "statx", "ftruncate"],
        Partly(SetStat::SIZE),
        "the answer says what was not set",
    ),
    exception(
        &["SetStat, all"],
        &["fchownat"],
        Partly(OWNER),
        "the answer says what was not set",
    ),
    exception(
        &["SetStat, all"],
        &["fchmodat", "fchmodat2"],
        Partly(SetStat::MODE),
        "the answer says what was not set",
    ),
    exception(
        &["SetStat, all"],
        &["utimensat"],
        Partly(TIMES),
        "the answer says what was not set",
    ),
    exception(
        &["OpenCreateAt", "MknodAt"],
        &["open_tree"],
        Done,
        "the new file is opened by the path of its descriptor then",
    ),
    exception(
        &["UnlinkAt", "RenameAt over another"],
        &["openat", "statx"],
        Done,
        "a file that cannot be opened before it loses its name is stale from then on",
    ),
    exception(
        &["RenameAt"],
        &["statx"],
        Done,
        "whether both names were of one file is asked afterwards, and matters to the tree alone",
    ),
    exception(
        &["Mount"],
        &["openat"],
        Done,
        "a root that may not be read is donated as an O_PATH descriptor",
    ),
    exception(
        &["Getdents64"],
        &["listmount", "statmount", "statx"],
        Done,
        "an entry that may be a mount point is looked at, and told as the directory has it otherwise",
    ),
    exception(
        &["Getdents64"],
        &["getdents64"],
        Done,
        "what was read before it is told, and the next request meets the error",
    ),
    exception(
        &["PRead"],
        &["pread64"],
        Done,
        "what was read before it is told",
    ),
    exception(
        &["Channel"],
        &["clone3"],
        Done,
        "the C library takes clone(2) where there is no clone3(2)",
    ),
    exception(
        &["Channel"],
        &["clone", "clone3"],
        RefusedAs(Errno::EAGAIN),
        "the C library says so, whatever keeps a thread from being started",
    ),
    exception(
        &["ConnectWithCreds"],
        &[
            "getresuid",
            "getresgid",
            "getgroups",
            "setgroups",
            "setresgid",
            "setresuid",
            "prctl",
        ],
        RefusedAs(Errno::EPERM),
        "the identity cannot be taken on",
    ),
    exception(
        &["ConnectWithCreds"],
        &["prctl"],
        Done,
        "the thread has its own identity back, and that the process may be dumpable is logged",
    ),
    exception(
        &["ConnectWithCreds"],
        &["capset", "setgroups", "setresgid", "setresuid"],
        Aborted,
        "a thread that cannot take its own identity back must not serve others with that of a client",
    ),
];

/// What the exceptions were good for in a run.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Which parts of which rows.
    used: Mutex<BTreeSet<(usize, Part)>>,
}

/// A part of a row that has to be good for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Requests(&'static str),
    Call(&'static str),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Requests(name) => write!(f, "requests {name:?}"),
            Part::Call(name) => write!(f, "{name}"),
        }
    }
}

impl Expected {
    /// Whether `outcome` is right.
    pub(crate) fn allows(&self, request: &str, call: &str, outcome: &Outcome) -> bool {
        if *outcome == Outcome::Refused {
            return true;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut allows = false;
        for (index, row) in EXCEPTIONS.iter().enumerate() {
            let names = row
                .requests
                .iter()
                .filter(|name| request.starts_with(**name));
            let calls = row.calls.iter().filter(|name| **name == call);
            if row.outcome == *outcome {
                let parts = names.flat_map(|name| {
                    let call = calls.clone().map(|call| Part::Call(call));
                    call.flat_map(|call| [Part::Requests(name), call])
                });
                for part in parts {
                    used.insert((index, part));
                    allows = true;
                }
            }
        }
        allows
    }

    /// What no request has needed, in a run in which these calls of these requests have failed; `complete`
    /// if those are all that there are.
    pub(crate) fn unused(&self, failed: &BTreeSet<(&str, &str)>, complete: bool) -> Unused {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unused = Unused::default();
        for (index, row) in EXCEPTIONS.iter().enumerate() {
            let has_failed = |names: &[&str], calls: &[&str]| {
                failed.iter().any(|(request, call)| {
                    names.iter().any(|name| request.starts_with(name)) && calls.contains(call)
                })
            };
            let requests = row.requests.iter().map(|name| {
                let met = has_failed(&[*name], row.calls);
                (Part::Requests(name), met || complete)
            });
            let calls = row.calls.iter().map(|call| {
                // This kernel may not have those that are looked for.
                let is_certain = PROBED.iter().all(|probed| probed.name != *call);
                let met = has_failed(row.requests, &[*call]);
                (Part::Call(call), met || complete && is_certain)
            });
            for (part, is_needless) in requests.chain(calls) {
                if !used.contains(&(index, part)) {
                    let all = if is_needless {
                        &mut unused.needless
                    } else {
                        &mut unused.out_of_reach
                    };
                    all.push(format!("{part} of {:?}: {}", row.outcome, row.why));
                }
            }
        }
        unused
    }
}

/// Exceptions, or parts of them, that a run has not come upon.
#[derive(Debug, Default)]
pub(crate) struct Unused {
    /// The call has failed for the request and never with that outcome, or is not made at all.
    pub(crate) needless: Vec<String>,
    /// The request could not be made here, or this kernel does not have the call.
    pub(crate) out_of_reach: Vec<String>,
}
