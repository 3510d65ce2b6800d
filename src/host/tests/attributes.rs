use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::{EVERYTHING, Served, make_fifo};
use crate::Errno;
use crate::host::attributes::{permissions, stat_fs};
use crate::host::handle::Handle;
use crate::host::kernel::Kernel;
use crate::host::sys;
use crate::wire::{FdId, Gid, SetStat, SetStatReq, SetStatResp, TimeSpec, Uid};

fn request() -> SetStatReq {
    SetStatReq::new(FdId(1))
}

fn set(served: &Served, handle: &Handle, mask: SetStat, request: &SetStatReq) -> SetStatResp {
    served.host.set_stat(handle, mask, request)
}

fn failed(mask: SetStat, errno: Errno) -> SetStatResp {
    SetStatResp {
        failure_mask: mask.bits(),
        failure_errno: u32::from(errno.raw()),
    }
}

fn succeeded() -> SetStatResp {
    SetStatResp {
        failure_mask: 0,
        failure_errno: 0,
    }
}

#[test]
fn a_mode_is_set_on_every_type_but_symlinks() {
    let mode = |mode| SetStatReq { mode, ..request() };
    for kernel in [Kernel::probe(), Kernel::OLDEST] {
        let served = Served::with(EVERYTHING, kernel);
        fs::write(served.path("file"), "").unwrap();
        fs::create_dir(served.path("directory")).unwrap();
        make_fifo(&served.path("fifo"));
        let _socket = UnixListener::bind(served.path("socket")).unwrap();
        symlink("file", served.path("link")).unwrap();
        for path in ["file", "directory", "fifo", "socket"] {
            let handle = served.walk(path);
            let response = set(&served, &handle, SetStat::MODE, &mode(0o107_751));
            assert_eq!(response, succeeded(), "{path}");
            assert_eq!(handle.stat().unwrap().permissions(), 0o7751, "{path}");
        }
        let response = set(&served, &served.walk("link"), SetStat::MODE, &mode(0o600));
        assert_eq!(response, failed(SetStat::MODE, Errno::EOPNOTSUPP));
        let file = served.walk("file").stat().unwrap();
        assert_eq!(file.permissions(), 0o7751, "not followed");
    }
}

#[test]
fn mode_and_times_are_those_of_the_file_that_had_the_name() {
    for kernel in [Kernel::probe(), Kernel::OLDEST] {
        let served = Served::with(EVERYTHING, kernel);
        fs::write(served.path("file"), "").unwrap();
        let handle = served.walk("file");
        handle.hold().unwrap();
        fs::remove_file(served.path("file")).unwrap();
        fs::write(served.path("file"), "").unwrap();
        let before = served.walk("file").stat().unwrap();
        let request = SetStatReq {
            mode: 0o4711,
            atime: TimeSpec { sec: 1, nsec: 2 },
            mtime: TimeSpec { sec: 3, nsec: 4 },
            ..request()
        };
        let mask = SetStat::MODE | SetStat::ATIME | SetStat::MTIME;
        assert_eq!(set(&served, &handle, mask, &request), succeeded());
        let stat = handle.stat().unwrap();
        assert_eq!(stat.permissions(), 0o4711);
        assert_eq!((stat.atime.sec, stat.atime.nsec), (1, 2));
        assert_eq!((stat.mtime.sec, stat.mtime.nsec), (3, 4));
        assert_eq!(served.walk("file").stat().unwrap(), before, "the other one");
    }
}

#[test]
fn the_call_for_modes_is_missed_where_it_is_not() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    let called = served.walk("file").with_fd(|fd| {
        let mode = permissions(0o640);
        Ok(sys::fchmodat2(fd, c"", mode, libc::AT_EMPTY_PATH)?)
    });
    assert_eq!(called.is_ok(), Kernel::probe().fchmodat2, "{called:?}");
}

#[test]
fn set_id_bits_survive_a_change_of_owner_and_size_in_one_request() {
    let served = Served::new();
    fs::write(served.path("file"), "content").unwrap();
    let stat = served.walk("file").stat().unwrap();
    let request = SetStatReq {
        mode: 0o4755,
        uid: Uid(stat.uid),
        gid: Gid(stat.gid),
        size: 3,
        ..request()
    };
    let mask = SetStat::MODE | SetStat::UID | SetStat::GID | SetStat::SIZE;
    let handle = served.walk("file");
    assert_eq!(set(&served, &handle, mask, &request), succeeded());
    let stat = handle.stat().unwrap();
    assert_eq!((stat.permissions(), stat.size), (0o4755, 3));
}

#[test]
fn a_mode_that_forbids_writing_does_not_keep_the_size_from_changing() {
    let served = Served::new();
    fs::write(served.path("file"), "content").unwrap();
    let request = SetStatReq {
        mode: 0o400,
        size: 2,
        ..request()
    };
    let handle = served.walk("file");
    assert_eq!(
        set(&served, &handle, SetStat::MODE | SetStat::SIZE, &request),
        succeeded()
    );
    assert_eq!(fs::metadata(served.path("file")).unwrap().len(), 2);
}

