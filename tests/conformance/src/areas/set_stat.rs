//! SetStat.

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{FdId, Gid, SetStat, SetStatReq, SetStatResp, Statx, TimeSpec, Uid};

use crate::calls::{O_RDWR, at};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("set_stat.mode", mode),
    Plain::new("set_stat.size", size),
    Plain::new("set_stat.size_beyond_the_end_of_all_files", huge_size),
    Plain::new("set_stat.times", times),
    Plain::new("set_stat.one_time_leaves_the_other", one_time),
    Plain::new("set_stat.time_now_and_omit", now_and_omit),
    Plain::new("set_stat.bad_nanoseconds", bad_nanoseconds),
    Plain::new("set_stat.owner", owner).needs(&[Need::Privileged]),
    Plain::new("set_stat.no_id_leaves_the_owner", no_id),
    Plain::new(
        "set_stat.mode_with_owner_keeps_set_id_bits",
        set_id_with_owner,
    )
    .needs(&[Need::Privileged]),
    Plain::new("set_stat.nothing_is_success", nothing),
    Plain::new(
        "set_stat.unknown_attributes_are_refused",
        unknown_attributes,
    ),
    Plain::new("set_stat.of_a_symlink", of_a_symlink),
    Plain::new("set_stat.size_of_a_directory", size_of_a_directory),
    Plain::new(
        "set_stat.does_the_rest_where_one_part_fails",
        partial_failure,
    ),
    Plain::new("set_stat.of_a_deleted_file", of_a_deleted_file),
    Plain::new("set_stat.wants_a_control_fd", wants_a_control_fd),
    Plain::new("set_stat.size_needs_no_mode", size_of_unwritable),
];

const DONE: SetStatResp = SetStatResp {
    failure_mask: 0,
    failure_errno: 0,
};

fn failed(mask: SetStat, errno: Errno) -> SetStatResp {
    SetStatResp {
        failure_mask: mask.bits(),
        failure_errno: u32::from(errno.raw()),
    }
}

fn request(fd: FdId, mask: SetStat) -> SetStatReq {
    SetStatReq {
        mask: mask.bits(),
        ..SetStatReq::new(fd)
    }
}

fn set_mode(s: &mut Session, fd: FdId, mode: u32) -> Result<SetStatResp, Error> {
    s.set_stat(&SetStatReq {
        mode,
        ..request(fd, SetStat::MODE)
    })
}

fn mode(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let sub = s.mkdir(d, b"d")?.control_fd;
    for bits in [0o000, 0o644, 0o777, 0o1755, 0o2710, 0o4711] {
        for fd in [f, sub] {
            // Type bits are ignored.
            same!(set_mode(s, fd, 0o120_000 | bits)?, DONE, "mode {bits:o}");
            same!(s.stat(fd)?.permissions(), bits, "mode");
        }
    }
    set_mode(s, sub, 0o755)?;
    Ok(())
}

fn size(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"12345")?;
    for size in [3, 0, 10_000] {
        let request = SetStatReq {
            size,
            ..request(f, SetStat::SIZE)
        };
        same!(s.set_stat(&request)?, DONE, "size {size}");
        same!(s.stat(f)?.size, size, "size");
    }
    let open = s.open(f, O_RDWR)?.id;
    same!(s.read(open, 0, 20_000)?, [0; 10_000], "content");
    Ok(())
}

fn huge_size(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"12345")?;
    let request = SetStatReq {
        size: 1 << 63,
        ..request(f, SetStat::SIZE)
    };
    same!(
        s.set_stat(&request)?,
        failed(SetStat::SIZE, Errno::EINVAL),
        "size 2^63"
    );
    same!(s.stat(f)?.size, 5, "size");
    Ok(())
}

const ATIME: TimeSpec = TimeSpec {
    sec: 1_234_567,
    nsec: 999_999_999,
};
const MTIME: TimeSpec = TimeSpec {
    sec: -1_000,
    nsec: 1,
};

fn set_times(
    s: &mut Session,
    fd: FdId,
    mask: SetStat,
    (atime, mtime): (TimeSpec, TimeSpec),
) -> Result<SetStatResp, Error> {
    s.set_stat(&SetStatReq {
        atime,
        mtime,
        ..request(fd, mask)
    })
}

