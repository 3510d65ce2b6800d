//! What a server is attacked with, by number, and what stops each.
//!
//! The numbers `A1` to `A30` are the attack surface of the reference server; `A2-1` to `A2-18` are
//! the defects that it still has, and `A3-1` to `A3-10` the tests that follow from them.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cases;
use crate::sources::Sources;

/// What stops an attack, besides the cases that name its number.
enum Answer {
    /// The cases.
    Cases,
    /// There is no value of the type for what it takes, so it cannot be written.
    Type(fn() -> &'static str, &'static str),
    /// The same for a type that only the server sees: where it is declared, and how.
    Private(&'static str, &'static str, &'static str),
    /// A test that is not about one client and one server process.
    Test(&'static str),
    /// Nothing, on purpose.
    Accepted(&'static str),
}

use self::Answer::{Accepted, Cases, Private, Test, Type};

/// A row for each number: what it is, and the answers.
const ATTACKS: &[(&str, &str, &[Answer])] = &[
    ("A1", "lengths of frames", &[Cases]),
    (
        "A2",
        "memory that changes while it is read",
        &[
            Cases,
            Type(
                type_name::<flipcall::SharedBytes<'_>>,
                "it lends no reference to what is shared",
            ),
        ],
    ),
    (
        "A3",
        "the state word",
        &[
            Cases,
            Test("transport/tests/loom.rs"),
            Test("transport/src/futex.rs"),
        ],
    ),
    (
        "A4",
        "the file behind a window",
        &[Cases, Test("transport/tests/hostile_peer.rs")],
    ),
    (
        "A5",
        "channels that are never used or have died",
        &[
            Cases,
            Test("transport/tests/discard.rs"),
            Test("tests/server/windows.rs"),
        ],
    ),
    (
        "A6",
        "descriptors that are not taken",
        &[Cases, Test("tests/server/donations.rs")],
    ),
    (
        "A7",
        "too many descriptors and ids",
        &[
            Cases,
            Test("tests/server/totals.rs"),
            Test("src/host/tests/moved.rs"),
        ],
    ),
    (
        "A8",
        "large counts in small requests",
        &[Cases, Test("tests/server/main.rs")],
    ),
    (
        "A9",
        "descriptors of the client's",
        &[Cases, Test("tests/server/abandoned.rs")],
    ),
    (
        "A10",
        "arithmetic",
        &[Cases, Test("tests/wire_properties.rs")],
    ),
    ("A11", "replies that do not fit", &[Cases]),
    (
        "A12",
        "ids guessed before they are given out",
        &[
            Cases,
            Private(
                "src/server/fds.rs",
                "struct Pending<",
                "ids are taken from private memory, and published when the reply is complete",
            ),
            Test("tests/server/main.rs"),
        ],
    ),
    ("A13", "deep trees", &[Cases]),
    (
        "A14",
        "operations by paths that are stale",
        &[Cases, Test("src/host/tests/named.rs")],
    ),
    (
        "A15",
        "names",
        &[
            Cases,
            Type(
                type_name::<lisafs::wire::Name<'_>>,
                "a back end is given no other name",
            ),
        ],
    ),
    (
        "A16",
        "symlinks and mounts",
        &[Cases, Test("src/host/tests/filesystem.rs")],
    ),
    (
        "A17",
        "host calls that wait",
        &[Cases, Test("tests/server/ends.rs")],
    ),
    (
        "A18",
        "the lock of renames",
        &[
            Cases,
            Test("src/server/rename_lock/tests.rs"),
            Test("transport/src/wait/tests/bought.rs"),
        ],
    ),
    (
        "A19",
        "panics",
        &[Cases, Test("tests/server/panics/mod.rs")],
    ),
    (
        "A20",
        "signals",
        &[Cases, Test("tools/gofer/tests/gofer/sandbox.rs")],
    ),
    ("A21", "writing read-only", &[Cases]),
    (
        "A22",
        "owners and modes",
        &[Cases, Test("tests/host/ownership.rs")],
    ),
    ("A23", "flags", &[Cases]),
    (
        "A24",
        "namespaces of extended attributes",
        &[
            Cases,
            Test("src/host/tests/xattr.rs"),
            Test("tools/gofer/tests/sandbox/attributes.rs"),
        ],
    ),
    (
        "A25",
        "special files",
        &[Cases, Test("src/host/tests/open.rs")],
    ),
    (
        "A26",
        "floods of the log",
        &[Cases, Test("tools/gofer/src/panics.rs")],
    ),
    (
        "A27",
        "what replies give away",
        &[Cases, Test("tests/host/sockets.rs")],
    ),
    (
        "A28",
        "identities towards host daemons",
        &[
            Cases,
            Test("tests/host/sockets.rs"),
            Test("src/host/tests/mod.rs"),
            Test("tests/faults"),
        ],
    ),
    (
        "A29",
        "disk space",
        &[Cases, Accepted("a quota of the host is the host's")],
    ),
    ("A30", "closing at the wrong moment", &[Cases]),
    ("A2-1", "8 bytes kill the gofer", &[Cases]),
    ("A2-2", "8 bytes cost 2 GiB", &[Cases]),
    ("A2-3", "a read count that wraps", &[Cases]),
    ("A2-4", "success for a deleted link", &[Cases]),
    ("A2-5", "FStat of a bound socket", &[Cases]),
    ("A2-6", "one descriptor for two ids", &[Cases]),
    ("A2-7", "sockets that are never released", &[Cases]),
    ("A2-8", "a late release takes the new node along", &[Cases]),
    ("A2-9", "Getdents without a bound", &[Cases]),
    ("A2-10", "ids read back from shared memory", &[Cases]),
    ("A2-11", "a value of 65,536 bytes", &[Cases]),
    ("A2-12", "connecting with the gofer's identity", &[Cases]),
    ("A2-13", "host paths", &[Cases]),
    ("A2-14", "opened before looked at", &[Cases]),
    ("A2-15", "smaller leaks, floods and waits", &[Cases]),
    (
        "A2-16",
        "a stat for each entry",
        &[Cases, Test("tests/compare-listing")],
    ),
    (
        "A2-17",
        "mounts that come later",
        &[Accepted(
            "the root is the directory that was there at the start",
        )],
    ),
    (
        "A2-18",
        "system calls with any argument",
        &[Test("tools/gofer/src/jail")],
    ),
    ("A3-1", "truncation and lengths of all messages", &[Cases]),
    ("A3-2", "every message for every state", &[Cases]),
    (
        "A3-3",
        "a census around everything",
        &[Cases, Test("tests/host/failures.rs"), Test("tests/faults")],
    ),
    ("A3-4", "a mutator beside the server", &[Cases]),
    ("A3-5", "swaps", &[Cases]),
    ("A3-6", "directories of 66,000", &[Cases]),
    ("A3-7", "kills at random", &[Cases]),
    (
        "A3-8",
        "the process at its start",
        &[
            Test("tools/gofer/tests/gofer"),
            Test("tools/gofer/tests/sandbox"),
        ],
    ),
    (
        "A3-9",
        "the newest kernel",
        &[Accepted(
            "every test runs on the kernel that the machine of `.ci/run` has, which it prints, and no other",
        )],
    ),
    (
        "A3-10",
        "the same requests to gVisor's server",
        &[
            Test("tests/interop/conformance.rs"),
            Test("tests/interop/differential"),
        ],
    ),
];

/// What is known of a number.
pub(crate) struct Row {
    pub(crate) number: &'static str,
    pub(crate) what: &'static str,
    answers: &'static [Answer],
}

impl Row {
    /// The files with tests, besides the cases.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &'static str> {
        self.answers.iter().filter_map(|answer| match answer {
            Test(path) => Some(*path),
            _ => None,
        })
    }
}

pub(crate) fn rows() -> impl Iterator<Item = Row> {
    ATTACKS.iter().map(|&(number, what, answers)| Row {
        number,
        what,
        answers,
    })
}

/// Whether each number has an answer, each answer exists, and each case a number that there is.
///
/// # Errors
/// Names all that is wrong.
pub(crate) fn check() -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut answered: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases::all() {
        for number in case.numbers {
            *answered.entry(number).or_default() += 1;
        }
        if case.numbers.is_empty() {
            wrong.push(format!("{} answers nothing", case.full_name()));
        }
    }
    let expected = (1..=30)
        .map(|number| format!("A{number}"))
        .chain((1..=18).map(|number| format!("A2-{number}")))
        .chain((1..=10).map(|number| format!("A3-{number}")));
    let listed: Vec<_> = ATTACKS.iter().map(|(number, ..)| *number).collect();
    let missing = expected.filter(|number| !listed.contains(&number.as_str()));
    wrong.extend(missing.map(|number| format!("{number} is not in the table")));
    let strangers = answered.keys().filter(|number| !listed.contains(*number));
    wrong.extend(strangers.map(|number| format!("{number} is no attack")));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let sources = Sources::read().map_err(|why| format!("the sources: {why}"))?;
    for (number, what, answers) in ATTACKS {
        let named = answers.iter().any(|answer| matches!(answer, Cases));
        let cases = answered.get(number).copied().unwrap_or(0);
        if named != (cases > 0) {
            wrong.push(format!("{number} ({what}) has {cases} cases"));
        }
        for answer in *answers {
            match answer {
                Cases => {}
                Test(path) if sources.has_tests(path) => {}
                Test(path) => wrong.push(format!("{number} ({what}): there is no test in {path}")),
                Private(path, declared, _)
                    if !fs::read_to_string(repository.join(path))
                        .is_ok_and(|text| text.contains(declared)) =>
                {
                    wrong.push(format!("{number} ({what}): no {declared} in {path}"));
                }
                // That the type exists is what the compiler says.
                Type(name, why) => {
                    if why.is_empty() {
                        wrong.push(format!("{number} ({what}): why {} stops it", name()));
                    }
                }
                Private(_, _, why) | Accepted(why) => {
                    if why.is_empty() {
                        wrong.push(format!("{number} ({what}): no reason"));
                    }
                }
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// What the gofer logs each time: the file, how many lines, and why a client cannot have them repeated.
const LOGGED: &[(&str, usize, &str)] = &[
    ("jail/layers.rs", 2, "once for each layer, at the start"),
    ("lib.rs", 1, "the last line of all"),
    ("metrics/exporter.rs", 1, "its thread ends with it"),
    (
        "runsc/connections.rs",
        2,
        "once for each mount, and at the end",
    ),
    ("runsc/handshake.rs", 1, "at the end"),
    ("runsc/hooks.rs", 1, "once for each hook, at the start"),
    ("runsc/log.rs", 1, "the last line of all"),
    ("runsc/serve.rs", 3, "at the start"),
    ("serve.rs", 6, "at the start, and for signals"),
    ("socket_name.rs", 1, "at the end"),
    ("trace.rs", 1, "what was asked for with `--trace`"),
    (
        "turn.rs",
        1,
        "once for each socket, at the start and at the end",
    ),
];

/// Whether what a client has the library and the gofer log is bounded, but for lines that it cannot have
/// repeated.
///
/// # Errors
/// Names the files.
pub(crate) fn check_log() -> Result<(), String> {
    let sources = Sources::read().map_err(|why| format!("the sources: {why}"))?;
    let found: Vec<_> = sources.logging().collect();
    if found != [Path::new("src/host/creds.rs")] {
        return Err(format!("logged each time in {found:?}"));
    }
    let found = sources.logging_in_gofer();
    let known: BTreeMap<_, _> = LOGGED
        .iter()
        .map(|&(file, lines, _)| (file, lines))
        .collect();
    if found == known {
        Ok(())
    } else {
        Err(format!(
            "the gofer logs each time {found:?}, and {known:?} is known"
        ))
    }
}
