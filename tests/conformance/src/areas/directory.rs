//! Getdents64.

use std::collections::BTreeSet;

use lisafs::Errno;
use lisafs::wire::FdId;

use crate::calls::{MANY, O_RDONLY, O_RDWR};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("directory.empty", empty),
    Plain::new("directory.entries_tell_type_and_inode", entries),
    Plain::new("directory.of_one", of_one),
    Plain::new("directory.of_2000", of_2000),
    Plain::new("directory.of_66000", of_66000).needs(&[Need::HostAccess]),
    Plain::new("directory.small_count_is_no_end", small_count),
    Plain::new("directory.negative_count_rewinds", rewinds),
    Plain::new("directory.the_most_negative_count", most_negative),
    Plain::new("directory.the_largest_count", largest_count),
    Plain::new("directory.is_listed_anew_after_a_rewind", listed_anew),
    Plain::new(
        "directory.that_changes_while_it_is_listed",
        changed_while_listed,
    ),
    Plain::new("directory.wants_an_open_directory", wants_an_open_directory),
    Plain::new("directory.deleted", deleted),
];

fn empty(s: &mut Session, d: FdId) -> Verdict {
    let open = s.open(d, O_RDONLY)?.id;
    same!(s.entries(open, -MANY)?.len(), 0, "entries");
    same!(s.entries(open, MANY)?.len(), 0, "entries");
    Ok(())
}

fn entries(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"")?;
    s.symlink(d, b"l", b"f")?;
    s.mkdir(d, b"d")?;
    let open = s.open(d, O_RDONLY)?.id;
    let mut entries = s.list(open, MANY)?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let types: Vec<_> = entries
        .iter()
        .map(|entry| (entry.name.as_slice(), entry.d_type))
        .collect();
    let wanted = [
        (&b"d"[..], libc::DT_DIR),
        (b"f", libc::DT_REG),
        (b"l", libc::DT_LNK),
    ];
    same!(types, wanted, "names and types");
    for entry in entries {
        let stat = s.find(d, &entry.name)?.stat;
        same!(entry.ino, stat.ino, "inode of {:?}", entry.name);
        same!(
            entry.dev,
            (stat.dev_major, stat.dev_minor),
            "device of {:?}",
            entry.name
        );
    }
    Ok(())
}

/// Fills the directory with files called by their numbers.
fn fill(s: &mut Session, d: FdId, count: u32) -> Verdict {
    let Ok(host) = s.host_path("") else {
        for number in 0..count {
            let made = s.mknod(d, number.to_string().as_bytes(), 0o100_644)?;
            s.close(&[made.control_fd])?;
        }
        return Ok(());
    };
    // Names are made faster than files; no file can have as many as the largest case wants.
    for number in 0..count {
        let path = host.join(number.to_string());
        let first = number - number % 30_000;
        if number == first {
            std::fs::File::create(path)?;
        } else {
            std::fs::hard_link(host.join(first.to_string()), path)?;
        }
    }
    Ok(())
}

/// Lists in pieces of `count` and checks that each of the names comes once.
fn lists(s: &mut Session, d: FdId, count: i32, wanted: u32) -> Verdict {
    let open = s.open(d, O_RDONLY)?.id;
    let entries = s.list(open, count)?;
    let listed = entries.len();
    let names: BTreeSet<_> = entries.into_iter().map(|entry| entry.name).collect();
    same!(listed, names.len(), "entries, and names among them");
    let all: BTreeSet<_> = (0..wanted)
        .map(|number| number.to_string().into_bytes())
        .collect();
    same!(names.len(), all.len(), "names, in pieces of {count}");
    ensure!(names == all, "other names, in pieces of {count}");
    s.close(&[open])?;
    Ok(())
}

fn of_one(s: &mut Session, d: FdId) -> Verdict {
    fill(s, d, 1)?;
    lists(s, d, MANY, 1)?;
    lists(s, d, 1000, 1)
}

fn of_2000(s: &mut Session, d: FdId) -> Verdict {
    fill(s, d, 2000)?;
    for count in [300, 1000, 4096, 8192, MANY, 1 << 20, i32::MAX] {
        lists(s, d, count, 2000)?;
    }
    Ok(())
}

fn of_66000(s: &mut Session, d: FdId) -> Verdict {
    fill(s, d, 66_000)?;
    lists(s, d, MANY, 66_000)?;
    // More entries than one reply can count.
    lists(s, d, i32::MAX, 66_000)
}

fn small_count(s: &mut Session, d: FdId) -> Verdict {
    for name in [&b"first"[..], b"second", b"third"] {
        s.file(d, name, b"")?;
    }
    let open = s.open(d, O_RDONLY)?.id;
    for count in [0, 1, 10, 24] {
        refused(s.entries(open, count), Errno::EINVAL)?;
    }
    // Nothing was lost over it.
    let mut names = Vec::new();
    loop {
        let entries = s.entries(open, 300)?;
        if entries.is_empty() {
            break;
        }
        names.extend(entries.into_iter().map(|entry| entry.name));
        // In the middle as well.
        if let Ok(entries) = s.entries(open, 24) {
            ensure!(
                entries.is_empty() && names.len() == 3,
                "{} entries in 24 bytes",
                entries.len()
            );
        }
    }
    names.sort_unstable();
    same!(names, [&b"first"[..], b"second", b"third"], "names");
    Ok(())
}

