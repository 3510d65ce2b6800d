//! File modes: as ls(1) shows them, and as chmod(1) takes them.

use std::str::FromStr;

use lisafs::wire::{FileType, Statx};

/// `-rwxr-sr-t`.
pub(crate) fn shown(stat: &Statx) -> String {
    let kind = letter(stat.file_type());
    let mode = stat.permissions();
    let classes = [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')];
    let bits = classes.into_iter().flat_map(|(shift, special, letter)| {
        let bits = mode >> shift;
        let flag = |bit, letter| if bits & bit == 0 { '-' } else { letter };
        let execute = match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        };
        [flag(4, 'r'), flag(2, 'w'), execute]
    });
    std::iter::once(kind).chain(bits).collect()
}

/// The letter of a type.
pub(crate) fn letter(file_type: FileType) -> char {
    match file_type {
        FileType::Regular => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Socket => 's',
        FileType::Fifo => 'p',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Unknown => '?',
    }
}

/// What chmod(1) calls a mode: octal digits, or clauses such as `u+x,go-w`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Absolute(u32),
    Clauses(Vec<Clause>),
}

/// `ug+rw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// The permission bits of the classes that it is about, set-id bits included.
    who: u32,
    how: Operator,
    /// The bits, for all classes.
    what: u32,
    /// `X`: execution too, if that makes sense.
    conditional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

impl Change {
    /// The permissions of something new that would have `mode` otherwise.
    pub(crate) fn of_new(&self, mode: u16) -> u32 {
        self.apply(&Statx {
            mode,
            ..Statx::default()
        })
    }

    /// The permissions of a file with these attributes, changed.
    pub(crate) fn apply(&self, stat: &Statx) -> u32 {
        let clauses = match self {
            Change::Absolute(mode) => return *mode,
            Change::Clauses(clauses) => clauses,
        };
        clauses.iter().fold(stat.permissions(), |mode, clause| {
            let executes = stat.file_type() == FileType::Directory || mode & 0o111 != 0;
            let conditional = if clause.conditional && executes {
                0o111
            } else {
                0
            };
            let bits = (clause.what | conditional) & clause.who;
            match clause.how {
                Operator::Add => mode | bits,
                Operator::Remove => mode & !bits,
                Operator::Set => mode & !clause.who | bits,
            }
        })
    }
}

/// A word that is no mode.
#[derive(Debug, thiserror::Error)]
#[error("it is not octal (0644) nor a list of changes (u+x,go-w)")]
pub(crate) struct NotAMode;

impl FromStr for Change {
    type Err = NotAMode;

    fn from_str(text: &str) -> Result<Change, NotAMode> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Change::Absolute(mode)),
                _ => Err(NotAMode),
            };
        }
        let clauses = text.split(',').map(clause).collect::<Option<_>>();
        clauses.map(Change::Clauses).ok_or(NotAMode)
    }
}

fn clause(text: &str) -> Option<Clause> {
    let at = text.find(['+', '-', '='])?;
    let (classes, rest) = text.split_at(at);
    let mut rest = rest.chars();
    let how = match rest.next()? {
        '+' => Operator::Add,
        '-' => Operator::Remove,
        _ => Operator::Set,
    };
    let mut who = 0;
    for class in classes.chars() {
        who |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if classes.is_empty() {
        who = 0o7777;
    }
    let (mut what, mut conditional) = (0, false);
    for letter in rest {
        match letter {
            'r' => what |= 0o444,
            'w' => what |= 0o222,
            'x' => what |= 0o111,
            's' => what |= 0o6000,
            't' => what |= 0o1000,
            'X' => conditional = true,
            _ => return None,
        }
    }
    Some(Clause {
        who,
        how,
        what,
        conditional,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u16) -> Statx {
        Statx {
            mode,
            ..Statx::default()
        }
    }

    #[test]
    fn modes_are_shown_as_ls_shows_them() {
        for (mode, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o120_777, "lrwxrwxrwx"),
            (0o041_777, "drwxrwxrwt"),
            (0o041_666, "drw-rw-rwT"),
            (0o106_711, "-rws--s--x"),
            (0o106_600, "-rwS--S---"),
            (0o010_000, "p---------"),
        ] {
            assert_eq!(shown(&file(mode)), text);
        }
    }

    #[test]
    fn modes_change_as_chmod_has_it() {
        for (before, change, after) in [
            (0o100_644, "755", 0o755),
            (0o100_755, "04755", 0o4755),
            (0o100_644, "u+x", 0o744),
            (0o100_666, "go-w", 0o644),
            (0o100_777, "a=r", 0o444),
            (0o100_644, "+x", 0o755),
            (0o100_600, "u=rwx,g=rx,o=", 0o750),
            (0o100_644, "a+X", 0o644),
            (0o100_744, "a+X", 0o755),
            (0o040_644, "a+X", 0o755),
            (0o100_755, "u+s", 0o4755),
            (0o106_755, "ug-s", 0o755),
            (0o040_777, "+t", 0o1777),
        ] {
            let parsed: Change = change.parse().unwrap();
            assert_eq!(parsed.apply(&file(before)), after, "{change}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "8", "10000", "u", "u+q", "z+x", "u+x,", "+-", "-1x"] {
            assert!(text.parse::<Change>().is_err(), "{text}");
        }
    }
}
