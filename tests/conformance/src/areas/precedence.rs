//! Requests that are wrong in two ways: which of them is told.

use lisafs::Errno;
use lisafs::wire::{FAllocateReq, FdId, Mid};

use crate::caller::encoded;
use crate::calls::{MANY, O_RDONLY, O_RDWR, O_WRONLY, STREAM};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, refused};

const UNKNOWN: FdId = FdId(0x7fff_dead_beef);

pub(crate) const CASES: &[Plain] = &[
    Plain::new("precedence.read_only_before_anything_else", read_only).needs(&[Need::ReadOnly]),
    Plain::new("precedence.name_before_id", name_before_id),
    Plain::new(
        "precedence.name_before_id_for_sockets",
        name_before_id_for_sockets,
    )
    .needs(&[Need::UnixBind]),
    Plain::new("precedence.id_before_what_it_is", id_before_kind),
    Plain::new(
        "precedence.directory_before_deleted",
        directory_before_deleted,
    ),
    Plain::new(
        "precedence.link_judges_the_directory_first",
        link_directory_first,
    ),
    Plain::new(
        "precedence.rename_looks_both_ids_up_first",
        rename_ids_first,
    ),
    Plain::new(
        "precedence.walk_looks_at_the_start_before_the_length",
        walk_start_first,
    ),
    Plain::new(
        "precedence.walk_stat_judges_names_before_the_length",
        walk_stat_names_first,
    ),
    Plain::new("precedence.open_directory_before_deleted", open_directory),
    Plain::new("precedence.access_before_ranges", access_before_ranges),
    Plain::new("precedence.entries_type_before_deleted", entries_type),
    Plain::new("precedence.readlink_type_before_deleted", readlink_type),
    Plain::new("precedence.connect_type_before_deleted", connect_type).needs(&[Need::UnixConnect]),
    Plain::new("precedence.file_on_the_way_before_missing", file_on_the_way),
];

fn read_only(s: &mut Session, _: FdId) -> Verdict {
    let mut ro = s.attach(true)?;
    let d = ro.scratch;
    refused(ro.mkdir(UNKNOWN, b".."), Errno::EROFS)?;
    refused(ro.create(UNKNOWN, b"..", O_RDWR), Errno::EROFS)?;
    refused(ro.unlink(UNKNOWN, b".."), Errno::EROFS)?;
    refused(ro.rename((UNKNOWN, b".."), (d, b"x")), Errno::EROFS)?;
    refused(ro.rename((d, b"x"), (d, b"x")), Errno::EROFS)?;
    refused(ro.write(UNKNOWN, 0, b"x"), Errno::EROFS)?;
    // What a server does not have comes before what it may not do.
    if ro.supported.contains(Mid::BIND_AT) {
        refused(ro.bind(UNKNOWN, b"..", 0), Errno::EROFS)?;
    }
    Ok(())
}

fn name_before_id(s: &mut Session, d: FdId) -> Verdict {
    let bad = b"..";
    refused(s.mkdir(UNKNOWN, bad), Errno::EINVAL)?;
    refused(s.create(UNKNOWN, bad, O_RDWR), Errno::EINVAL)?;
    refused(s.mknod(UNKNOWN, bad, 0), Errno::EINVAL)?;
    refused(s.symlink(UNKNOWN, bad, b""), Errno::EINVAL)?;
    refused(s.link(UNKNOWN, UNKNOWN, bad), Errno::EINVAL)?;
    refused(s.unlink(UNKNOWN, bad), Errno::EINVAL)?;
    refused(s.rename((UNKNOWN, bad), (UNKNOWN, b"x")), Errno::EINVAL)?;
    refused(s.rename((UNKNOWN, b"x"), (UNKNOWN, bad)), Errno::EINVAL)?;
    if s.offers(Mid::RENAME_AT2) {
        refused(
            s.rename_with((UNKNOWN, b"x"), (d, bad), u32::MAX),
            Errno::EINVAL,
        )?;
    }
    // Walks look the start up first.
    refused(s.walk(UNKNOWN, &[bad]), Errno::EBADF)?;
    refused(s.walk_stat(UNKNOWN, &[bad]), Errno::EBADF)
}

fn name_before_id_for_sockets(s: &mut Session, _: FdId) -> Verdict {
    refused(s.bind(UNKNOWN, b"..", STREAM), Errno::EINVAL)
}

fn id_before_kind(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    refused(s.mkdir(UNKNOWN, b"f"), Errno::EBADF)?;
    // A directory that is none comes before the name being taken.
    refused(s.mkdir(f, b"f"), Errno::ENOTDIR)?;
    refused(s.mknod(f, b"x", 0), Errno::ENOTDIR)?;
    refused(s.symlink(f, b"x", b""), Errno::ENOTDIR)?;
    refused(s.unlink_with(f, b"x", u32::MAX), Errno::ENOTDIR)
}

