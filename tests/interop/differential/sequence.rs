//! What sequences are drawn.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::step::{CLOSED, Choice, Kind, Name, Step, Turn, UNKNOWN};

fn choice() -> impl Strategy<Value = Choice> {
    // The more ids there are, the more do the low numbers mean old ones.
    prop_oneof![20 => 0u8..12, 8 => 12..CLOSED, 1 => CLOSED..=UNKNOWN]
}

/// One of a directory: mostly the root, which the connection has first.
fn dir() -> impl Strategy<Value = Choice> {
    prop_oneof![1 => Just(0), 1 => choice()]
}

fn name() -> impl Strategy<Value = Name> {
    // A NUL byte is left to `tests/conformance`: gVisor's server leaves it to the host.
    let bad = vec!["", ".", "..", "a/b"];
    prop_oneof![30 => select(vec!["a", "b", "c", "d"]), 1 => select(bad)]
}

fn path() -> impl Strategy<Value = Vec<Name>> {
    vec(name(), 0..4)
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..20_000, 1 => select(vec![i64::MAX as u64, 1 << 63, u64::MAX])]
}

fn flags() -> impl Strategy<Value = u32> {
    // O_RDONLY, O_WRONLY, O_RDWR, each with O_TRUNC, and what is to be dropped.
    select(vec![0, 1, 2, 2, 0o1000, 0o1001, 0o1002, 0o2001, 0o4002])
}

/// For what is made. Set-id bits are left to `tests/conformance`: gVisor's server loses them.
fn mode() -> impl Strategy<Value = u16> {
    select(vec![0o644, 0o600, 0o755, 0o777, 0o1777, 0o400, 0])
}

fn changed_mode() -> impl Strategy<Value = u16> {
    prop_oneof![3 => mode(), 1 => select(vec![0o4755, 0o2750])]
}

/// Any message about any file, that many out of some 50 about sockets.
fn step(sockets: u32) -> impl Strategy<Value = Step> {
    let making = prop_oneof![
        (dir(), name(), flags(), mode()).prop_map(|(d, n, f, m)| Step::Create(d, n, f, m)),
        (dir(), name(), mode()).prop_map(|(d, n, m)| Step::Mkdir(d, n, m)),
        (
            dir(),
            name(),
            select(vec![0o100_644, 0o100_400, 0o020_600, 0o010_644, 0o644])
        )
            .prop_map(|(d, n, m)| Step::Mknod(d, n, m)),
        (dir(), name(), select(vec!["a", "../b", "/", ""]))
            .prop_map(|(d, n, t)| Step::Symlink(d, n, t)),
        (dir(), choice(), name()).prop_map(|(d, f, n)| Step::Link(d, f, n)),
    ];
    let naming = prop_oneof![
        (dir(), name(), select(vec![0, 0, 0x200, 0x200, 1, 0x1000]))
            .prop_map(|(d, n, f)| Step::Unlink(d, n, f)),
        (dir(), name(), dir(), name()).prop_map(|(d, n, e, m)| Step::Rename(d, n, e, m)),
        (dir(), name(), dir(), name(), 0u32..4)
            .prop_map(|(d, n, e, m, f)| Step::RenameWith(d, n, e, m, f)),
    ];
    let finding = prop_oneof![
        (dir(), path()).prop_map(|(d, p)| Step::Walk(d, p)),
        (dir(), path()).prop_map(|(d, p)| Step::WalkStat(d, p)),
        choice().prop_map(Step::Stat),
        choice().prop_map(Step::StatOpen),
        choice().prop_map(Step::ReadLink),
        choice().prop_map(Step::StatFs),
        (choice(), prop_oneof![Just(0), flags()]).prop_map(|(f, o)| Step::Open(f, o)),
        Just(Step::Open(0, 0)),
    ];
    let data = prop_oneof![
        (choice(), offset(), 0usize..5000).prop_map(|(f, o, l)| Step::Read(f, o, l)),
        // Nobody wants files of 2^63 bytes, but they are wanted to be refused.
        (choice(), offset(), 0usize..5000).prop_map(|(f, o, l)| Step::Write(f, o, l)),
        (
            choice(),
            select(vec![0, 1, 3, 1 << 20]),
            0u64..20_000,
            0u64..9000
        )
            .prop_map(|(f, m, o, l)| Step::Allocate(f, m, o, l)),
        choice().prop_map(Step::Sync),
        (choice(), select(vec![4096, -4096, 280, -280])).prop_map(|(f, c)| Step::Getdents(f, c)),
        choice().prop_map(Step::Flush),
        vec((kind(), choice()), 1..4).prop_map(Step::Close),
    ];
    // One attribute at a time: the order of several is a difference that is known.
    let one = select(vec![0u32, 2, 8, 16, 0x200, 0x200, 1]);
    let attributes = prop_oneof![
        (choice(), one, changed_mode(), 0u64..9000).prop_map(|(f, what, m, s)| Step::SetStat(
            f,
            what,
            m.into(),
            s
        )),
        (choice(), attribute(), select(vec![0u32, 3, 4096]))
            .prop_map(|(f, n, s)| Step::GetXattr(f, n, s)),
        (choice(), attribute(), 0usize..300, 0u32..3)
            .prop_map(|(f, n, l, how)| Step::SetXattr(f, n, l, how)),
        (choice(), select(vec![0u64, 3, 4096])).prop_map(|(f, s)| Step::ListXattr(f, s)),
        (choice(), attribute()).prop_map(|(f, n)| Step::RemoveXattr(f, n)),
    ];
    let session = prop_oneof![2 => Just(Step::Mount), 3 => Just(Step::Channel)];
    prop_oneof![
        8 => making,
        6 => naming,
        10 => finding,
        8 => data,
        6 => attributes,
        sockets => socket(),
        2 => session,
    ]
}