fn rewinds(s: &mut Session, d: FdId) -> Verdict {
    fill(s, d, 100)?;
    let open = s.open(d, O_RDONLY)?.id;
    let first = s.entries(open, 1000)?;
    let second = s.entries(open, 1000)?;
    ensure!(first != second, "the same entries twice");
    same!(s.entries(open, -1000)?, first, "entries after a rewind");
    same!(s.entries(open, 1000)?, second, "entries after those");
    Ok(())
}

fn most_negative(s: &mut Session, d: FdId) -> Verdict {
    fill(s, d, 100)?;
    let open = s.open(d, O_RDONLY)?.id;
    s.entries(open, MANY)?;
    same!(s.entries(open, i32::MIN)?.len(), 100, "entries");
    same!(s.entries(open, i32::MIN)?.len(), 100, "entries, again");
    Ok(())
}

fn largest_count(s: &mut Session, d: FdId) -> Verdict {
    fill(s, d, 100)?;
    let open = s.open(d, O_RDONLY)?.id;
    same!(s.entries(open, i32::MAX)?.len(), 100, "entries");
    same!(s.entries(open, i32::MAX)?.len(), 0, "entries at the end");
    Ok(())
}

fn listed_anew(s: &mut Session, d: FdId) -> Verdict {
    fill(s, d, 3)?;
    let open = s.open(d, O_RDONLY)?.id;
    same!(s.list(open, MANY)?.len(), 3, "entries");
    s.file(d, b"new", b"")?;
    s.unlink(d, b"0")?;
    let mut names: Vec<_> = s
        .list(open, MANY)?
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    names.sort_unstable();
    same!(names, [&b"1"[..], b"2", b"new"], "names");
    Ok(())
}

/// Between one piece and the next, names that were told and others that were not are removed and renamed,
/// and new ones are made. All others are told, and no name is told twice.
fn changed_while_listed(s: &mut Session, d: FdId) -> Verdict {
    const STAY: u32 = 300;
    // Else there might always be a new name behind the last one.
    const ROUNDS: usize = 8;
    fill(s, d, STAY)?;
    let mut there = BTreeSet::new();
    for number in 0..200 {
        make(s, d, format!("changes-{number}"), &mut there)?;
    }
    let open = s.open(d, O_RDONLY)?.id;
    let mut told = BTreeSet::new();
    for round in 0.. {
        let entries = s.entries(open, 1000)?;
        if entries.is_empty() {
            ensure!(round > ROUNDS, "the end after {round} pieces");
            break;
        }
        for entry in entries {
            let again = format!("{} again", entry.name.escape_ascii());
            ensure!(told.insert(entry.name), "{again}");
        }
        if round >= ROUNDS {
            continue;
        }
        for (sort, is_told) in [("told", true), ("not-told", false)] {
            let names = there.iter().filter(|name| told.contains(*name) == is_told);
            let names: Vec<Vec<u8>> = names.take(2).cloned().collect();
            if let [removed, renamed] = &names[..] {
                s.unlink(d, removed)?;
                let new = format!("renamed-{sort}-{round}").into_bytes();
                s.rename((d, renamed), (d, &new))?;
                there.retain(|name| name != removed && name != renamed);
                there.insert(new);
            }
        }
        make(s, d, format!("new-{round}"), &mut there)?;
    }
    let stay: BTreeSet<_> = (0..STAY)
        .map(|number| number.to_string().into_bytes())
        .collect();
    let missing = stay.difference(&told).count();
    same!(
        missing,
        0,
        "names that were there all the time and not told"
    );
    // From the beginning, or from where another listing was broken off, it is what is there now.
    let now: BTreeSet<_> = stay.union(&there).cloned().collect();
    for _ in 0..2 {
        let entries = s.list(open, 1000)?;
        same!(entries.len(), now.len(), "entries after a rewind");
        let names: BTreeSet<_> = entries.into_iter().map(|entry| entry.name).collect();
        ensure!(names == now, "other names after a rewind");
        s.entries(open, -1000)?;
    }
    Ok(())
}

/// Makes a file.
fn make(s: &mut Session, d: FdId, name: String, there: &mut BTreeSet<Vec<u8>>) -> Verdict {
    let name = name.into_bytes();
    let made = s.mknod(d, &name, 0o100_644)?;
    s.close(&[made.control_fd])?;
    there.insert(name);
    Ok(())
}

fn wants_an_open_directory(s: &mut Session, d: FdId) -> Verdict {
    refused(s.entries(d, MANY), Errno::EINVAL)?;
    let open = s.create(d, b"f", O_RDWR)?.open;
    refused(s.entries(open, MANY), Errno::ENOTDIR)
}

fn deleted(s: &mut Session, d: FdId) -> Verdict {
    let gone = s.mkdir(d, b"d")?.control_fd;
    let open = s.open(gone, O_RDONLY)?.id;
    s.rmdir(d, b"d")?;
    refused(s.entries(open, MANY), Errno::EINVAL)?;
    refused(s.entries(open, -MANY), Errno::EINVAL)?;
    s.stat(open)?;
    Ok(())
}
