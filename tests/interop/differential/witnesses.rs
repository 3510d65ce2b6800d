//! The shortest sequences that come to the listed differences. Some of these are drawn rarely, and
//! whether one that is not seen is out of date should not be left to chance.

use super::step::{Step, Turn, UNKNOWN, WRONG_KIND};

/// The first ids of their kinds, and the first after the root that is no socket of this connection.
const ROOT: u8 = 0;
const FIRST: u8 = 0;
const CHILD: u8 = 1;
/// A BoundSocketFd where a ControlFd is due, and a ControlFd where an OpenFd is.
const BOUND: u8 = WRONG_KIND + 1;
const CONTROL: u8 = WRONG_KIND;

const ANY: u32 = 0;
const STREAM: u32 = 1;
const DGRAM: u32 = 2;

pub(super) fn witnesses() -> impl Iterator<Item = Vec<Turn>> {
    let turn = |step| Turn {
        by: 0,
        over: 0,
        step,
    };
    let sequences = [
        symlink(),
        deleted_file(),
        socket_file(),
        flush(),
        any_type(),
        vec![
            Step::Bind(ROOT, "a", STREAM, 0o755),
            Step::Listen(FIRST, 128),
            Step::ConnectAs(FIRST, ANY, 0, 0),
        ],
        without_capabilities(),
        below_a_closed_directory(),
    ];
    sequences
        .into_iter()
        .map(move |steps| steps.into_iter().map(turn).collect())
}

fn symlink() -> Vec<Step> {
    vec![
        Step::Symlink(ROOT, "a", "b"),
        Step::SetStat(CHILD, 0x200, 0, 0),
        Step::SetStat(CHILD, 2, 0o644, 0),
        Step::Unlink(ROOT, "a", 0),
        Step::ReadLink(CHILD),
        Step::ListXattr(CHILD, 0),
    ]
}

fn deleted_file() -> Vec<Step> {
    vec![
        Step::Create(ROOT, "a", 0, 0o644),
        Step::Unlink(ROOT, "a", 0),
        Step::Open(CHILD, 0),
    ]
}

fn socket_file() -> Vec<Step> {
    vec![
        Step::Bind(ROOT, "a", STREAM, 0o755),
        Step::Stat(BOUND),
        Step::Walk(ROOT, vec!["a"]),
        Step::SetStat(CHILD, 0x200, 0, 0),
        Step::Unlink(ROOT, "a", 0),
        Step::Open(CHILD, 0),
    ]
}

fn flush() -> Vec<Step> {
    vec![
        Step::Open(ROOT, 0),
        Step::Flush(FIRST),
        Step::Flush(UNKNOWN),
        Step::Flush(CONTROL),
    ]
}

fn any_type() -> Vec<Step> {
    vec![
        Step::Bind(ROOT, "a", STREAM, 0o755),
        Step::Connect(FIRST, ANY),
        Step::ConnectAs(FIRST, ANY, 0, 0),
        Step::Listen(FIRST, 128),
        Step::Connect(FIRST, ANY),
    ]
}

/// Nobody but root with its capabilities may connect to it.
fn without_capabilities() -> Vec<Step> {
    vec![
        Step::Bind(ROOT, "a", STREAM, 0),
        Step::ConnectAs(FIRST, STREAM, 0, 0),
        Step::ConnectAs(FIRST, ANY, 0, 0),
        Step::ConnectAs(FIRST, DGRAM, 0, 0),
        Step::Listen(FIRST, 128),
        Step::ConnectAs(FIRST, STREAM, 0, 0),
    ]
}

/// Everybody may connect to it who gets there.
fn below_a_closed_directory() -> Vec<Step> {
    vec![
        Step::Mkdir(ROOT, "a", 0),
        Step::Bind(CHILD, "b", STREAM, 0o777),
        Step::ConnectAs(FIRST, STREAM, 1234, 4321),
        Step::ConnectAs(FIRST, DGRAM, 1234, 4321),
        Step::Listen(FIRST, 128),
        Step::ConnectAs(FIRST, STREAM, 1234, 4321),
    ]
}
