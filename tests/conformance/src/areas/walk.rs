//! Walk and WalkStat.

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{FdId, FileType, Inode, Statx, WalkResp};

use crate::caller::Caller;
use crate::calls::Walked;
use crate::case::Plain;
use crate::session::Session;
use crate::verdict::{Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("walk.goes_down_a_path", goes_down_a_path),
    Plain::new("walk.stops_at_a_missing_name", stops_at_a_missing_name),
    Plain::new("walk.stops_at_a_symlink", stops_at_a_symlink),
    Plain::new("walk.ends_with_a_symlink", ends_with_a_symlink),
    Plain::new("walk.fails_below_a_file", fails_below_a_file),
    Plain::new("walk.of_nothing", of_nothing),
    Plain::new("walk.from_what_is_no_directory", from_what_is_no_directory),
    Plain::new(
        "walk.judges_names_as_it_comes_to_them",
        judges_names_in_turn,
    ),
    Plain::new("walk.in_a_deleted_directory", in_a_deleted_directory),
    Plain::new("walk.bounds_the_reply", bounds_the_reply),
    Plain::new("walk.gives_each_walk_ids_of_its_own", separate_ids),
    Plain::new("walk_stat.goes_down_a_path", stat_goes_down_a_path),
    Plain::new("walk_stat.of_the_start", stat_of_the_start),
    Plain::new("walk_stat.stops_where_a_walk_stops", stat_stops),
    Plain::new("walk_stat.judges_all_names_first", stat_judges_all_names),
    Plain::new(
        "walk_stat.from_what_is_no_directory",
        stat_from_no_directory,
    ),
    Plain::new("walk_stat.bounds_the_reply", stat_bounds_the_reply),
];

/// `a/b/f` with content, and `a/l`, a symlink to `b`.
fn tree(s: &mut Session, d: FdId) -> Result<FdId, Error> {
    let a = s.mkdir(d, b"a")?.control_fd;
    let b = s.mkdir(a, b"b")?.control_fd;
    s.file(b, b"f", b"12345")?;
    s.symlink(a, b"l", b"b")?;
    Ok(a)
}

fn types(walked: &Walked) -> Vec<FileType> {
    let stats = walked.inodes.iter().map(|inode| inode.stat);
    stats.map(|stat| stat.file_type()).collect()
}

/// Whether the files of `stats` are those of `inodes`.
fn same_files(inodes: &[Inode], stats: &[Statx]) -> bool {
    let of_inodes = inodes.iter().map(|inode| inode.stat.ino);
    of_inodes.eq(stats.iter().map(|stat| stat.ino))
}

fn goes_down_a_path(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    let walked = s.walk(d, &[b"a", b"b", b"f"])?;
    same!(walked.status, WalkResp::SUCCESS, "status");
    let wanted = [FileType::Directory, FileType::Directory, FileType::Regular];
    same!(types(&walked), wanted, "types");
    for inode in &walked.inodes {
        let stat = s.stat(inode.control_fd)?;
        same!(stat.ino, inode.stat.ino, "the file behind the id");
        same!(stat.size, inode.stat.size, "its size");
    }
    let last = walked.inodes.last().ok_or(Errno::ENOENT)?;
    same!(last.stat.size, 5, "size");
    // STATX_TYPE and STATX_SIZE: without them a client refuses the file.
    ensure!(
        last.stat.mask & 0x201 == 0x201,
        "mask {:#x}",
        last.stat.mask
    );
    Ok(())
}

fn stops_at_a_missing_name(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    let none = s.walk(d, &[b"nope", b"x"])?;
    same!(none.status, WalkResp::COMPONENT_DOES_NOT_EXIST, "status");
    same!(none.inodes.len(), 0, "inodes");
    let one = s.walk(d, &[b"a", b"nope", b"x"])?;
    same!(one.status, WalkResp::COMPONENT_DOES_NOT_EXIST, "status");
    same!(types(&one), [FileType::Directory], "types");
    let a = one.inodes.first().ok_or(Errno::ENOENT)?.control_fd;
    s.find(a, b"b")?;
    Ok(())
}

fn stops_at_a_symlink(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    let walked = s.walk(d, &[b"a", b"l", b"f"])?;
    same!(walked.status, WalkResp::COMPONENT_SYMLINK, "status");
    same!(
        types(&walked),
        [FileType::Directory, FileType::Symlink],
        "types"
    );
    let link = walked.inodes.last().ok_or(Errno::ENOENT)?.control_fd;
    same!(s.readlink(link)?, b"b", "target");
    Ok(())
}

fn ends_with_a_symlink(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    let walked = s.walk(d, &[b"a", b"l"])?;
    same!(walked.status, WalkResp::SUCCESS, "status");
    same!(
        types(&walked),
        [FileType::Directory, FileType::Symlink],
        "types"
    );
    Ok(())
}

fn fails_below_a_file(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    let path: &[&[u8]] = &[b"a", b"b", b"f", b"x"];
    refused(s.walk(d, path), Errno::ENOTDIR)?;
    refused(s.walk_stat(d, path), Errno::ENOTDIR)
}

fn of_nothing(s: &mut Session, d: FdId) -> Verdict {
    let walked = s.walk(d, &[])?;
    same!(walked.status, WalkResp::SUCCESS, "status");
    same!(walked.inodes.len(), 0, "inodes");
    same!(s.walk_stat(d, &[])?.len(), 0, "stats");
    Ok(())
}