fn both() -> SetStat {
    SetStat::ATIME | SetStat::MTIME
}

fn moments(stat: &Statx) -> [(i64, i64); 2] {
    [stat.atime, stat.mtime].map(|time| (time.sec, i64::from(time.nsec)))
}

fn moment(time: TimeSpec) -> (i64, i64) {
    (time.sec, time.nsec)
}

fn times(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let sub = s.mkdir(d, b"d")?.control_fd;
    let l = s.symlink(d, b"l", b"f")?.control_fd;
    for fd in [sub, l] {
        same!(set_times(s, fd, both(), (ATIME, MTIME))?, DONE, "times");
        same!(
            moments(&s.stat(fd)?),
            [moment(ATIME), moment(MTIME)],
            "times"
        );
    }
    // It was the symlink's that were set.
    ensure!(
        s.stat(f)?.mtime.sec != MTIME.sec,
        "the target's times were set"
    );
    Ok(())
}

fn one_time(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    set_times(s, f, both(), (ATIME, MTIME))?;
    let other = TimeSpec { sec: 5, nsec: 6 };
    same!(
        set_times(s, f, SetStat::ATIME, (other, other))?,
        DONE,
        "atime"
    );
    same!(moments(&s.stat(f)?), [(5, 6), moment(MTIME)], "times");
    set_times(s, f, both(), (ATIME, MTIME))?;
    same!(
        set_times(s, f, SetStat::MTIME, (other, other))?,
        DONE,
        "mtime"
    );
    same!(moments(&s.stat(f)?), [moment(ATIME), (5, 6)], "times");
    Ok(())
}

fn now_and_omit(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    set_times(s, f, both(), (ATIME, MTIME))?;
    let now = TimeSpec {
        sec: 0,
        nsec: libc::UTIME_NOW,
    };
    let omit = TimeSpec {
        sec: 0,
        nsec: libc::UTIME_OMIT,
    };
    same!(set_times(s, f, both(), (omit, now))?, DONE, "omit and now");
    let stat = s.stat(f)?;
    let [atime, mtime] = moments(&stat);
    same!(atime, moment(ATIME), "the omitted atime");
    ensure!(
        mtime.0 >= stat.ctime.sec - 1 && mtime.0 > ATIME.sec,
        "mtime {mtime:?} is not now"
    );
    Ok(())
}

fn bad_nanoseconds(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    set_times(s, f, both(), (ATIME, MTIME))?;
    for nsec in [-1, 1_000_000_000, i64::MAX] {
        let bad = TimeSpec { sec: 0, nsec };
        let response = set_times(s, f, both(), (bad, MTIME))?;
        same!(
            response,
            failed(both(), Errno::EINVAL),
            "{nsec} nanoseconds"
        );
        same!(
            moments(&s.stat(f)?),
            [moment(ATIME), moment(MTIME)],
            "times"
        );
    }
    Ok(())
}

fn owner(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let before = s.stat(f)?;
    let set = |s: &mut Session, mask| {
        s.set_stat(&SetStatReq {
            uid: Uid(1234),
            gid: Gid(5678),
            ..request(f, mask)
        })
    };
    same!(set(s, SetStat::UID)?, DONE, "uid");
    let stat = s.stat(f)?;
    same!((stat.uid, stat.gid), (1234, before.gid), "owner");
    same!(set(s, SetStat::GID)?, DONE, "gid");
    let stat = s.stat(f)?;
    same!((stat.uid, stat.gid), (1234, 5678), "owner");
    Ok(())
}

fn no_id(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let before = s.stat(f)?;
    let request = request(f, SetStat::UID | SetStat::GID);
    same!(s.set_stat(&request)?, DONE, "no ids");
    let stat = s.stat(f)?;
    same!((stat.uid, stat.gid), (before.uid, before.gid), "owner");
    Ok(())
}

