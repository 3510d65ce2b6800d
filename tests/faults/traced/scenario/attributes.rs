//! Requests that set attributes, and those about extended ones.

use std::thread;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{FdId, Gid, SetStat, SetStatReq, TimeSpec, Uid};
use lisafs_conformance::{Caller, Stop};

use super::{Refusal, Scenario, TICK, found, opened, removed, requests};

const OWNER: SetStat = SetStat::UID.union(SetStat::GID);
const TIMES: SetStat = SetStat::ATIME.union(SetStat::MTIME);

/// Times long ago, so that they are nobody's by chance.
const ATIME: TimeSpec = TimeSpec { sec: 12, nsec: 34 };
const MTIME: TimeSpec = TimeSpec { sec: 56, nsec: 78 };

/// Neither what files have to begin with nor in the way of looking into a directory.
const MODE: u32 = 0o740;

/// SetStat of `mask`. What could not be set at all is an error as of any other request; of what could
/// be set in part, the file has to be as the answer says.
fn set(caller: &mut Caller, id: FdId, mask: SetStat) -> Result<String, Refusal> {
    let own = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    // Nobody but root can give a file away, so for others nothing changes.
    let (uid, gid) = if own.0 == 0 { (1, 1) } else { own };
    let request = SetStatReq {
        mask: mask.bits(),
        mode: MODE,
        uid: Uid(uid),
        gid: Gid(gid),
        size: 5,
        atime: ATIME,
        mtime: MTIME,
        ..SetStatReq::new(id)
    };
    let reply = caller.set_stat(&request)?;
    let kept = SetStat::from_bits(reply.failure_mask);
    let kept =
        kept.filter(|kept| mask.contains(*kept) && kept.is_empty() == (reply.failure_errno == 0));
    let Some(kept) = kept else {
        return Err(Refusal::Untrue(format!("{reply:?} of {mask:?}")));
    };
    let errno = Errno::new(reply.failure_errno);
    if let Some(errno) = errno
        && kept == mask
    {
        return Err(Error::Remote(errno).into());
    }
    // Not traced any more.
    let now = caller.stat(id)?;
    let time = |time: lisafs::wire::Timestamp| (time.sec, i64::from(time.nsec));
    let is_as_asked = [
        (SetStat::MODE, now.permissions() == MODE),
        (SetStat::UID, now.uid == uid),
        (SetStat::GID, now.gid == gid),
        (SetStat::SIZE, now.size == 5),
        (SetStat::ATIME, time(now.atime) == (ATIME.sec, ATIME.nsec)),
        (SetStat::MTIME, time(now.mtime) == (MTIME.sec, MTIME.nsec)),
    ];
    for (attribute, is_as_asked) in is_as_asked {
        let nothing_to_see = attribute.intersects(OWNER) && own.0 != 0;
        let should = mask.difference(kept).contains(attribute);
        if is_as_asked != should && !nothing_to_see {
            return Err(Refusal::Untrue(format!(
                "{reply:?}, but {attribute:?} is of {now:?}"
            )));
        }
    }
    match errno {
        Some(errno) => Err(Refusal::Partly(kept, errno)),
        None => Ok("all".to_owned()),
    }
}

fn with_xattr(caller: &mut Caller) -> Result<Vec<FdId>, Stop> {
    let ids = found(caller, &[b"file"])?;
    match caller.set_xattr(ids[1], b"user.present", &[b'v'; 1000], 0) {
        Err(Error::Remote(Errno::EOPNOTSUPP)) => {
            return Err(Stop::skipped("no extended attributes here"));
        }
        set => set?,
    }
    caller.set_xattr(ids[1], b"user.short", b"value", 0)?;
    thread::sleep(TICK);
    Ok(ids)
}

pub(super) const SCENARIOS: &[Scenario] = requests! {
    "SetStat, mode": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::MODE);
    "SetStat, mode of a directory": |c| found(c, &[b"dir"]),
        |c, ids| set(c, ids[1], SetStat::MODE);
    "SetStat, user": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::UID);
    "SetStat, group": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::GID);
    "SetStat, owner": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], OWNER);
    "SetStat, owner of a symlink": |c| found(c, &[b"link"]),
        |c, ids| set(c, ids[1], OWNER);
    "SetStat, size": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::SIZE);
    "SetStat, size of an open file": opened,
        |c, ids| set(c, ids[1], SetStat::SIZE);
    "SetStat, atime": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::ATIME);
    "SetStat, mtime": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::MTIME);
    "SetStat, times": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], TIMES);
    "SetStat, times of a symlink": |c| found(c, &[b"link"]),
        |c, ids| set(c, ids[1], TIMES);
    "SetStat, all": |c| found(c, &[b"file"]),
        |c, ids| set(c, ids[1], SetStat::all());
    "SetStat, all of an open file": opened,
        |c, ids| set(c, ids[1], SetStat::all());
    "SetStat, all of a removed file": removed,
        |c, ids| set(c, ids[1], SetStat::all());
    "FGetXattr": with_xattr,
        |c, ids| Ok(format!("{:?}", c.get_xattr(ids[1], b"user.present", 0)?));
    "FGetXattr, short": with_xattr,
        |c, ids| Ok(format!("{:?}", c.get_xattr(ids[1], b"user.short", 100)?));
    "FGetXattr, missing": with_xattr,
        |c, ids| super::refused_with(Errno::ENODATA, c.get_xattr(ids[1], b"user.missing", 0));
    "FSetXattr": with_xattr,
        |c, ids| Ok(format!("{:?}", c.set_xattr(ids[1], b"user.new", b"value", 0)?));
    "FSetXattr, another value": with_xattr,
        |c, ids| Ok(format!("{:?}", c.set_xattr(ids[1], b"user.present", b"value", 0)?));
    "FListXattr": with_xattr,
        |c, ids| Ok(format!("{:?}", c.list_xattr(ids[1], 0)?));
    "FRemoveXattr": with_xattr,
        |c, ids| Ok(format!("{:?}", c.remove_xattr(ids[1], b"user.present")?));
};
