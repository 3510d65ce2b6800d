//! The steps of random sequences. They name files and ids by choice, not by value, so that any part
//! of a sequence is a sequence.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Chooses among the ids that there are so far: one of the kind that the message takes, or, for the
/// highest numbers, one of the other kind or of nothing.
pub(crate) type Choice = u8;

/// The first that is no choice among the ids of the right kind.
pub(crate) const WRONG_KIND: Choice = 248;
/// The one for an id of nothing.
pub(crate) const UNKNOWN: Choice = 255;

type Name = &'static str;

/// One message.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Stat(Choice),
    StatOpen(Choice),
    SetStat(Choice, u32, u32, u64),
    Walk(Choice, Vec<Name>),
    WalkStat(Choice, Vec<Name>),
    Open(Choice, u32),
    Create(Choice, Name, u32, u16),
    Mkdir(Choice, Name, u16),
    Mknod(Choice, Name, u16),
    Symlink(Choice, Name, &'static str),
    Link(Choice, Choice, Name),
    Unlink(Choice, Name, u32),
    Rename(Choice, Name, Choice, Name),
    RenameWith(Choice, Name, Choice, Name, u32),
    Read(Choice, u64, usize),
    Write(Choice, u64, usize),
    Allocate(Choice, u64, u64, u64),
    Sync(Choice),
    StatFs(Choice),
    ReadLink(Choice),
    Getdents(Choice, i32),
    GetXattr(Choice, Name, u32),
    SetXattr(Choice, Name, usize, u32),
    ListXattr(Choice, u64),
    RemoveXattr(Choice, Name),
    CloseOpen(Choice),
}

fn choice() -> impl Strategy<Value = Choice> {
    // The more ids there are, the more do the low numbers mean old ones.
    prop_oneof![20 => 0u8..12, 8 => 12..WRONG_KIND, 1 => WRONG_KIND..=UNKNOWN]
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

/// Any message about any file.
fn step() -> impl Strategy<Value = Step> {
    let making = prop_oneof![
        (choice(), name(), flags(), mode()).prop_map(|(d, n, f, m)| Step::Create(d, n, f, m)),
        (choice(), name(), mode()).prop_map(|(d, n, m)| Step::Mkdir(d, n, m)),
        (
            choice(),
            name(),
            select(vec![0o100_644, 0o100_400, 0o020_600, 0o010_644, 0o644])
        )
            .prop_map(|(d, n, m)| Step::Mknod(d, n, m)),
        (choice(), name(), select(vec!["a", "../b", "/", ""]))
            .prop_map(|(d, n, t)| Step::Symlink(d, n, t)),
        (choice(), choice(), name()).prop_map(|(d, f, n)| Step::Link(d, f, n)),
    ];
    let naming = prop_oneof![
        (
            choice(),
            name(),
            select(vec![0, 0, 0x200, 0x200, 1, 0x1000])
        )
            .prop_map(|(d, n, f)| Step::Unlink(d, n, f)),
        (choice(), name(), choice(), name()).prop_map(|(d, n, e, m)| Step::Rename(d, n, e, m)),
        (choice(), name(), choice(), name(), 0u32..4)
            .prop_map(|(d, n, e, m, f)| Step::RenameWith(d, n, e, m, f)),
    ];
    let finding = prop_oneof![
        (choice(), path()).prop_map(|(d, p)| Step::Walk(d, p)),
        (choice(), path()).prop_map(|(d, p)| Step::WalkStat(d, p)),
        choice().prop_map(Step::Stat),
        choice().prop_map(Step::StatOpen),
        choice().prop_map(Step::ReadLink),
        choice().prop_map(Step::StatFs),
        (choice(), flags()).prop_map(|(f, o)| Step::Open(f, o)),
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
        choice().prop_map(Step::CloseOpen),
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
    prop_oneof![4 => making, 3 => naming, 5 => finding, 4 => data, 3 => attributes]
}

fn attribute() -> impl Strategy<Value = Name> {
    prop_oneof![6 => Just("user.a"), 1 => select(vec!["user.b", "user.", "nodot"])]
}

/// A sequence of up to `longest` of them.
pub(crate) fn steps(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=longest)
}
