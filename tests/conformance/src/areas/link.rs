//! LinkAt, SymlinkAt, ReadLinkAt and UnlinkAt.

use lisafs::Errno;
use lisafs::wire::{FdId, FileType, Gid, SymlinkAtReq, Uid};

use crate::calls::{O_RDONLY, O_RDWR};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("link.counts", counts),
    Plain::new("link.to_a_directory", to_a_directory),
    Plain::new("link.over_a_name", over_a_name),
    Plain::new("link.to_a_symlink", to_a_symlink),
    Plain::new("link.to_what_has_no_name", to_what_has_no_name),
    Plain::new("link.wants_a_control_fd", wants_a_control_fd),
    Plain::new("link.to_a_renamed_file", to_a_renamed_file),
    Plain::new("symlink.targets_are_any_bytes", targets),
    Plain::new("symlink.with_an_empty_target", empty_target),
    Plain::new("symlink.longest_target", longest_target),
    Plain::new("symlink.owner", symlink_owner).needs(&[Need::Privileged]),
    Plain::new("symlink.read_of_what_is_none", read_of_none),
    Plain::new("unlink.flags", unlink_flags),
    Plain::new("unlink.wrong_type", unlink_wrong_type),
    Plain::new("unlink.missing", unlink_missing),
    Plain::new("unlink.then_a_new_file_of_the_name", unlink_and_again),
    Plain::new("unlink.one_of_two_links", unlink_one_of_two),
];

fn counts(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let sub = s.mkdir(d, b"d")?.control_fd;
    let linked = s.link(sub, f, b"g")?;
    same!(linked.stat.nlink, 2, "links in the reply");
    same!(linked.stat.ino, s.stat(f)?.ino, "the file");
    ensure!(linked.control_fd != f, "the id of the target");
    same!(s.stat(f)?.nlink, 2, "links");
    s.unlink(d, b"f")?;
    same!(s.stat(linked.control_fd)?.nlink, 1, "links");
    Ok(())
}

fn to_a_directory(s: &mut Session, d: FdId) -> Verdict {
    let sub = s.mkdir(d, b"d")?.control_fd;
    refused(s.link(d, sub, b"x"), Errno::EPERM)
}

fn over_a_name(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    s.file(d, b"g", b"")?;
    refused(s.link(d, f, b"g"), Errno::EEXIST)?;
    refused(s.link(d, f, b"f"), Errno::EEXIST)?;
    same!(s.stat(f)?.nlink, 1, "links");
    Ok(())
}

fn to_a_symlink(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"data")?;
    let l = s.symlink(d, b"l", b"f")?.control_fd;
    let linked = s.link(d, l, b"m")?;
    same!(linked.stat.file_type(), FileType::Symlink, "type");
    same!(s.readlink(linked.control_fd)?, b"f", "target");
    Ok(())
}

fn to_what_has_no_name(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    s.unlink(d, b"f")?;
    s.file(d, b"f", b"another")?;
    refused(s.link(d, f, b"g"), Errno::EINVAL)?;
    ensure!(!s.exists(d, b"g")?, "a link was made");
    Ok(())
}

fn wants_a_control_fd(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    refused(s.link(d, open, b"g"), Errno::EINVAL)?;
    refused(s.link(d, FdId::INVALID, b"g"), Errno::EBADF)
}

fn to_a_renamed_file(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    s.rename((d, b"f"), (d, b"g"))?;
    s.file(d, b"f", b"another")?;
    let linked = s.link(d, f, b"h")?;
    same!(linked.stat.ino, s.stat(f)?.ino, "the file");
    Ok(())
}

fn targets(s: &mut Session, d: FdId) -> Verdict {
    for (name, target) in [
        (&b"a"[..], &b".."[..]),
        (b"b", b"/etc/passwd"),
        (b"c", b"a//b/../\xff\n"),
        (b"d", b" "),
    ] {
        let made = s.symlink(d, name, target)?;
        same!(made.stat.file_type(), FileType::Symlink, "type");
        same!(s.readlink(made.control_fd)?, target, "target");
        let found = s.find(d, name)?;
        same!(found.stat.ino, made.stat.ino, "the file found");
        same!(s.readlink(found.control_fd)?, target, "target");
    }
    Ok(())
}

fn empty_target(s: &mut Session, d: FdId) -> Verdict {
    refused(s.symlink(d, b"l", b""), Errno::ENOENT)?;
    ensure!(!s.exists(d, b"l")?, "a symlink was made");
    Ok(())
}

fn longest_target(s: &mut Session, d: FdId) -> Verdict {
    let l = s.symlink(d, b"l", &[b't'; 4095])?.control_fd;
    same!(s.readlink(l)?, [b't'; 4095], "target");
    refused(s.symlink(d, b"m", &[b't'; 4096]), Errno::ENAMETOOLONG)?;
    refused(s.symlink(d, b"m", &[b't'; 65_535]), Errno::ENAMETOOLONG)
}

fn symlink_owner(s: &mut Session, d: FdId) -> Verdict {
    let request = SymlinkAtReq {
        dir_fd: d,
        uid: Uid(1234),
        gid: Gid(5678),
        name: b"l",
        target: b"nowhere",
    };
    let stat = s.call(&request)?.child.stat;
    same!((stat.uid, stat.gid), (1234, 5678), "owner");
    Ok(())
}

fn read_of_none(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    refused(s.readlink(f), Errno::EINVAL)?;
    refused(s.readlink(d), Errno::EINVAL)?;
    let open = s.open(f, O_RDONLY)?.id;
    refused(s.readlink(open), Errno::EINVAL)
}

fn unlink_flags(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"data")?;
    for flags in [1, 0x100, 0x201, 0x8000, u32::MAX] {
        refused(s.unlink_with(d, b"f", flags), Errno::EINVAL)?;
    }
    ensure!(s.exists(d, b"f")?, "the file is gone");
    Ok(())
}

fn unlink_wrong_type(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"data")?;
    let sub = s.mkdir(d, b"d")?.control_fd;
    s.file(sub, b"f", b"data")?;
    refused(s.unlink(d, b"d"), Errno::EISDIR)?;
    refused(s.rmdir(d, b"f"), Errno::ENOTDIR)?;
    refused(s.rmdir(d, b"d"), Errno::ENOTEMPTY)?;
    // What was not removed is not taken for removed.
    s.find(sub, b"f")?;
    s.unlink(sub, b"f")?;
    s.rmdir(d, b"d")?;
    Ok(())
}

fn unlink_missing(s: &mut Session, d: FdId) -> Verdict {
    refused(s.unlink(d, b"nope"), Errno::ENOENT)?;
    refused(s.rmdir(d, b"nope"), Errno::ENOENT)
}

fn unlink_and_again(s: &mut Session, d: FdId) -> Verdict {
    let old = s.file(d, b"f", b"old")?;
    s.unlink(d, b"f")?;
    let new = s.file(d, b"f", b"newer")?;
    // Giving up the old one must not take the new one along.
    s.close(&[old])?;
    same!(
        s.find(d, b"f")?.stat.ino,
        s.stat(new)?.ino,
        "the file of the name"
    );
    s.unlink(d, b"f")?;
    refused(s.link(d, new, b"g"), Errno::EINVAL)
}

fn unlink_one_of_two(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let g = s.link(d, f, b"g")?.control_fd;
    s.unlink(d, b"f")?;
    // One name is gone, the other is not.
    refused(s.link(d, f, b"h"), Errno::EINVAL)?;
    s.link(d, g, b"h")?;
    same!(s.stat(g)?.nlink, 2, "links");
    Ok(())
}