fn directory_before_deleted(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    s.unlink(d, b"f")?;
    refused(s.mkdir(f, b"x"), Errno::ENOTDIR)?;
    refused(s.create(f, b"x", O_RDWR), Errno::ENOTDIR)?;
    refused(s.unlink(f, b"x"), Errno::ENOTDIR)?;
    refused(s.walk(f, &[b"x"]), Errno::ENOTDIR)?;
    refused(s.rename((f, b"x"), (d, b"y")), Errno::ENOTDIR)
}

fn link_directory_first(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let gone = s.mkdir(d, b"gone")?.control_fd;
    s.rmdir(d, b"gone")?;
    refused(s.link(f, UNKNOWN, b"x"), Errno::ENOTDIR)?;
    refused(s.link(UNKNOWN, d, b"x"), Errno::EBADF)?;
    // What kind of file the target is comes before what has become of the directory.
    refused(s.link(gone, d, b"x"), Errno::EPERM)?;
    refused(s.link(gone, UNKNOWN, b"x"), Errno::EBADF)?;
    refused(s.link(gone, f, b"x"), Errno::EINVAL)
}

fn rename_ids_first(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let gone = s.mkdir(d, b"gone")?.control_fd;
    s.rmdir(d, b"gone")?;
    refused(s.rename((f, b"x"), (UNKNOWN, b"y")), Errno::EBADF)?;
    refused(s.rename((UNKNOWN, b"x"), (f, b"y")), Errno::EBADF)?;
    refused(s.rename((gone, b"x"), (f, b"y")), Errno::ENOTDIR)?;
    // Not even the rename of a name to itself succeeds there.
    refused(s.rename((gone, b"x"), (gone, b"x")), Errno::EINVAL)?;
    refused(s.rename((d, b"nope"), (gone, b"x")), Errno::EINVAL)
}

fn walk_start_first(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let long = vec![&b"x"[..]; s.max_message_size() as usize / 100];
    refused(s.walk(UNKNOWN, &long), Errno::EBADF)?;
    refused(s.walk(f, &long), Errno::ENOTDIR)?;
    refused(s.walk_stat(UNKNOWN, &long), Errno::EBADF)?;
    refused(s.walk_stat(f, &long), Errno::ENOTDIR)
}

fn walk_stat_names_first(s: &mut Session, d: FdId) -> Verdict {
    let mut long = vec![&b"x"[..]; s.max_message_size() as usize / 100];
    refused(s.walk_stat(d, &long), Errno::EIO)?;
    refused(s.walk(d, &long), Errno::EIO)?;
    long.push(b"..");
    refused(s.walk_stat(d, &long), Errno::EINVAL)?;
    // A walk would never have come to it.
    refused(s.walk(d, &long), Errno::EIO)
}

fn open_directory(s: &mut Session, d: FdId) -> Verdict {
    let gone = s.mkdir(d, b"gone")?.control_fd;
    s.rmdir(d, b"gone")?;
    refused(s.open(gone, O_RDWR), Errno::EISDIR)?;
    refused(s.open(UNKNOWN, O_RDWR), Errno::EBADF)
}

fn access_before_ranges(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let r = s.open(f, O_RDONLY)?.id;
    let w = s.open(f, O_WRONLY)?.id;
    let max = s.max_message_size() as usize;
    refused(s.read(w, u64::MAX, max), Errno::EBADF)?;
    refused(s.read(UNKNOWN, u64::MAX, max), Errno::EBADF)?;
    refused(s.read(r, u64::MAX, max), Errno::ENOBUFS)?;
    refused(s.write(r, u64::MAX, b"x"), Errno::EBADF)?;
    let request = FAllocateReq {
        fd: r,
        mode: u64::MAX,
        offset: 0,
        length: 0,
    };
    refused(s.call(&request), Errno::EBADF)
}

fn entries_type(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    s.unlink(d, b"f")?;
    refused(s.entries(open, MANY), Errno::ENOTDIR)?;
    refused(s.entries(open, 0), Errno::ENOTDIR)
}

fn readlink_type(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    s.unlink(d, b"f")?;
    refused(s.readlink(f), Errno::EINVAL)
}

fn connect_type(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    s.unlink(d, b"f")?;
    refused(s.connect(f, u32::MAX), Errno::ENOTSOCK)
}

fn file_on_the_way(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"")?;
    // What is behind it is neither missing nor judged.
    refused(s.walk(d, &[b"f", b"nope", b".."]), Errno::ENOTDIR)?;
    // Whereas a request that cannot be decoded is not looked at at all.
    let mut body = encoded(&UNKNOWN)?;
    body.extend([1, 0]);
    s.raw(lisafs::wire::Mid::WALK, &body)?.refused(Errno::EIO)
}
