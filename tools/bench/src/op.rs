//! The operations that can be measured, and their names.

use std::fmt;
use std::str::FromStr;

/// One operation of a client: a request, or the few that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    /// A depth, a number or a size, where the kind has one.
    pub(crate) argument: u32,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ping,
    Fstat,
    FstatOpen,
    FstatHeld,
    Stat,
    Walk,
    WalkAbsent,
    WalkHeld,
    WalkStat,
    WalkOpen,
    Open,
    OpenDir,
    Create,
    Mkdir,
    Mknod,
    Symlink,
    Link,
    Rename,
    ReadLink,
    SetStat,
    Truncate,
    Getdents,
    PRead,
    ReadWith,
    PWrite,
    StatFs,
    GetXattr,
    SetXattr,
    RemoveXattr,
    ListXattr,
    FSync,
    Allocate,
    Close,
    Bind,
    Connect,
}

/// What the number behind the name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    None,
    /// From 1 to this, and what it is without one.
    Number {
        most: u32,
        default: u32,
    },
    /// In bytes, with `k` and `m` for 1024 and its square.
    Bytes {
        most: u32,
        default: u32,
    },
}

/// What is said of a kind of operation.
struct Entry {
    kind: Kind,
    name: &'static str,
    argument: Argument,
    /// How many requests it sends, the batched Closes of handles left aside. None: that depends.
    requests: Option<u32>,
}

const NONE: Argument = Argument::None;
const DEPTH: Argument = Argument::Number {
    most: 1000,
    default: 1,
};
const NAMES: Argument = Argument::Number {
    most: 1000,
    default: 3,
};
const ENTRIES: Argument = Argument::Number {
    most: 10_000_000,
    default: 100,
};
const HELD: Argument = Argument::Number {
    most: 1_000_000,
    default: 1000,
};
const BATCH: Argument = Argument::Number {
    most: 99,
    default: 10,
};
const BYTES: Argument = Argument::Bytes {
    most: 64 << 20,
    default: 4096,
};
const MESSAGE: Argument = Argument::Bytes {
    most: 1 << 20,
    default: 4096,
};

/// One row for each kind: kind, name, argument, requests.
const ENTRIES_OF_ALL: [Entry; 35] = [
    entry(Kind::Ping, "ping", NONE, Some(1)),
    entry(Kind::Fstat, "fstat", NONE, Some(1)),
    entry(Kind::FstatOpen, "fstat-open", NONE, Some(1)),
    entry(Kind::FstatHeld, "fstat-held", HELD, Some(1)),
    entry(Kind::Stat, "stat", NONE, Some(1)),
    entry(Kind::Walk, "walk", DEPTH, Some(1)),
    entry(Kind::WalkAbsent, "walk-absent", NONE, Some(1)),
    entry(Kind::WalkHeld, "walk-held", HELD, Some(1)),
    entry(Kind::WalkStat, "walkstat", NAMES, Some(1)),
    entry(Kind::WalkOpen, "walk-open", NONE, Some(3)),
    entry(Kind::Open, "open", NONE, Some(2)),
    entry(Kind::OpenDir, "open-dir", NONE, Some(2)),
    entry(Kind::Create, "create", NONE, Some(3)),
    entry(Kind::Mkdir, "mkdir", NONE, Some(2)),
    entry(Kind::Mknod, "mknod", NONE, Some(2)),
    entry(Kind::Symlink, "symlink", NONE, Some(2)),
    entry(Kind::Link, "link", NONE, Some(2)),
    entry(Kind::Rename, "rename", NONE, Some(1)),
    entry(Kind::ReadLink, "readlink", NONE, Some(1)),
    entry(Kind::SetStat, "setstat", NONE, Some(1)),
    entry(Kind::Truncate, "truncate", NONE, Some(1)),
    entry(Kind::Getdents, "getdents", ENTRIES, None),
    entry(Kind::PRead, "pread", BYTES, Some(1)),
    entry(Kind::ReadWith, "read-with", MESSAGE, Some(1)),
    entry(Kind::PWrite, "pwrite", BYTES, Some(1)),
    entry(Kind::StatFs, "statfs", NONE, Some(1)),
    entry(Kind::GetXattr, "getxattr", NONE, Some(1)),
    entry(Kind::SetXattr, "setxattr", NONE, Some(1)),
    entry(Kind::RemoveXattr, "removexattr", NONE, Some(2)),
    entry(Kind::ListXattr, "listxattr", NONE, Some(1)),
    entry(Kind::FSync, "fsync", NONE, Some(1)),
    entry(Kind::Allocate, "allocate", NONE, Some(1)),
    entry(Kind::Close, "close", BATCH, Some(1)),
    entry(Kind::Bind, "bind", NONE, Some(3)),
    entry(Kind::Connect, "connect", NONE, Some(2)),
];

const fn entry(kind: Kind, name: &'static str, argument: Argument, requests: Option<u32>) -> Entry {
    Entry {
        kind,
        name,
        argument,
        requests,
    }
}

/// What is measured unless somebody says otherwise.
pub(crate) const USUAL: &str = "fstat,walk,walk-absent,walkstat,open,create,mkdir,getdents,\
                                pread=4k,pwrite=4k,pread=1m,pwrite=1m";

