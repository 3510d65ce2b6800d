//! What a failed call leads to, where that is not its errno in the reply and nothing else.

use lisafs::Errno;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Refused with the errno of the call, and nothing has changed.
    Refused,
    /// Refused with another errno, and nothing has changed.
    RefusedAs(Errno),
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

use self::Outcome::{Aborted, Done, RefusedAs};

const EXCEPTIONS: &[Exception] = &[
    exception(
        &[""],
        &["close"],
        Done,
        "the descriptor is gone all the same, and nobody could do anything about it",
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
        ],
        RefusedAs(Errno::EPERM),
        "the identity cannot be taken on",
    ),
    exception(
        &["ConnectWithCreds"],
        &["capset", "setgroups", "setresgid", "setresuid"],
        Aborted,
        "a thread that cannot take its own identity back must not serve others with that of a client",
    ),
];

/// Why `outcome` is right, if it is.
pub(crate) fn reason(request: &str, call: &str, outcome: &Outcome) -> Option<&'static str> {
    if *outcome == Outcome::Refused {
        return Some("");
    }
    EXCEPTIONS
        .iter()
        .find(|row| {
            row.requests.iter().any(|name| request.starts_with(name))
                && row.calls.contains(&call)
                && *outcome == row.outcome
        })
        .map(|row| row.why)
}
