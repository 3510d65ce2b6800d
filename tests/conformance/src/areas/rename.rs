//! RenameAt and RenameAt2.

use lisafs::Errno;
use lisafs::wire::{FdId, Mid};

use crate::calls::{O_RDONLY, O_RDWR};
use crate::case::Plain;
use crate::session::Session;
use crate::verdict::{Verdict, ensure, refused, same};

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

pub(crate) const CASES: &[Plain] = &[
    Plain::new("rename.moves_a_file", moves_a_file),
    Plain::new("rename.replaces_a_file", replaces_a_file),
    Plain::new("rename.open_files_follow", open_files_follow),
    Plain::new("rename.moves_a_tree", moves_a_tree),
    Plain::new("rename.moves_a_deep_tree", moves_a_deep_tree),
    Plain::new("rename.of_wrong_types", of_wrong_types),
    Plain::new("rename.to_a_full_directory", to_a_full_directory),
    Plain::new("rename.into_its_own_subtree", into_its_own_subtree),
    Plain::new("rename.missing", missing),
    Plain::new("rename.to_itself_does_nothing", to_itself),
    Plain::new(
        "rename.of_links_of_one_file_does_nothing",
        links_of_one_file,
    ),
    Plain::new("rename.noreplace", noreplace),
    Plain::new("rename.exchange", exchange),
    Plain::new("rename.exchange_of_trees", exchange_of_trees),
    Plain::new("rename.bad_flags", bad_flags),
    Plain::new("rename.wants_control_fds", wants_control_fds),
];

fn moves_a_file(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let sub = s.mkdir(d, b"d")?.control_fd;
    s.rename((d, b"f"), (sub, b"g"))?;
    ensure!(!s.exists(d, b"f")?, "the old name exists");
    same!(s.find(sub, b"g")?.stat.ino, s.stat(f)?.ino, "the file");
    // The id means the file wherever it is.
    s.open(f, O_RDONLY)?;
    s.link(d, f, b"h")?;
    Ok(())
}

fn replaces_a_file(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"new")?;
    let replaced = s.file(d, b"g", b"replaced")?;
    let open = s.open(replaced, O_RDONLY)?.id;
    s.rename((d, b"f"), (d, b"g"))?;
    same!(s.names(d)?, [b"g"], "the directory");
    same!(
        s.find(d, b"g")?.stat.ino,
        s.stat(f)?.ino,
        "the file of the name"
    );
    same!(s.stat(replaced)?.nlink, 0, "links of what was replaced");
    same!(s.read(open, 0, 100)?, b"replaced", "its content");
    refused(s.link(d, replaced, b"h"), Errno::EINVAL)
}

fn open_files_follow(s: &mut Session, d: FdId) -> Verdict {
    let created = s.create(d, b"f", O_RDWR)?;
    s.rename((d, b"f"), (d, b"g"))?;
    s.file(d, b"f", b"another")?;
    s.write(created.open, 0, b"data")?;
    let g = s.find(d, b"g")?;
    same!(g.stat.size, 4, "size");
    same!(s.stat(created.open)?.ino, g.stat.ino, "the open file");
    Ok(())
}

fn moves_a_tree(s: &mut Session, d: FdId) -> Verdict {
    let a = s.mkdir(d, b"a")?.control_fd;
    let b = s.mkdir(a, b"b")?.control_fd;
    let f = s.file(b, b"f", b"data")?;
    let target = s.mkdir(d, b"target")?.control_fd;
    s.rename((d, b"a"), (target, b"a2"))?;
    let walked = s.walk(d, &[b"target", b"a2", b"b", b"f"])?;
    same!(walked.inodes.len(), 4, "inodes on the new path");
    // What was held below it goes on working, by whatever way.
    s.file(b, b"g", b"")?;
    s.link(d, f, b"linked")?;
    same!(s.names(b)?, [b"f", b"g"], "the directory that was held");
    Ok(())
}

