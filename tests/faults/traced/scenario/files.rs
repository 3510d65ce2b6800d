//! Requests that open files, and those about open files.

use lisafs::wire::{FAllocateReq, FlushReq};

use super::{Scenario, found, opened, removed, requests, root};

const O_RDONLY: u32 = 0;
const O_RDWR: u32 = libc::O_RDWR.cast_unsigned();
const O_TRUNC: u32 = libc::O_TRUNC.cast_unsigned();

pub(super) const SCENARIOS: &[Scenario] = requests! {
    "OpenAt": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{}", c.open(ids[1], O_RDWR)?.donated.len()));
    "OpenAt, again": opened,
        |c, ids| Ok(format!("{}", c.open(ids[1], O_RDWR)?.donated.len()));
    "OpenAt, emptying": |c| found(c, &[b"file"]),
        |c, ids| Ok(format!("{}", c.open(ids[1], O_RDWR | O_TRUNC)?.donated.len()));
    "OpenAt, directory": |c| found(c, &[b"dir"]),
        |c, ids| Ok(format!("{}", c.open(ids[1], O_RDONLY)?.donated.len()));
    "OpenAt, root": |c| Ok(vec![root(c)?]),
        |c, ids| Ok(format!("{}", c.open(ids[0], O_RDONLY)?.donated.len()));
    "OpenAt, FIFO": |c| found(c, &[b"fifo"]),
        |c, ids| Ok(format!("{}", c.open(ids[1], O_RDONLY)?.donated.len()));
    "OpenAt, removed file": removed,
        |c, ids| Ok(format!("{}", c.open(ids[1], O_RDWR)?.donated.len()));
    "FAllocate": opened,
        |c, ids| {
            let request = FAllocateReq { fd: ids[2], mode: 0, offset: 0, length: 9000 };
            Ok(format!("{:?}", c.call(&request)?))
        };
    "PRead": opened,
        |c, ids| Ok(format!("{:?}", c.read(ids[2], 0, 100)?));
    "PWrite": opened,
        |c, ids| Ok(format!("{:?}", c.write(ids[2], 7, b"written")?));
    "FSync": opened,
        |c, ids| Ok(format!("{:?}", c.sync(&ids[2..])?));
    "FSync of two files": |c| {
            let mut ids = opened(c)?;
            ids.push(c.open(ids[1], O_RDWR)?.id);
            Ok(ids)
        },
        |c, ids| Ok(format!("{:?}", c.sync(&ids[2..])?));
    "Flush": opened,
        |c, ids| Ok(format!("{:?}", c.call(&FlushReq { fd: ids[2] })?));
    "Close": opened,
        |c, ids| Ok(format!("{:?}", c.close(&ids[1..])?));
    "Close, removed file": removed,
        |c, ids| Ok(format!("{:?}", c.close(&ids[1..])?));
    "Close, bound socket": super::sockets::bound,
        |c, ids| Ok(format!("{:?}", c.close(&ids[1..])?));
};