/// What is about sockets: mostly the same few, so that what listens is connected to.
fn socket() -> impl Strategy<Value = Step> {
    let which = || prop_oneof![5 => 0u8..2, 1 => choice()];
    // As many can wait as there are steps: gVisor's server connects for good where nobody accepts.
    let backlog = select(vec![128, 1000, -1]);
    prop_oneof![
        3 => (dir(), name(), select(vec![1u32, 1, 1, 2, 5, 3]), mode())
            .prop_map(|(d, n, t, m)| Step::Bind(d, n, t, m)),
        2 => (which(), backlog).prop_map(|(s, b)| Step::Listen(s, b)),
        3 => which().prop_map(Step::Accept),
        4 => (which(), sock_type()).prop_map(|(s, t)| Step::Connect(s, t)),
        1 => (which(), sock_type(), select(vec![0u32, 1234]), select(vec![0u32, 4321]))
            .prop_map(|(s, t, u, g)| Step::ConnectAs(s, t, u, g)),
    ]
}

fn sock_type() -> impl Strategy<Value = u32> {
    // Any type, which is 0, parts the servers.
    prop_oneof![30 => Just(1), 6 => select(vec![2, 5]), 1 => select(vec![0, 7])]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![5 => Just(Kind::Control), 4 => Just(Kind::Open), 1 => Just(Kind::Bound)]
}

fn attribute() -> impl Strategy<Value = Name> {
    prop_oneof![6 => Just("user.a"), 1 => select(vec!["user.b", "user.", "nodot"])]
}

/// A sequence of up to `longest` of them, by one connection or the other, each over any of its
/// communicators. It takes many steps about sockets until something can be accepted.
pub(super) fn turns(longest: usize) -> impl Strategy<Value = Vec<Turn>> {
    prop_oneof![
        4 => vec(turn(step(3)), 1..=longest),
        1 => vec(turn(step(60)), 1..=longest),
    ]
}

fn turn(step: impl Strategy<Value = Step>) -> impl Strategy<Value = Turn> {
    let by = prop_oneof![2 => Just(0usize), 1 => Just(1)];
    let over = prop_oneof![1 => Just(0usize), 1 => 0usize..12];
    (by, over, step).prop_map(|(by, over, step)| Turn { by, over, step })
}
