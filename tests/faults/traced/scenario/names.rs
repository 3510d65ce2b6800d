//! Requests by which names go or change.

use lisafs::Errno;

use super::{MOUNT_POINT, Scenario, WITHIN, found, opened, refused_with, requests, root};

pub(super) const SCENARIOS: &[Scenario] = requests! {
    "UnlinkAt": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{:?}", c.unlink(ids[0], b"file")?));
    "UnlinkAt, open file": opened,
        |c, ids| Ok(format!("{:?}", c.unlink(ids[0], b"file")?));
    "UnlinkAt, unknown file": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{:?}", c.unlink(ids[0], b"file")?));
    "UnlinkAt, symlink": |c| found(c, &[b"link"]),
        |c, ids| Ok(format!("{:?}", c.unlink(ids[0], b"link")?));
    "UnlinkAt, directory": |c| {
            let root = root(c)?;
            let sub = c.walk(root, &[b"dir", b"sub", b"empty"])?.inodes;
            Ok(sub.iter().map(|inode| inode.control_fd).collect())
        },
        |c, ids| Ok(format!("{:?}", c.rmdir(ids[1], b"empty")?));
    "UnlinkAt, directory that is not empty": |c| found(c, &[b"dir"]),
        |c, ids| refused_with(Errno::ENOTEMPTY, c.rmdir(ids[0], b"dir"));
    "RenameAt": |c| found(c, &[b"dir", b"other"]),
        |c, ids| Ok(format!("{:?}", c.rename((ids[0], b"dir"), (ids[2], b"moved"))?));
    "RenameAt within a directory": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{:?}", c.rename((ids[0], b"file"), (ids[0], b"moved"))?));
    "RenameAt over another": |c| {
            let mut ids = found(c, &[b"file", b"other"])?;
            ids.push(c.find(ids[2], b"replaced")?.control_fd);
            Ok(ids)
        },
        |c, ids| Ok(format!("{:?}", c.rename((ids[0], b"file"), (ids[2], b"replaced"))?));
    "RenameAt to another link": |c| found(c, &[b"file"]),
        |c, ids| {
            c.rename((ids[0], b"file"), (ids[0], b"linked"))?;
            // Not traced any more: both names are there, and so is the file.
            Ok(format!("{} {}", c.stat(ids[1])?.size, c.exists(ids[0], b"file")?))
        };
    "RenameAt into a mount" by_a_mount: |c| found(c, &[b"file", MOUNT_POINT.as_bytes()]),
        |c, ids| {
            let moved = c.rename((ids[0], b"file"), (ids[2], WITHIN.as_bytes()));
            refused_with(Errno::EXDEV, moved)
        };
    "RenameAt2, no flags": |c| found(c, &[b"file", b"other"]),
        |c, ids| Ok(format!("{:?}", c.rename_with((ids[0], b"file"), (ids[2], b"moved"), 0)?));
    "RenameAt2, exchange": |c| found(c, &[b"file", b"dir"]),
        |c, ids| {
            let (one, other) = ((ids[0], &b"file"[..]), (ids[0], &b"dir"[..]));
            Ok(format!("{:?}", c.rename_with(one, other, libc::RENAME_EXCHANGE)?))
        };
    "RenameAt2, no replacing": |c| found(c, &[b"file", b"other"]),
        |c, ids| {
            let (old, new) = ((ids[0], &b"file"[..]), (ids[2], &b"moved"[..]));
            Ok(format!("{:?}", c.rename_with(old, new, libc::RENAME_NOREPLACE)?))
        };
    "RenameAt2, no replacing, name that is taken": |c| found(c, &[b"file", b"other"]),
        |c, ids| {
            let (old, new) = ((ids[0], &b"file"[..]), (ids[2], &b"replaced"[..]));
            refused_with(Errno::EEXIST, c.rename_with(old, new, libc::RENAME_NOREPLACE))
        };
};