fn moves_a_deep_tree(s: &mut Session, d: FdId) -> Verdict {
    const DEPTH: usize = 500;
    let top = s.mkdir(d, b"top")?.control_fd;
    let mut held = vec![top];
    let mut bottom = top;
    for _ in 0..DEPTH {
        bottom = s.mkdir(bottom, b"d")?.control_fd;
        held.push(bottom);
    }
    s.rename((d, b"top"), (d, b"moved"))?;
    let f = s.file(bottom, b"f", b"data")?;
    let mut path = vec![&b"d"[..]; DEPTH];
    path.insert(0, b"moved");
    path.push(b"f");
    let walked = s.walk(d, &path)?;
    same!(walked.inodes.len(), DEPTH + 2, "inodes on the new path");
    let found = walked.inodes.last().ok_or(Errno::ENOENT)?;
    same!(found.stat.ino, s.stat(f)?.ino, "the file at the bottom");
    // The whole line of them goes at once.
    s.close(&held)?;
    refused(s.stat(bottom), Errno::EBADF)?;
    s.stat(f)?;
    Ok(())
}

fn of_wrong_types(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"data")?;
    s.mkdir(d, b"d")?;
    refused(s.rename((d, b"f"), (d, b"d")), Errno::EISDIR)?;
    refused(s.rename((d, b"d"), (d, b"f")), Errno::ENOTDIR)?;
    same!(s.names(d)?, [b"d", b"f"], "the directory");
    Ok(())
}

fn to_a_full_directory(s: &mut Session, d: FdId) -> Verdict {
    s.mkdir(d, b"a")?;
    let full = s.mkdir(d, b"full")?.control_fd;
    let f = s.file(full, b"f", b"")?;
    refused(s.rename((d, b"a"), (d, b"full")), Errno::ENOTEMPTY)?;
    // Neither it nor what is in it counts as deleted now.
    s.link(full, f, b"g")?;
    s.unlink(full, b"f")?;
    s.unlink(full, b"g")?;
    s.rename((d, b"a"), (d, b"full"))?;
    same!(s.names(d)?, [b"full"], "the directory");
    Ok(())
}

fn into_its_own_subtree(s: &mut Session, d: FdId) -> Verdict {
    let a = s.mkdir(d, b"a")?.control_fd;
    let b = s.mkdir(a, b"b")?.control_fd;
    refused(s.rename((d, b"a"), (a, b"x")), Errno::EINVAL)?;
    refused(s.rename((d, b"a"), (b, b"x")), Errno::EINVAL)?;
    s.mkdir(b, b"c")?;
    // The other way round it would lose what is in it.
    refused(s.rename((a, b"b"), (d, b"a")), Errno::ENOTEMPTY)?;
    if s.offers(Mid::RENAME_AT2) {
        // Names that are there or not come first.
        for (new, flags, errno) in [
            (&b"b"[..], NOREPLACE, Errno::EEXIST),
            (b"x", NOREPLACE, Errno::EINVAL),
            (b"x", EXCHANGE, Errno::ENOENT),
            (b"b", EXCHANGE, Errno::EINVAL),
        ] {
            refused(s.rename_with((d, b"a"), (a, new), flags), errno)?;
        }
        refused(s.rename_with((a, b"b"), (d, b"a"), EXCHANGE), Errno::EINVAL)?;
    }
    same!(s.names(b)?, [b"c"], "the directory below");
    Ok(())
}

fn missing(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"data")?;
    refused(s.rename((d, b"nope"), (d, b"f")), Errno::ENOENT)?;
    same!(s.find(d, b"f")?.stat.size, 4, "size");
    Ok(())
}

fn to_itself(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    s.rename((d, b"f"), (d, b"f"))?;
    if s.offers(Mid::RENAME_AT2) {
        s.rename_with((d, b"f"), (d, b"f"), NOREPLACE)?;
    }
    s.rename((d, b"nope"), (d, b"nope"))?;
    s.link(d, f, b"g")?;
    Ok(())
}

