//! Requests that look at files, and those that a client begins with.

use lisafs::wire::{ChannelReq, FStatFsReq, FdId};
use lisafs_conformance::{Caller, Stop};

use super::{MOUNT_POINT, Refusal, Scenario, WITHIN, found, opened, requests, root};

const O_RDONLY: u32 = 0;

/// A count of bytes that holds some entries of the root and not all.
const LITTLE: i32 = 300;

/// The root, and that opened.
fn listed(caller: &mut Caller) -> Result<Vec<FdId>, Stop> {
    let root = root(caller)?;
    Ok(vec![root, caller.open(root, O_RDONLY)?.id])
}

/// Walks along a path: how, and how many files there are.
fn walk(caller: &mut Caller, from: FdId, path: &[&[u8]]) -> Result<String, Refusal> {
    let walked = caller.walk(from, path)?;
    Ok(format!("{} {}", walked.status, walked.inodes.len()))
}

fn walk_stat(caller: &mut Caller, from: FdId, path: &[&[u8]]) -> Result<String, Refusal> {
    let stats = caller.walk_stat(from, path)?;
    let modes: Vec<_> = stats.iter().map(|stat| stat.mode).collect();
    Ok(format!("{modes:?}"))
}

/// One Getdents64: the names, and of what type.
fn entries(caller: &mut Caller, open: FdId, count: i32) -> Result<String, Refusal> {
    let mut entries = caller.entries(open, count)?;
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let told = entries
        .iter()
        .map(|entry| (entry.name.escape_ascii().to_string(), entry.d_type));
    Ok(format!("{:?}", told.collect::<Vec<_>>()))
}

pub(super) const SCENARIOS: &[Scenario] = requests! {
    "Mount": |_| Ok(vec![]),
        |c, _| Ok(format!("{:?}", c.mount()?.root.stat.mode));
    "Mount, two names below" deep: |_| Ok(vec![]),
        |c, _| Ok(format!("{:?}", c.mount()?.root.stat.mode));
    "Channel": |c| Ok(vec![root(c)?]),
        |c, _| {
            c.call(&ChannelReq {})?;
            Ok(format!("{}", c.take_fds().len()))
        };
    "Walk": |c| Ok(vec![root(c)?]),
        |c, ids| walk(c, ids[0], &[b"dir", b"sub", b"inner"]);
    "Walk, again": |c| {
            let root = root(c)?;
            c.walk(root, &[b"dir", b"sub", b"inner"])?;
            Ok(vec![root])
        },
        |c, ids| walk(c, ids[0], &[b"dir", b"sub", b"inner"]);
    "Walk to a symlink": |c| Ok(vec![root(c)?]),
        |c, ids| walk(c, ids[0], &[b"link"]);
    "Walk through a symlink": |c| Ok(vec![root(c)?]),
        |c, ids| walk(c, ids[0], &[b"link", b"beyond"]);
    "Walk to nothing": |c| Ok(vec![root(c)?]),
        |c, ids| walk(c, ids[0], &[b"dir", b"nothing", b"beyond"]);
    "Walk into a mount" by_a_mount: |c| Ok(vec![root(c)?]),
        |c, ids| walk(c, ids[0], &[MOUNT_POINT.as_bytes(), WITHIN.as_bytes()]);
    "WalkStat": |c| Ok(vec![root(c)?]),
        |c, ids| walk_stat(c, ids[0], &[b"dir", b"sub", b"inner"]);
    "WalkStat from the start": |c| found(c, &[b"dir"]),
        |c, ids| walk_stat(c, ids[1], &[b"", b"sub"]);
    "WalkStat through a symlink": |c| Ok(vec![root(c)?]),
        |c, ids| walk_stat(c, ids[0], &[b"link", b"beyond"]);
    "WalkStat to nothing": |c| Ok(vec![root(c)?]),
        |c, ids| walk_stat(c, ids[0], &[b"dir", b"nothing", b"beyond"]);
    "WalkStat into a mount" by_a_mount: |c| Ok(vec![root(c)?]),
        |c, ids| walk_stat(c, ids[0], &[MOUNT_POINT.as_bytes(), WITHIN.as_bytes()]);
    "FStat": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{}", c.stat(ids[1])?.size));
    "FStat of an open file": opened,
        |c, ids| Ok(format!("{}", c.stat(ids[2])?.size));
    "FStat of a removed file": super::removed,
        |c, ids| Ok(format!("{}", c.stat(ids[1])?.nlink));
    "FStat in a mount" by_a_mount: |c| {
            let root = root(c)?;
            let walked = c.walk(root, &[MOUNT_POINT.as_bytes(), WITHIN.as_bytes()])?;
            let ids = walked.inodes.iter().map(|inode| inode.control_fd).collect();
            Ok(ids)
        },
        |c, ids| Ok(format!("{}", c.stat(ids[1])?.size));
    "FStatFS": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{}", c.call(&FStatFsReq { fd: ids[1] })?.name_length));
    "ReadLinkAt": |c| found(c, &[b"link"]),
        |c, ids| Ok(format!("{:?}", c.readlink(ids[1])?));
    "Getdents64": listed,
        |c, ids| entries(c, ids[1], -65_536);
    "Getdents64 with little room": listed,
        |c, ids| entries(c, ids[1], -LITTLE);
    "Getdents64, going on": |c| {
            let ids = listed(c)?;
            c.entries(ids[1], -LITTLE)?;
            Ok(ids)
        },
        |c, ids| entries(c, ids[1], 65_536);
    "Getdents64, rewound": |c| {
            let ids = listed(c)?;
            c.entries(ids[1], -LITTLE)?;
            Ok(ids)
        },
        |c, ids| entries(c, ids[1], -65_536);
    "Getdents64 beside a mount" by_a_mount: listed,
        |c, ids| entries(c, ids[1], -65_536);
};