fn set_id_with_owner(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let request = SetStatReq {
        mode: 0o6755,
        uid: Uid(1234),
        gid: Gid(5678),
        ..request(f, SetStat::MODE | SetStat::UID | SetStat::GID)
    };
    same!(s.set_stat(&request)?, DONE, "mode and owner");
    let stat = s.stat(f)?;
    same!(
        (stat.permissions(), stat.uid, stat.gid),
        (0o6755, 1234, 5678),
        "mode and owner"
    );
    Ok(())
}

fn nothing(s: &mut Session, d: FdId) -> Verdict {
    let before = s.stat(d)?;
    same!(s.set_stat(&SetStatReq::new(d))?, DONE, "nothing");
    same!(s.stat(d)?, before, "attributes");
    Ok(())
}

fn unknown_attributes(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"12345")?;
    for bit in (0..32).map(|bit| 1 << bit) {
        if SetStat::from_bits(bit).is_none() {
            let request = SetStatReq {
                mask: bit | SetStat::SIZE.bits(),
                ..SetStatReq::new(f)
            };
            refused(s.set_stat(&request), Errno::EPERM)?;
        }
    }
    same!(s.stat(f)?.size, 5, "size");
    Ok(())
}

fn of_a_symlink(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"12345")?;
    let l = s.symlink(d, b"l", b"f")?.control_fd;
    let before = s.stat(f)?;
    let refusal = failed(SetStat::MODE, Errno::EOPNOTSUPP);
    same!(set_mode(s, l, 0o600)?, refusal, "mode");
    let response = s.set_stat(&request(l, SetStat::SIZE))?;
    same!(
        response.failure_mask,
        SetStat::SIZE.bits(),
        "the failure of size"
    );
    same!(s.stat(f)?, before, "the target");
    Ok(())
}

fn size_of_a_directory(s: &mut Session, d: FdId) -> Verdict {
    let response = s.set_stat(&request(d, SetStat::SIZE))?;
    same!(response, failed(SetStat::SIZE, Errno::EISDIR), "size");
    Ok(())
}

fn partial_failure(s: &mut Session, d: FdId) -> Verdict {
    let request = SetStatReq {
        mode: 0o700,
        mtime: MTIME,
        ..request(d, SetStat::SIZE | SetStat::MODE | SetStat::MTIME)
    };
    same!(
        s.set_stat(&request)?,
        failed(SetStat::SIZE, Errno::EISDIR),
        "size of a directory"
    );
    let stat = s.stat(d)?;
    same!(stat.permissions(), 0o700, "mode");
    same!(stat.mtime.sec, MTIME.sec, "mtime");
    Ok(())
}

fn of_a_deleted_file(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"12345")?;
    s.unlink(d, b"f")?;
    let intruder = s.file(d, b"f", b"1234567")?;
    let request = SetStatReq {
        mode: 0o600,
        size: 2,
        ..request(f, SetStat::MODE | SetStat::SIZE)
    };
    same!(s.set_stat(&request)?, DONE, "mode and size");
    let stat = s.stat(f)?;
    same!((stat.permissions(), stat.size), (0o600, 2), "mode and size");
    let stat = s.stat(intruder)?;
    same!(
        (stat.permissions(), stat.size),
        (0o644, 7),
        "the file that has the name now"
    );
    Ok(())
}

fn wants_a_control_fd(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    refused(set_mode(s, open, 0o600), Errno::EINVAL)?;
    // The id is looked at before the mask.
    let request = SetStatReq {
        mask: 0x800,
        ..SetStatReq::new(FdId::INVALID)
    };
    refused(s.set_stat(&request), Errno::EBADF)
}

fn size_of_unwritable(s: &mut Session, d: FdId) -> Verdict {
    let created = s.create_as(at(d, 0o644), b"f", O_RDWR)?;
    s.write(created.open, 0, b"12345")?;
    let f = created.inode.control_fd;
    // The mode that forbids writing comes with the new size.
    let request = SetStatReq {
        mode: 0o400,
        size: 1,
        ..request(f, SetStat::MODE | SetStat::SIZE)
    };
    same!(s.set_stat(&request)?, DONE, "mode and size");
    let stat = s.stat(f)?;
    same!((stat.permissions(), stat.size), (0o400, 1), "mode and size");
    Ok(())
}