fn links_of_one_file(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let g = s.link(d, f, b"g")?.control_fd;
    s.rename((d, b"f"), (d, b"g"))?;
    same!(s.names(d)?, [b"f", b"g"], "the directory");
    // Neither was replaced, so neither counts as deleted.
    for fd in [f, g] {
        s.link(d, fd, b"h")?;
        s.unlink(d, b"h")?;
    }
    Ok(())
}

fn noreplace(s: &mut Session, d: FdId) -> Verdict {
    s.needs_message(Mid::RENAME_AT2)?;
    let f = s.file(d, b"f", b"data")?;
    let g = s.file(d, b"g", b"g's")?;
    refused(
        s.rename_with((d, b"f"), (d, b"g"), NOREPLACE),
        Errno::EEXIST,
    )?;
    for (fd, name) in [(f, &b"h"[..]), (g, b"i")] {
        s.link(d, fd, name)?;
        s.unlink(d, name)?;
    }
    s.rename_with((d, b"f"), (d, b"h"), NOREPLACE)?;
    same!(s.names(d)?, [b"g", b"h"], "the directory");
    Ok(())
}

fn exchange(s: &mut Session, d: FdId) -> Verdict {
    s.needs_message(Mid::RENAME_AT2)?;
    let f = s.file(d, b"f", b"f's")?;
    let g = s.file(d, b"g", b"g's own")?;
    let (open_f, open_g) = (s.open(f, O_RDONLY)?.id, s.open(g, O_RDONLY)?.id);
    s.rename_with((d, b"f"), (d, b"g"), EXCHANGE)?;
    same!(
        s.find(d, b"f")?.stat.ino,
        s.stat(g)?.ino,
        "the file called f"
    );
    same!(
        s.find(d, b"g")?.stat.ino,
        s.stat(f)?.ino,
        "the file called g"
    );
    same!(s.read(open_f, 0, 100)?, b"f's", "content");
    same!(s.read(open_g, 0, 100)?, b"g's own", "content");
    // The names go with the files: unlinking g is the end of what f was.
    s.unlink(d, b"g")?;
    refused(s.link(d, f, b"h"), Errno::EINVAL)?;
    s.link(d, g, b"h")?;
    refused(
        s.rename_with((d, b"f"), (d, b"nope"), EXCHANGE),
        Errno::ENOENT,
    )
}

fn exchange_of_trees(s: &mut Session, d: FdId) -> Verdict {
    s.needs_message(Mid::RENAME_AT2)?;
    let a = s.mkdir(d, b"a")?.control_fd;
    let b = s.mkdir(d, b"b")?.control_fd;
    let in_a = s.mkdir(a, b"in_a")?.control_fd;
    s.file(b, b"in_b", b"")?;
    s.rename_with((a, b"in_a"), (b, b"in_b"), EXCHANGE)?;
    same!(s.names(a)?, [b"in_a"], "a");
    s.file(in_a, b"f", b"")?;
    same!(s.walk(d, &[b"b", b"in_b", b"f"])?.inodes.len(), 3, "inodes");
    Ok(())
}

fn bad_flags(s: &mut Session, d: FdId) -> Verdict {
    s.needs_message(Mid::RENAME_AT2)?;
    s.file(d, b"f", b"")?;
    s.file(d, b"g", b"")?;
    for flags in [NOREPLACE | EXCHANGE, 8, 0x8000_0000, u32::MAX] {
        refused(s.rename_with((d, b"f"), (d, b"g"), flags), Errno::EINVAL)?;
    }
    same!(s.names(d)?, [b"f", b"g"], "the directory");
    Ok(())
}

fn wants_control_fds(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"")?;
    let open = s.open(d, O_RDONLY)?.id;
    refused(s.rename((open, b"f"), (d, b"g")), Errno::EINVAL)?;
    refused(s.rename((d, b"f"), (open, b"g")), Errno::EINVAL)?;
    refused(s.rename((FdId::INVALID, b"f"), (open, b"g")), Errno::EBADF)
}