/// What `all` stands for.
const ALL: &str = "ping,fstat,fstat-open,fstat-held,stat,walk,walk=2,walk=8,walk=32,walk-absent,\
                   walk-held,walkstat=1,walkstat,walk-open,open,open-dir,create,mkdir,mknod,\
                   symlink,link,rename,readlink,setstat,truncate,getdents=1,getdents=20,\
                   getdents=1000,getdents=66000,pread=1,pread=4k,pread=64k,pread=1m,read-with=64k,\
                   read-with=1m,pwrite=1,pwrite=4k,pwrite=64k,pwrite=1m,statfs,getxattr,setxattr,\
                   removexattr,listxattr,fsync,allocate,close=1,close=10,close=99,bind,connect";

impl Op {
    /// How many requests it sends, if that does not depend on the server.
    pub(crate) fn requests(self) -> Option<u32> {
        match (self.kind, self.argument) {
            // More does not fit into a message.
            (Kind::PRead | Kind::PWrite, more) if more > 1 << 20 => None,
            _ => self.entry().and_then(|entry| entry.requests),
        }
    }

    fn entry(self) -> Option<&'static Entry> {
        ENTRIES_OF_ALL.iter().find(|entry| entry.kind == self.kind)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(entry) = self.entry() else {
            return Ok(());
        };
        f.write_str(entry.name)?;
        match (entry.argument, self.argument) {
            (Argument::None, _) => Ok(()),
            (Argument::Number { .. }, number) => write!(f, "={number}"),
            (Argument::Bytes { .. }, bytes) if bytes % (1 << 20) == 0 => {
                write!(f, "={}m", bytes >> 20)
            }
            (Argument::Bytes { .. }, bytes) if bytes % (1 << 10) == 0 => {
                write!(f, "={}k", bytes >> 10)
            }
            (Argument::Bytes { .. }, bytes) => write!(f, "={bytes}"),
        }
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(text: &str) -> Result<Op, String> {
        let (name, given) = match text.split_once('=') {
            Some((name, given)) => (name, Some(given)),
            None => (text, None),
        };
        let entry = ENTRIES_OF_ALL
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| format!("there is no operation {name:?}: they are {}", names()))?;
        let argument = match (entry.argument, given) {
            (Argument::None, None) => 0,
            (Argument::None, Some(_)) => return Err(format!("{name} has no argument")),
            (Argument::Number { default, .. } | Argument::Bytes { default, .. }, None) => default,
            (Argument::Number { most, .. }, Some(given)) => within(name, given, 1, most)?,
            (Argument::Bytes { most, .. }, Some(given)) => {
                let kibi = given.strip_suffix('k').map(|digits| (digits, 1 << 10));
                let mebi = given.strip_suffix('m').map(|digits| (digits, 1 << 20));
                let (digits, unit) = kibi.or(mebi).unwrap_or((given, 1));
                within(name, digits, unit, most)?
            }
        };
        Ok(Op {
            kind: entry.kind,
            argument,
        })
    }
}

/// `digits` times `unit`, which has to be between 1 and `most`.
fn within(name: &str, digits: &str, unit: u32, most: u32) -> Result<u32, String> {
    let number = digits.parse::<u32>().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("the argument of {name} is from 1 to {most}"))
}

fn names() -> String {
    ENTRIES_OF_ALL.map(|entry| entry.name).join(", ")
}

/// Operations by name, with commas between them; `all` is all of them, `none` none.
#[derive(Clone, Debug)]
pub(crate) struct Ops(pub(crate) Vec<Op>);

impl FromStr for Ops {
    type Err = String;

    fn from_str(list: &str) -> Result<Ops, String> {
        let list = match list {
            "none" => return Ok(Ops(Vec::new())),
            "all" => ALL,
            list => list,
        };
        list.split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Ops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_is_parsed() {
        for list in ["all", USUAL] {
            for op in list.parse::<Ops>().unwrap().0 {
                assert_eq!(op.to_string().parse(), Ok(op));
            }
        }
        let shown = |text: &str| text.parse::<Op>().unwrap().to_string();
        assert_eq!(shown("walk"), "walk=1");
        assert_eq!(shown("pread=4096"), "pread=4k");
        assert_eq!(shown("pwrite=1024k"), "pwrite=1m");
        assert_eq!(shown("pwrite=1"), "pwrite=1");
    }

    #[test]
    fn all_are_all() {
        let all = "all".parse::<Ops>().unwrap().0;
        for entry in &ENTRIES_OF_ALL {
            assert!(all.iter().any(|op| op.kind == entry.kind), "{}", entry.name);
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_alternatives() {
        let refused = |text: &str| text.parse::<Ops>().unwrap_err();
        assert!(refused("fstat,nonsense").contains("getxattr"));
        assert_eq!(refused("fstat=1"), "fstat has no argument");
        for text in ["close=0", "close=100", "close=", "close=-1", "close=1k"] {
            assert_eq!(refused(text), "the argument of close is from 1 to 99");
        }
        for text in ["pread=65m", "pread=5000000k", "pread=k", "pread=1kk"] {
            assert!(refused(text).starts_with("the argument of pread"), "{text}");
        }
    }
}
