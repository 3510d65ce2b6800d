//! OpenCreateAt, MkdirAt and MknodAt.

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{
    CreateCommon, FdId, FileType, Gid, Inode, Mid, MkdirAtReq, MknodAtReq, SetStat, SetStatReq, Uid,
};

use crate::calls::{O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, at};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("create.file_is_new_empty_and_open", file),
    Plain::new("create.must_not_exist", must_not_exist),
    Plain::new("create.in_what_is_no_directory", in_no_directory),
    Plain::new("create.in_a_deleted_directory", in_a_deleted_directory),
    Plain::new("create.mode_is_exact", mode_is_exact),
    Plain::new("create.mode_does_not_limit_the_opening", unreadable),
    Plain::new("create.owner_and_set_id_bits", owner_and_set_id_bits).needs(&[Need::Privileged]),
    Plain::new("create.in_a_set_gid_directory", set_gid_directory).needs(&[Need::Privileged]),
    Plain::new("create.special_files_are_refused", special_files),
    Plain::new("create.whiteout", whiteout),
];

fn file(s: &mut Session, d: FdId) -> Verdict {
    let created = s.create(d, b"f", O_RDWR)?;
    ensure!(created.inode.control_fd != created.open, "one id for both");
    same!(created.inode.stat.file_type(), FileType::Regular, "type");
    same!(
        (created.inode.stat.size, created.inode.stat.nlink),
        (0, 1),
        "size and links"
    );
    s.write(created.open, 0, b"data")?;
    same!(s.read(created.open, 0, 10)?, b"data", "content");
    same!(
        s.find(d, b"f")?.stat.ino,
        created.inode.stat.ino,
        "the file found"
    );
    for (name, flags) in [(&b"w"[..], O_WRONLY | O_TRUNC), (b"r", O_RDONLY)] {
        let open = s.create(d, name, flags)?.open;
        let readable = flags & O_WRONLY == 0;
        same!(
            s.read(open, 0, 1).is_ok(),
            readable,
            "whether {name:?} can be read"
        );
        same!(
            s.write(open, 0, b"x").is_ok(),
            !readable,
            "whether {name:?} can be written"
        );
    }
    Ok(())
}

fn must_not_exist(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"content")?;
    s.mkdir(d, b"d")?;
    s.symlink(d, b"l", b"nowhere")?;
    for name in [&b"f"[..], b"d", b"l"] {
        refused(s.create(d, name, O_RDWR | O_TRUNC), Errno::EEXIST)?;
        refused(s.mkdir(d, name), Errno::EEXIST)?;
        refused(s.mknod(d, name, 0o100_644), Errno::EEXIST)?;
        refused(s.symlink(d, name, b"x"), Errno::EEXIST)?;
    }
    same!(s.find(d, b"f")?.stat.size, 7, "size");
    refused(s.find(d, b"nowhere").map_err(as_remote), Errno::ENOENT)
}

/// A walk that finds nothing succeeds; `find` makes an error of that on this side.
fn as_remote(error: Error) -> Error {
    Error::Remote(error.errno())
}

fn in_no_directory(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let l = s.symlink(d, b"l", b".")?.control_fd;
    for fd in [f, l] {
        refused(s.create(fd, b"x", O_RDWR), Errno::ENOTDIR)?;
        refused(s.mkdir(fd, b"x"), Errno::ENOTDIR)?;
        refused(s.mknod(fd, b"x", 0o100_644), Errno::ENOTDIR)?;
        refused(s.symlink(fd, b"x", b"t"), Errno::ENOTDIR)?;
        refused(s.link(fd, f, b"x"), Errno::ENOTDIR)?;
        refused(s.unlink(fd, b"x"), Errno::ENOTDIR)?;
        refused(s.rename((fd, b"x"), (d, b"y")), Errno::ENOTDIR)?;
        refused(s.rename((d, b"f"), (fd, b"y")), Errno::ENOTDIR)?;
        if s.offers(Mid::RENAME_AT2) {
            refused(s.rename_with((d, b"f"), (fd, b"y"), 0), Errno::ENOTDIR)?;
        }
    }
    Ok(())
}

fn in_a_deleted_directory(s: &mut Session, d: FdId) -> Verdict {
    let gone = s.mkdir(d, b"d")?.control_fd;
    s.rmdir(d, b"d")?;
    // Another directory of the same name is another directory.
    let other = s.mkdir(d, b"d")?.control_fd;
    refused(s.create(gone, b"x", O_RDWR), Errno::EINVAL)?;
    refused(s.mkdir(gone, b"x"), Errno::EINVAL)?;
    same!(s.names(other)?.len(), 0, "names in the other directory");
    Ok(())
}

