//! What holds of any tree, whatever is in it: all that a read-only server can be asked.

use std::collections::BTreeMap;

use lisafs::Errno;
use lisafs::wire::{FdId, FileType, SetStat, SetStatReq, Statx, WalkResp};

use crate::calls::{Entry, MANY, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
use crate::case::Plain;
use crate::session::Session;
use crate::verdict::{Stop, Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("found.entries_are_what_is_walked_to", entries).as_found(),
    Plain::new("found.walks_and_stats_agree", walks_and_stats).as_found(),
    Plain::new("found.listings_in_pieces", listings).as_found(),
    Plain::new("found.contents_in_pieces", contents).as_found(),
    Plain::new("found.symlinks_tell_their_targets", symlinks).as_found(),
    Plain::new("found.missing_names", missing).as_found(),
    Plain::new("found.ids_of_other_kinds", other_kinds).as_found(),
    Plain::new("found.nothing_can_be_changed", unchangeable).as_found(),
];

/// How many files are looked at, and how much of each: a server may serve anything.
const MOST_FILES: usize = 200;
const MOST_BYTES: usize = 200_000;

/// A file, the directory that it is in, and what that says of it.
struct Found {
    directory: FdId,
    entry: Entry,
    fd: FdId,
    stat: Statx,
}

/// The files at and below `d`, which are made if they can be.
fn find(s: &mut Session, d: FdId) -> Result<Vec<Found>, Stop> {
    if s.is_writable() {
        let a = s.mkdir(d, b"a")?.control_fd;
        let b = s.mkdir(a, b"b")?.control_fd;
        s.file(a, b"full", &[7; 5000])?;
        s.file(b, b"empty", b"")?;
        s.symlink(d, b"l", b"a/b")?;
    }
    let mut all = Vec::new();
    let mut pending = vec![d];
    while let Some(directory) = pending.pop() {
        let open = s.open(directory, O_RDONLY)?.id;
        let entries = s.list(open, MANY)?;
        s.close(&[open])?;
        for entry in entries {
            if all.len() == MOST_FILES {
                return Ok(all);
            }
            let inode = s.find(directory, &entry.name)?;
            let (fd, stat) = (inode.control_fd, inode.stat);
            if stat.file_type() == FileType::Directory {
                pending.push(fd);
            }
            all.push(Found {
                directory,
                entry,
                fd,
                stat,
            });
        }
    }
    Ok(all)
}

/// Those of a type, and where none is found no case.
fn find_all(s: &mut Session, d: FdId, file_type: FileType) -> Result<Vec<Found>, Stop> {
    let mut found = find(s, d)?;
    found.retain(|file| file.stat.file_type() == file_type);
    if found.is_empty() {
        return Err(Stop::skipped("the server has no file of the type"));
    }
    Ok(found)
}

fn entries(s: &mut Session, d: FdId) -> Verdict {
    for Found { entry, stat, .. } in find(s, d)? {
        let name = entry.name.escape_ascii();
        if entry.d_type != libc::DT_UNKNOWN {
            let told = FileType::from_d_type(entry.d_type);
            same!(told, stat.file_type(), "type of {name}");
        }
        same!(entry.ino, stat.ino, "inode of {name}");
        let device = (stat.dev_major, stat.dev_minor);
        same!(entry.dev, device, "device of {name}");
    }
    Ok(())
}

fn walks_and_stats(s: &mut Session, d: FdId) -> Verdict {
    for file in find(s, d)? {
        let name = file.entry.name.as_slice();
        let walked = s.walk_stat(file.directory, &[b"", name])?;
        let inodes: Vec<_> = walked.iter().map(|stat| stat.ino).collect();
        let wanted = [s.stat(file.directory)?.ino, file.stat.ino];
        same!(inodes, wanted, "inodes on the way to {name:?}");
        let stat = s.stat(file.fd)?;
        let of = |stat: &Statx| (stat.ino, stat.mode, stat.size, stat.uid, stat.gid);
        same!(of(&stat), of(&file.stat), "attributes of {name:?}");
        // STATX_TYPE and STATX_SIZE: without them a client refuses the file.
        ensure!(stat.mask & 0x201 == 0x201, "mask {:#x}", stat.mask);
    }
    Ok(())
}

fn listings(s: &mut Session, d: FdId) -> Verdict {
    find(s, d)?;
    let open = s.open(d, O_RDONLY)?.id;
    let whole = s.list(open, MANY)?;
    for count in [280, 1000] {
        let pieces = s.list(open, count)?;
        let by_name = |entries: &[Entry]| -> BTreeMap<Vec<u8>, u64> {
            let entry = |entry: &Entry| (entry.name.clone(), entry.ino);
            entries.iter().map(entry).collect()
        };
        same!(pieces.len(), whole.len(), "entries in pieces of {count}");
        same!(
            by_name(&pieces),
            by_name(&whole),
            "entries in pieces of {count}"
        );
    }
    if !whole.is_empty() {
        // The shortest record has 24 bytes. No entries would be the end.
        refused(s.entries(open, -1), Errno::EINVAL)?;
        refused(s.entries(open, -23), Errno::EINVAL)?;
        same!(s.list(open, MANY)?.len(), whole.len(), "entries afterwards");
    }
    Ok(())
}

fn contents(s: &mut Session, d: FdId) -> Verdict {
    for file in find_all(s, d, FileType::Regular)? {
        let open = s.open(file.fd, O_RDONLY)?.id;
        let whole = s.read(open, 0, MOST_BYTES)?;
        let size = usize::try_from(file.stat.size).unwrap_or(usize::MAX);
        same!(whole.len(), size.min(MOST_BYTES), "bytes");
        let mut pieces = Vec::new();
        for wanted in whole.chunks(4093) {
            pieces.extend(s.read(open, pieces.len() as u64, wanted.len())?);
        }
        ensure!(
            pieces == whole,
            "{:?} has other contents in pieces",
            file.entry.name
        );
        same!(s.read(open, file.stat.size, 10)?, b"", "at the end");
        same!(s.read(open, 1 << 62, 10)?, b"", "far behind the end");
        refused(s.read(open, 1 << 63, 10), Errno::EINVAL)?;
        same!(s.stat(open)?.ino, file.stat.ino, "the open file");
        s.close(&[open])?;
    }
    Ok(())
}

fn symlinks(s: &mut Session, d: FdId) -> Verdict {
    for link in find_all(s, d, FileType::Symlink)? {
        let target = s.readlink(link.fd)?;
        ensure!(!target.is_empty(), "an empty target");
        refused(s.open(link.fd, O_RDONLY), Errno::EINVAL)?;
        let walked = s.walk(link.directory, &[&link.entry.name, b"x"])?;
        same!(
            walked.status,
            WalkResp::COMPONENT_SYMLINK,
            "status behind it"
        );
    }
    Ok(())
}

const ABSENT: &[u8] = b".conformance-no-such-file";

fn missing(s: &mut Session, d: FdId) -> Verdict {
    let walked = s.walk(d, &[ABSENT, b"x"])?;
    same!(walked.status, WalkResp::COMPONENT_DOES_NOT_EXIST, "status");
    same!(walked.inodes.len(), 0, "inodes");
    same!(s.walk_stat(d, &[b"", ABSENT])?.len(), 1, "stats");
    refused(s.walk(d, &[b".."]), Errno::EINVAL)?;
    for file in find(s, d)? {
        if file.stat.file_type() == FileType::Regular {
            refused(
                s.walk(file.directory, &[&file.entry.name, b"x"]),
                Errno::ENOTDIR,
            )?;
        }
    }
    Ok(())
}

fn other_kinds(s: &mut Session, d: FdId) -> Verdict {
    refused(s.readlink(d), Errno::EINVAL)?;
    refused(s.read(d, 0, 1), Errno::EINVAL)?;
    let directory = s.open(d, O_RDONLY)?.id;
    refused(s.read(directory, 0, 1), Errno::EISDIR)?;
    refused(s.open(directory, O_RDONLY), Errno::EINVAL)?;
    for file in find_all(s, d, FileType::Regular)? {
        let open = s.open(file.fd, O_RDONLY)?.id;
        refused(s.entries(open, MANY), Errno::ENOTDIR)?;
        refused(s.entries(file.fd, MANY), Errno::EINVAL)?;
        s.close(&[open])?;
        refused(s.read(open, 0, 1), Errno::EBADF)?;
    }
    Ok(())
}

fn unchangeable(s: &mut Session, d: FdId) -> Verdict {
    if s.is_writable() {
        return Err(Stop::skipped("the server is not read-only"));
    }
    refused(s.create(d, ABSENT, O_RDWR), Errno::EROFS)?;
    refused(s.mkdir(d, ABSENT), Errno::EROFS)?;
    refused(s.symlink(d, ABSENT, b"x"), Errno::EROFS)?;
    refused(s.mknod(d, ABSENT, 0o100_644), Errno::EROFS)?;
    refused(s.unlink(d, ABSENT), Errno::EROFS)?;
    refused(s.rename((d, ABSENT), (d, b"x")), Errno::EROFS)?;
    for file in find(s, d)? {
        let request = SetStatReq {
            mask: SetStat::MODE.bits(),
            ..SetStatReq::new(file.fd)
        };
        refused(s.set_stat(&request), Errno::EROFS)?;
        for flags in [O_WRONLY, O_RDWR, O_TRUNC] {
            refused(s.open(file.fd, flags), Errno::EROFS)?;
        }
        same!(s.stat(file.fd)?, file.stat, "attributes");
    }
    Ok(())
}
