//! The words that a request can have, by choice.

use lisafs::wire::StringArrayBuf;

use crate::step::Choice;

/// The names that files have, and some that none can have.
const NAMES: [&[u8]; 18] = [
    b"f",
    b"d",
    b"e",
    b"l",
    b"a",
    b"b",
    b"up",
    b"secret",
    b"socket",
    b"root",
    b"p",
    b"..",
    b"",
    b".",
    b"../outside",
    b"d/f",
    b"/",
    b"nul\0",
];

/// Where symlinks lead.
const TARGETS: [&[u8]; 8] = [
    b"f",
    b"d",
    b"..",
    b"../outside/file",
    b"/",
    b"/proc/self/root",
    b"/proc/self/fd/3",
    b"",
];

const XATTRS: [&[u8]; 6] = [
    b"user.a",
    b"user.b",
    b"trusted.a",
    b"security.capability",
    b"user.",
    b"system.posix_acl_access",
];

/// One of `from`, by the remainder; none for the choice of what is not there.
pub(crate) fn chosen<T: Copy>(choice: Choice, from: &[T]) -> Option<T> {
    let index = usize::from(choice).checked_rem(from.len())?;
    from.get(index).copied().filter(|_| choice != Choice::MAX)
}

/// A name, or one that is too long.
pub(crate) fn name(choice: Choice) -> &'static [u8] {
    chosen(choice, &NAMES).unwrap_or(&[b'n'; 256])
}

/// A path.
pub(crate) fn names(path: &[Choice]) -> StringArrayBuf {
    StringArrayBuf::collect(path.iter().map(|choice| name(*choice))).expect("a u16 counts them")
}

/// A symlink's target.
pub(crate) fn target(choice: Choice) -> &'static [u8] {
    chosen(choice, &TARGETS).unwrap_or(b"nul\0")
}

/// The name of an extended attribute.
pub(crate) fn attribute(choice: Choice) -> &'static [u8] {
    chosen(choice, &XATTRS).unwrap_or(b"none")
}
