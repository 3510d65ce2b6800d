//! What the integers of messages stand for.

use core::fmt::{self, Write};

use crate::Errno;
use crate::wire::{Mid, WalkResp};

/// What an integer stands for.
pub(super) enum Meaning {
    Number,
    /// A user or a group, or nobody.
    Id,
    /// A number that is known in hexadecimal.
    Magic,
    Mode,
    Errno,
    OpenFlags,
    Bits(&'static [(u64, &'static str)]),
    OneOf(&'static [(u64, &'static str)]),
}

impl Meaning {
    /// What the field `name` of message `mid` or of its reply stands for.
    pub(super) fn of(mid: Mid, name: &str) -> Meaning {
        match (mid, name) {
            (_, "uid" | "gid") => Meaning::Id,
            (Mid::FALLOCATE, "mode") => Meaning::Bits(FALLOCATE),
            (_, "mode") => Meaning::Mode,
            (_, "mask" | "failure_mask") => Meaning::Bits(ATTRIBUTES),
            (_, "failure_errno") => Meaning::Errno,
            (Mid::OPEN_AT | Mid::OPEN_CREATE_AT, "flags") => Meaning::OpenFlags,
            (Mid::UNLINK_AT, "flags") => Meaning::Bits(UNLINK),
            (Mid::FSET_XATTR, "flags") => Meaning::Bits(XATTR),
            (Mid::RENAME_AT2, "flags") => Meaning::Bits(RENAME),
            (_, "sock_type") => Meaning::OneOf(SOCKETS),
            (Mid::WALK, "status") => Meaning::OneOf(WALK),
            (Mid::FSTAT_FS, "kind") => Meaning::Magic,
            _ => Meaning::Number,
        }
    }

    /// Shows a number that stands for this.
    pub(super) fn show(&self, number: u64, out: &mut dyn Write) -> fmt::Result {
        match self {
            Meaning::Number => write!(out, "{number}"),
            Meaning::Id if number == u64::from(u32::MAX) => out.write_str("-1"),
            Meaning::Id => write!(out, "{number}"),
            Meaning::Magic => write!(out, "{number:#x}"),
            Meaning::Mode => mode(number, out),
            Meaning::Errno => match u32::try_from(number).ok().and_then(Errno::new) {
                Some(errno) => write!(out, "{errno:?}"),
                None => write!(out, "{number}"),
            },
            Meaning::OpenFlags => open_flags(number, out),
            Meaning::Bits(names) => bits(number, names, out),
            Meaning::OneOf(names) => match names.iter().find(|(value, _)| *value == number) {
                Some((_, name)) => out.write_str(name),
                None => write!(out, "{number}"),
            },
        }
    }
}

/// Names of constants of the system.
macro_rules! names {
    ($($table:ident: $($name:ident)*;)*) => {
        $(
            #[allow(clippy::cast_sign_loss)] // none is negative
            const $table: &[(u64, &str)] = &[$((libc::$name as u64, stringify!($name))),*];
        )*
    };
}

names! {
    FALLOCATE: FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE FALLOC_FL_COLLAPSE_RANGE FALLOC_FL_ZERO_RANGE
        FALLOC_FL_INSERT_RANGE FALLOC_FL_UNSHARE_RANGE;
    ATTRIBUTES: STATX_TYPE STATX_MODE STATX_NLINK STATX_UID STATX_GID STATX_ATIME STATX_MTIME
        STATX_CTIME STATX_INO STATX_SIZE STATX_BLOCKS STATX_BTIME;
    // One that contains another stands in front of it.
    OPEN: O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_SYNC O_DSYNC O_DIRECT O_LARGEFILE
        O_TMPFILE O_DIRECTORY O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH;
    UNLINK: AT_REMOVEDIR;
    XATTR: XATTR_CREATE XATTR_REPLACE;
    RENAME: RENAME_NOREPLACE RENAME_EXCHANGE RENAME_WHITEOUT;
    SOCKETS: SOCK_STREAM SOCK_DGRAM SOCK_SEQPACKET;
}

const WALK: &[(u64, &str)] = &[
    (WalkResp::SUCCESS as u64, "WALK_SUCCESS"),
    (
        WalkResp::COMPONENT_DOES_NOT_EXIST as u64,
        "WALK_COMPONENT_DOES_NOT_EXIST",
    ),
    (WalkResp::COMPONENT_SYMLINK as u64, "WALK_COMPONENT_SYMLINK"),
];

/// The access mode is a number, the rest are bits.
fn open_flags(flags: u64, out: &mut dyn Write) -> fmt::Result {
    let access = flags & 3;
    out.write_str(match access {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        2 => "O_RDWR",
        _ => "O_ACCMODE",
    })?;
    if flags == access {
        return Ok(());
    }
    out.write_char('|')?;
    bits(flags & !3, OPEN, out)
}

/// `S_IFDIR|0755`.
fn mode(mode: u64, out: &mut dyn Write) -> fmt::Result {
    const TYPE: u64 = libc::S_IFMT as u64;
    let name = match u32::try_from(mode & TYPE).unwrap_or_default() {
        libc::S_IFREG => "S_IFREG|",
        libc::S_IFDIR => "S_IFDIR|",
        libc::S_IFLNK => "S_IFLNK|",
        libc::S_IFSOCK => "S_IFSOCK|",
        libc::S_IFIFO => "S_IFIFO|",
        libc::S_IFCHR => "S_IFCHR|",
        libc::S_IFBLK => "S_IFBLK|",
        _ => return write!(out, "0{mode:03o}"),
    };
    write!(out, "{name}0{:03o}", mode & !TYPE)
}

/// The names of the bits that are set, and what has no name in hexadecimal.
fn bits(value: u64, names: &[(u64, &str)], out: &mut dyn Write) -> fmt::Result {
    let mut rest = value;
    for (bits, name) in names {
        if *bits != 0 && rest & bits == *bits {
            let separator = if rest == value { "" } else { "|" };
            write!(out, "{separator}{name}")?;
            rest &= !bits;
        }
    }
    match (rest, rest == value) {
        (0, false) => Ok(()),
        (0, true) => out.write_char('0'),
        (rest, true) => write!(out, "{rest:#x}"),
        (rest, false) => write!(out, "|{rest:#x}"),
    }
}