fn make_all(s: &mut Session, create: &CreateCommon, suffix: &str) -> Result<[Inode; 3], Error> {
    let name = |kind: &str| format!("{kind}{suffix}").into_bytes();
    let file = s.create_as(create.clone(), &name("f"), O_RDWR)?.inode;
    let node = s.call(&MknodAtReq {
        create: CreateCommon {
            mode: create.mode | 0o100_000,
            ..create.clone()
        },
        minor: 0,
        major: 0,
        name: &name("n"),
    })?;
    let node = node.child;
    let directory = s.call(&MkdirAtReq {
        create: create.clone(),
        name: &name("d"),
    })?;
    Ok([file, node, directory.child])
}

fn mode_is_exact(s: &mut Session, d: FdId) -> Verdict {
    for mode in [0o000, 0o022, 0o644, 0o777, 0o1700, 0o2770, 0o4711] {
        let made = make_all(s, &at(d, mode), &format!("{mode:o}"))?;
        for inode in made {
            let stat = s.stat(inode.control_fd)?;
            same!(stat.permissions(), u32::from(mode), "mode");
            same!(inode.stat.mode, stat.mode, "mode of the reply");
        }
    }
    Ok(())
}

fn unreadable(s: &mut Session, d: FdId) -> Verdict {
    for (name, mode, flags) in [
        (&b"a"[..], 0o200, O_RDWR),
        (b"b", 0o400, O_WRONLY),
        (b"c", 0, O_RDWR),
    ] {
        let created = s.create_as(at(d, mode), name, flags)?;
        s.write(created.open, 0, b"data")?;
        same!(s.stat(created.open)?.permissions(), u32::from(mode), "mode");
    }
    Ok(())
}

fn owner_and_set_id_bits(s: &mut Session, d: FdId) -> Verdict {
    let create = CreateCommon {
        dir_fd: d,
        uid: Uid(1234),
        gid: Gid(5678),
        mode: 0o6711,
    };
    for inode in make_all(s, &create, "")? {
        let stat = s.stat(inode.control_fd)?;
        same!((stat.uid, stat.gid), (1234, 5678), "owner");
        same!(
            (inode.stat.uid, inode.stat.gid),
            (1234, 5678),
            "owner of the reply"
        );
        same!(stat.permissions(), 0o6711, "mode of {:?}", stat.file_type());
        same!(inode.stat.mode, stat.mode, "mode of the reply");
    }
    Ok(())
}

fn set_gid_directory(s: &mut Session, d: FdId) -> Verdict {
    let response = s.set_stat(&SetStatReq {
        mask: (SetStat::MODE | SetStat::GID).bits(),
        mode: 0o2775,
        gid: Gid(5678),
        ..SetStatReq::new(d)
    })?;
    same!(response.failure_mask, 0, "failures");
    for inode in make_all(s, &at(d, 0o755), "")? {
        let stat = s.stat(inode.control_fd)?;
        same!(stat.gid, 5678, "group of {:?}", stat.file_type());
        same!(inode.stat.gid, 5678, "group of the reply");
        if stat.file_type() == FileType::Directory {
            same!(stat.permissions(), 0o2755, "mode of the directory");
        }
    }
    // Who says whose it is to be is obeyed.
    let own = s.stat(d)?.uid;
    let create = CreateCommon {
        uid: Uid(own),
        gid: Gid(4321),
        ..at(d, 0o644)
    };
    same!(
        s.create_as(create, b"own", O_RDWR)?.inode.stat.gid,
        4321,
        "group asked for"
    );
    Ok(())
}

fn special_files(s: &mut Session, d: FdId) -> Verdict {
    for kind in [
        0,
        libc::S_IFIFO,
        libc::S_IFBLK,
        libc::S_IFSOCK,
        libc::S_IFDIR,
        libc::S_IFLNK,
    ] {
        refused(s.mknod(d, b"x", kind | 0o644), Errno::EPERM)?;
    }
    let device = MknodAtReq {
        create: at(d, 0o020_666),
        minor: 3,
        major: 1,
        name: b"x",
    };
    refused(s.call(&device), Errno::EPERM)?;
    same!(s.names(d)?.len(), 0, "files made");
    Ok(())
}

fn whiteout(s: &mut Session, d: FdId) -> Verdict {
    let stat = s.mknod(d, b"w", libc::S_IFCHR)?.stat;
    same!(stat.file_type(), FileType::CharacterDevice, "type");
    same!((stat.rdev_major, stat.rdev_minor), (0, 0), "device");
    Ok(())
}