fn from_what_is_no_directory(s: &mut Session, d: FdId) -> Verdict {
    let file = s.file(d, b"f", b"")?;
    let link = s.symlink(d, b"l", b".")?.control_fd;
    for fd in [file, link] {
        refused(s.walk(fd, &[b"x"]), Errno::ENOTDIR)?;
        refused(s.walk(fd, &[]), Errno::ENOTDIR)?;
        // The start is judged before the name.
        refused(s.walk(fd, &[b".."]), Errno::ENOTDIR)?;
    }
    Ok(())
}

fn judges_names_in_turn(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    for name in crate::areas::names::BAD {
        refused(s.walk(d, &[name]), Errno::EINVAL)?;
        refused(s.walk(d, &[b"a", name]), Errno::EINVAL)?;
        let missing = s.walk(d, &[b"nope", name])?;
        same!(missing.status, WalkResp::COMPONENT_DOES_NOT_EXIST, "status");
        // A name is judged before the link in front of it stops the walk.
        refused(s.walk(d, &[b"a", b"l", name]), Errno::EINVAL)?;
        let behind = s.walk(d, &[b"a", b"l", b"x", name])?;
        same!(behind.status, WalkResp::COMPONENT_SYMLINK, "status");
    }
    Ok(())
}

fn in_a_deleted_directory(s: &mut Session, d: FdId) -> Verdict {
    let gone = s.mkdir(d, b"d")?.control_fd;
    s.rmdir(d, b"d")?;
    let walked = s.walk(gone, &[b"x"])?;
    same!(walked.status, WalkResp::COMPONENT_DOES_NOT_EXIST, "status");
    same!(walked.inodes.len(), 0, "inodes");
    // The name is judged before the directory is found to be deleted.
    refused(s.walk(gone, &[b".."]), Errno::EINVAL)?;
    same!(
        s.walk_stat(gone, &[b""])?.len(),
        1,
        "stats of the directory itself"
    );
    Ok(())
}

/// `count` names that do not exist, in one path.
fn missing(count: usize) -> Vec<&'static [u8]> {
    vec![b"x"; count]
}

/// The most elements of `size` bytes that fit into a reply behind `fixed` bytes.
fn most(s: &Caller, fixed: usize, size: usize) -> usize {
    (s.max_message_size() as usize).saturating_sub(fixed) / size
}

fn bounds_the_reply(s: &mut Session, d: FdId) -> Verdict {
    let most = most(s, 3, 152);
    same!(s.walk(d, &missing(most))?.inodes.len(), 0, "inodes");
    refused(s.walk(d, &missing(most + 1)), Errno::EIO)?;
    s.stat(d)?;
    Ok(())
}

fn separate_ids(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    let one = s.find(d, b"a")?.control_fd;
    let two = s.find(d, b"a")?.control_fd;
    ensure!(one != two, "both are {one}");
    s.close(&[one])?;
    s.find(two, b"b")?;
    refused(s.find(one, b"b"), Errno::EBADF)
}

fn stat_goes_down_a_path(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    let path: &[&[u8]] = &[b"a", b"b", b"f"];
    let walked = s.walk(d, path)?;
    let stats = s.walk_stat(d, path)?;
    ensure!(same_files(&walked.inodes, &stats), "other files");
    Ok(())
}

fn stat_of_the_start(s: &mut Session, d: FdId) -> Verdict {
    let a = tree(s, d)?;
    let stats = s.walk_stat(a, &[b"", b"b"])?;
    same!(stats.len(), 2, "stats");
    let start = stats.first().ok_or(Errno::ENOENT)?;
    same!(start.ino, s.stat(a)?.ino, "the start");
    Ok(())
}

fn stat_stops(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    for path in [
        &[&b"nope"[..], b"x"][..],
        &[b"a", b"nope", b"x"],
        &[b"a", b"l", b"f"],
        &[b"a", b"l"],
    ] {
        let walked = s.walk(d, path)?;
        let stats = s.walk_stat(d, path)?;
        ensure!(
            same_files(&walked.inodes, &stats),
            "other files on {path:?}"
        );
    }
    Ok(())
}

fn stat_judges_all_names(s: &mut Session, d: FdId) -> Verdict {
    tree(s, d)?;
    for name in crate::areas::names::BAD {
        refused(s.walk_stat(d, &[b"nope", name]), Errno::EINVAL)?;
        refused(s.walk_stat(d, &[b"a", b"l", b"x", name]), Errno::EINVAL)?;
        if !name.is_empty() {
            refused(s.walk_stat(d, &[name]), Errno::EINVAL)?;
        }
    }
    Ok(())
}

fn stat_from_no_directory(s: &mut Session, d: FdId) -> Verdict {
    let file = s.file(d, b"f", b"")?;
    let link = s.symlink(d, b"l", b".")?.control_fd;
    for fd in [file, link] {
        same!(s.walk_stat(fd, &[])?.len(), 0, "stats of nothing");
        let own = s.walk_stat(fd, &[b""])?;
        same!(own.len(), 1, "stats of the start");
        same!(
            own.first().map(|stat| stat.ino),
            Some(s.stat(fd)?.ino),
            "the start"
        );
        refused(s.walk_stat(fd, &[b"x"]), Errno::ENOTDIR)?;
        refused(s.walk_stat(fd, &[b"", b"x"]), Errno::ENOTDIR)?;
        refused(s.walk_stat(fd, &[b".."]), Errno::ENOTDIR)?;
    }
    Ok(())
}

fn stat_bounds_the_reply(s: &mut Session, d: FdId) -> Verdict {
    let most = most(s, 2, 144);
    same!(s.walk_stat(d, &missing(most))?.len(), 0, "stats");
    refused(s.walk_stat(d, &missing(most + 1)), Errno::EIO)?;
    s.stat(d)?;
    Ok(())
}