#[test]
fn each_part_that_fails_is_told_and_the_others_are_done() {
    let served = Served::new();
    fs::create_dir(served.path("directory")).unwrap();
    fs::set_permissions(served.path("directory"), fs::Permissions::from_mode(0o755)).unwrap();
    let handle = served.walk("directory");
    let request = SetStatReq {
        mode: 0o700,
        size: 1,
        mtime: TimeSpec { sec: 5, nsec: 6 },
        ..request()
    };
    let mask = SetStat::MODE | SetStat::SIZE | SetStat::MTIME;
    assert_eq!(
        set(&served, &handle, mask, &request),
        failed(SetStat::SIZE, Errno::EISDIR)
    );
    let found = fs::metadata(served.path("directory")).unwrap();
    assert_eq!(
        (found.mode() & 0o7777, found.mtime(), found.mtime_nsec()),
        (0o700, 5, 6)
    );
}

#[test]
fn a_size_is_for_regular_files_and_at_most_what_the_host_can_count() {
    let served = Served::new();
    fs::write(served.path("file"), "content").unwrap();
    make_fifo(&served.path("fifo"));
    symlink("file", served.path("link")).unwrap();
    let sized = |path: &str, size| {
        set(
            &served,
            &served.walk(path),
            SetStat::SIZE,
            &SetStatReq { size, ..request() },
        )
    };
    assert_eq!(sized("fifo", 0), failed(SetStat::SIZE, Errno::EINVAL));
    assert_eq!(sized("link", 0), failed(SetStat::SIZE, Errno::EINVAL));
    assert_eq!(sized("file", 1 << 63), failed(SetStat::SIZE, Errno::EINVAL));
    assert_eq!(fs::read(served.path("file")).unwrap(), b"content");
    assert_eq!(sized("file", 10), succeeded());
    assert_eq!(fs::read(served.path("file")).unwrap(), b"content\0\0\0");
}

#[test]
fn times_are_set_on_symlinks_themselves_and_may_be_now_or_left() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    symlink("file", served.path("link")).unwrap();
    let times = SetStat::ATIME | SetStat::MTIME;
    let at = |sec, nsec| TimeSpec { sec, nsec };
    let link = served.walk("link");

    let both = SetStatReq {
        atime: at(-1, 2),
        mtime: at(3, 4),
        ..request()
    };
    assert_eq!(set(&served, &link, times, &both), succeeded());
    let stat = link.stat().unwrap();
    assert_eq!((stat.atime.sec, stat.atime.nsec), (-1, 2));
    assert_eq!((stat.mtime.sec, stat.mtime.nsec), (3, 4));
    assert_ne!(served.walk("file").stat().unwrap().mtime.sec, 3);

    let one = SetStatReq {
        mtime: at(7, 0),
        ..request()
    };
    assert_eq!(set(&served, &link, SetStat::MTIME, &one), succeeded());
    let stat = link.stat().unwrap();
    assert_eq!((stat.atime.sec, stat.mtime.sec), (-1, 7));

    let special = SetStatReq {
        atime: at(0, libc::UTIME_NOW),
        mtime: at(0, libc::UTIME_OMIT),
        ..request()
    };
    assert_eq!(set(&served, &link, times, &special), succeeded());
    let stat = link.stat().unwrap();
    assert!(stat.atime.sec > 1_000_000_000);
    assert_eq!(stat.mtime.sec, 7);

    for nsec in [-1, 1_000_000_000, i64::MIN, i64::MAX] {
        let bad = SetStatReq {
            atime: at(0, nsec),
            mtime: at(9, 0),
            ..request()
        };
        assert_eq!(
            set(&served, &link, times, &bad),
            failed(times, Errno::EINVAL)
        );
        assert_eq!(link.stat().unwrap().mtime.sec, 7);
    }
}

#[test]
fn no_owner_is_no_change() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    let handle = served.walk("file");
    let before = handle.stat().unwrap();
    let owner = SetStat::UID | SetStat::GID;
    assert_eq!(set(&served, &handle, owner, &request()), succeeded());
    let after = handle.stat().unwrap();
    assert_eq!(
        (after.uid, after.gid, after.ctime),
        (before.uid, before.gid, before.ctime)
    );
}

#[test]
fn an_owner_is_changed_alone_or_together_or_the_failure_is_told() {
    let served = Served::new();
    symlink("nowhere", served.path("link")).unwrap();
    let handle = served.walk("link");
    let before = handle.stat().unwrap();
    let uid = SetStatReq {
        uid: Uid(4321),
        ..request()
    };
    let response = set(&served, &handle, SetStat::UID, &uid);
    if super::is_root() {
        assert_eq!(response, succeeded());
        let gid = SetStatReq {
            gid: Gid(1234),
            ..request()
        };
        assert_eq!(set(&served, &handle, SetStat::GID, &gid), succeeded());
        let after = handle.stat().unwrap();
        assert_eq!((after.uid, after.gid), (4321, 1234));
    } else {
        assert_eq!(response, failed(SetStat::UID, Errno::EPERM));
        assert_eq!(handle.stat().unwrap().uid, before.uid);
    }
}

#[test]
fn file_system_attributes_are_those_of_the_host() {
    let served = Served::new();
    symlink("nowhere", served.path("link")).unwrap();
    let found = stat_fs(&served.walk("link")).unwrap();
    let host = nix::sys::statfs::statfs(served.directory.path()).unwrap();
    assert_eq!(found.kind, u64::try_from(host.filesystem_type().0).unwrap());
    assert_eq!(found.blocks, host.blocks());
    assert_eq!(found.block_size, host.block_size());
    assert_eq!(found.name_length, 255);
}
