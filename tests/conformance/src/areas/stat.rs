//! FStat and FStatFS.

use lisafs::Errno;
use lisafs::wire::{FStatFsReq, FdId, FileType};

use crate::calls::{O_RDONLY, O_RDWR, STREAM};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("stat.tells_types_and_sizes", types_and_sizes),
    Plain::new("stat.agrees_with_the_host", agrees_with_the_host).needs(&[Need::HostAccess]),
    Plain::new("stat.of_open_files", of_open_files),
    Plain::new("stat.of_a_deleted_file", of_a_deleted_file),
    Plain::new("stat.of_a_bound_socket", of_a_bound_socket).needs(&[Need::UnixBind]),
    Plain::new("stat.follows_changes_by_the_host", follows_the_host).needs(&[Need::HostAccess]),
    Plain::new("stat_fs.agrees_with_the_host", fs_agrees_with_the_host).needs(&[Need::HostAccess]),
    Plain::new("stat_fs.wants_a_control_fd", fs_wants_a_control_fd),
];

fn types_and_sizes(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"12345")?;
    let l = s.symlink(d, b"l", b"1234567")?.control_fd;
    for (fd, file_type, size) in [
        (d, FileType::Directory, None),
        (f, FileType::Regular, Some(5)),
        (l, FileType::Symlink, Some(7)),
    ] {
        let stat = s.stat(fd)?;
        same!(stat.file_type(), file_type, "type");
        same!(stat.size, size.unwrap_or(stat.size), "size");
        ensure!(stat.mask & 0x7ff == 0x7ff, "mask {:#x}", stat.mask);
        same!(
            (stat.attributes, stat.attributes_mask),
            (0, 0),
            "attributes"
        );
    }
    Ok(())
}

fn agrees_with_the_host(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, b"f", b"12345")?;
    s.symlink(d, b"l", b"f")?;
    s.mkdir(d, b"d")?;
    for name in ["f", "l", "d"] {
        let found = s.find(d, name.as_bytes())?.stat;
        let host = nix::sys::stat::lstat(&s.host_path(name)?)?;
        same!(found.ino, host.st_ino, "inode");
        same!(u32::from(found.mode), host.st_mode, "mode");
        same!(u64::from(found.nlink), host.st_nlink, "links");
        same!((found.uid, found.gid), (host.st_uid, host.st_gid), "owner");
        same!(i64::try_from(found.size).ok(), Some(host.st_size), "size");
        same!(
            i64::try_from(found.blocks).ok(),
            Some(host.st_blocks),
            "blocks"
        );
        same!(i64::from(found.blksize), host.st_blksize, "block size");
        let dev = nix::sys::stat::makedev(found.dev_major.into(), found.dev_minor.into());
        same!(dev, host.st_dev, "device");
        same!(found.mtime.sec, host.st_mtime, "mtime");
        same!(
            i64::from(found.mtime.nsec),
            host.st_mtime_nsec,
            "its nanoseconds"
        );
        same!(found.ctime.sec, host.st_ctime, "ctime");
        same!(found.atime.sec, host.st_atime, "atime");
    }
    Ok(())
}

fn of_open_files(s: &mut Session, d: FdId) -> Verdict {
    let created = s.create(d, b"f", O_RDWR)?;
    s.write(created.open, 0, b"123")?;
    let by_name = s.stat(created.inode.control_fd)?;
    same!(s.stat(created.open)?, by_name, "the open file");
    let directory = s.open(d, O_RDONLY)?.id;
    same!(s.stat(directory)?.ino, s.stat(d)?.ino, "the open directory");
    Ok(())
}

fn of_a_deleted_file(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"123")?;
    s.link(d, f, b"g")?;
    s.unlink(d, b"f")?;
    same!(s.stat(f)?.nlink, 1, "links");
    s.unlink(d, b"g")?;
    let stat = s.stat(f)?;
    same!((stat.nlink, stat.size), (0, 3), "links and size");
    Ok(())
}

fn of_a_bound_socket(s: &mut Session, d: FdId) -> Verdict {
    let bound = s.bind(d, b"s", STREAM)?;
    refused(s.stat(bound.id), Errno::EINVAL)?;
    s.stat(d)?;
    Ok(())
}

fn follows_the_host(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"123")?;
    std::fs::write(s.host_path("f")?, "1234567")?;
    same!(s.stat(f)?.size, 7, "size");
    Ok(())
}

fn fs_agrees_with_the_host(s: &mut Session, d: FdId) -> Verdict {
    let stat = s.call(&FStatFsReq { fd: d })?;
    let host = nix::sys::statfs::statfs(&s.host_path("")?)?;
    same!(
        stat.kind,
        host.filesystem_type().0.unsigned_abs() & 0xffff_ffff,
        "type"
    );
    same!(stat.block_size, host.block_size(), "block size");
    same!(stat.blocks, host.blocks(), "blocks");
    same!(stat.files, host.files(), "inodes");
    same!(
        i64::try_from(stat.name_length).ok(),
        Some(host.maximum_name_length()),
        "longest name"
    );
    ensure!(
        stat.blocks_available <= stat.blocks,
        "more blocks available than there are"
    );
    Ok(())
}

fn fs_wants_a_control_fd(s: &mut Session, d: FdId) -> Verdict {
    let open = s.open(d, O_RDONLY)?.id;
    refused(s.call(&FStatFsReq { fd: open }), Errno::EINVAL)
}
