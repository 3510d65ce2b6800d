//! Requests that make files and names.

use lisafs::Errno;
use lisafs::wire::{CreateCommon, FdId, Gid, Inode, MkdirAtReq, Uid};
use lisafs_conformance::at;

use super::{MOUNT_POINT, Refusal, Scenario, WITHIN, found, refused_with, requests, root};

const O_RDWR: u32 = libc::O_RDWR.cast_unsigned();

/// For somebody else, with bits that only the right owner may have.
pub(super) fn given(dir_fd: FdId) -> CreateCommon {
    CreateCommon {
        uid: Uid(1),
        gid: Gid(1),
        ..at(dir_fd, 0o2775)
    }
}

/// What tells of a new file whether it is as was asked for.
fn told(inode: Inode) -> Result<String, Refusal> {
    let stat = inode.stat;
    Ok(format!(
        "{:o} {} {} {}",
        stat.mode, stat.uid, stat.gid, stat.nlink
    ))
}

pub(super) const SCENARIOS: &[Scenario] = requests! {
    "OpenCreateAt": |c| Ok(vec![root(c)?]),
        |c, ids| told(c.create(ids[0], b"new", O_RDWR)?.inode);
    "OpenCreateAt, given away" as_root: |c| Ok(vec![root(c)?]),
        |c, ids| told(c.create_as(given(ids[0]), b"new", O_RDWR)?.inode);
    "OpenCreateAt, set-user-ID": |c| Ok(vec![root(c)?]),
        |c, ids| told(c.create_as(at(ids[0], 0o4755), b"new", O_RDWR)?.inode);
    "OpenCreateAt, group of the directory": |c| found(c, &[b"shared"]),
        |c, ids| told(c.create(ids[1], b"new", O_RDWR)?.inode);
    "OpenCreateAt, name that is taken": |c| Ok(vec![root(c)?]),
        |c, ids| refused_with(Errno::EEXIST, c.create(ids[0], b"file", O_RDWR));
    "MkdirAt": |c| Ok(vec![root(c)?]),
        |c, ids| told(c.mkdir(ids[0], b"new")?);
    "MkdirAt, given away" as_root: |c| Ok(vec![root(c)?]),
        |c, ids| told(c.call(&MkdirAtReq { create: given(ids[0]), name: b"new" })?.child);
    "MkdirAt, group of the directory": |c| found(c, &[b"shared"]),
        |c, ids| told(c.mkdir(ids[1], b"new")?);
    "MknodAt": |c| Ok(vec![root(c)?]),
        |c, ids| told(c.mknod(ids[0], b"new", libc::S_IFREG | 0o600)?);
    "MknodAt, whiteout": |c| Ok(vec![root(c)?]),
        |c, ids| told(c.mknod(ids[0], b"new", libc::S_IFCHR | 0o600)?);
    "SymlinkAt": |c| Ok(vec![root(c)?]),
        |c, ids| told(c.symlink(ids[0], b"new", b"target")?);
    "LinkAt": |c| found(c, &[b"file"]),
        |c, ids| told(c.link(ids[0], ids[1], b"new")?);
    "LinkAt, symlink": |c| found(c, &[b"link"]),
        |c, ids| told(c.link(ids[0], ids[1], b"new")?);
    "LinkAt, name that is taken": |c| found(c, &[b"file"]),
        |c, ids| refused_with(Errno::EEXIST, c.link(ids[0], ids[1], b"fifo"));
    "LinkAt out of a mount" by_a_mount: |c| {
            let root = root(c)?;
            let walked = c.walk(root, &[MOUNT_POINT.as_bytes(), WITHIN.as_bytes()])?;
            let mut ids = vec![root];
            ids.extend(walked.inodes.iter().map(|inode| inode.control_fd));
            Ok(ids)
        },
        |c, ids| refused_with(Errno::EXDEV, c.link(ids[0], ids[2], b"new"));
};
