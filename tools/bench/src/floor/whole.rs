//! All that the gofer and its client call for operations that take more than the calls which they end
//! in, as one thread would: what is beyond this is not the kernel's.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use flipcall::{FdReceiver, FdSender, fd_channel};
use rustix::fs::{self, AtFlags, Mode, OFlags, StatxFlags};
use rustix::io;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::bare::{Named, bare, directory, file};
use crate::failure::Stop;
use crate::op::{Kind, Op};

const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The two ends of what descriptors are sent through.
type Pair = (FdSender, FdReceiver);

/// The calls of `op`, if they are others than those below it, and what they are called.
pub(super) fn calls(op: Op, dir: &Path) -> Result<Option<Named>, Stop> {
    let made = match op.kind {
        Kind::Open => open(dir),
        Kind::Create => create(dir),
        _ => return Ok(None),
    };
    made.map(Some).map_err(|why| Stop::at("floor", why))
}

/// The file is known by a descriptor with O_PATH, and opened again through that.
fn open(dir: &Path) -> io::Result<Named> {
    let dir = directory(dir)?;
    file(&dir, 1)?;
    let handle = fs::openat(&dir, "file", HANDLE, Mode::empty())?;
    let procfd = fs::open("/proc/self/fd", OFlags::PATH, Mode::empty())?;
    let path = handle.as_raw_fd().to_string();
    let pair = pair()?;
    let calls = bare(move || {
        // Held, as what it names is.
        let _handle = &handle;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        donate(
            &pair,
            &fs::openat(&procfd, &path[..], flags, Mode::empty())?,
        )
    });
    let name = "all calls for open: openat, sendmsg, recvmsg, 2 × close";
    Ok((name.to_owned(), calls))
}

/// The new file has a handle as well.
fn create(dir: &Path) -> io::Result<Named> {
    let dir = directory(dir)?;
    let pair = pair()?;
    let calls = bare(move || {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = fs::openat(&dir, "created", flags, Mode::from(0o644))?;
        fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let again = OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let handle = open_tree(&file, "", again)?;
        donate(&pair, &file)?;
        drop((file, handle));
        fs::unlinkat(&dir, "created", AtFlags::empty())
    });
    let name = "all calls for create: those, statx, open_tree, close, unlinkat";
    Ok((name.to_owned(), calls))
}

pub(super) fn pair() -> io::Result<Pair> {
    let (sender, receiver) = fd_channel(8).map_err(|_| io::Errno::IO)?;
    Ok((sender, FdReceiver::from(receiver)))
}

/// Sends a descriptor, receives it and closes what came.
pub(super) fn donate((sender, receiver): &Pair, file: &OwnedFd) -> io::Result<()> {
    let sent = sender.send(file.as_fd()).is_ok();
    match receiver.recv() {
        Ok(Some(_)) if sent => Ok(()),
        _ => Err(io::Errno::IO),
    }
}
