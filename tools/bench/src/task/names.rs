//! Walking, making, renaming, removing.

use libc::{AT_REMOVEDIR, O_RDWR, S_IFREG};
use lisafs::client::{Client, ControlFile, Create, Error, WalkStatus};

use super::{BoxTask, Task, call, unlike};
use crate::area::Seat;

pub(super) fn walk(seat: &Seat, depth: u32) -> Result<BoxTask, Error> {
    let names = seat.chain(depth)?;
    let dir = seat.again()?;
    Ok(call(move || match dir.walk(&names)?.status {
        WalkStatus::Complete => Ok(()),
        WalkStatus::Missing | WalkStatus::Symlink => Err(unlike()),
    }))
}

pub(super) fn walk_absent(seat: &Seat) -> Result<BoxTask, Error> {
    let dir = seat.again()?;
    Ok(call(move || match dir.walk(&["absent"])?.status {
        WalkStatus::Missing => Ok(()),
        WalkStatus::Complete | WalkStatus::Symlink => Err(unlike()),
    }))
}

pub(super) fn walk_stat(seat: &Seat, depth: u32) -> Result<BoxTask, Error> {
    let names = seat.chain(depth)?;
    let dir = seat.again()?;
    Ok(call(move || {
        if dir.walk_stat(&names)?.len() == names.len() {
            Ok(())
        } else {
            Err(unlike())
        }
    }))
}

/// Gives up handles, which are made beforehand.
struct Close {
    client: Client,
    dir: ControlFile,
    name: &'static str,
    handles: Vec<ControlFile>,
    count: u32,
}

impl Task for Close {
    fn ready(&mut self) -> Result<(), Error> {
        for _ in 0..self.count {
            self.handles.push(self.dir.walk_one(self.name)?);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Error> {
        self.handles.clear();
        self.client.flush_closes();
        Ok(())
    }
}

/// `count` is below what the client collects before it sends a Close on its own.
pub(super) fn close(seat: &Seat, count: u32) -> Result<BoxTask, Error> {
    let name = seat.chain(1)?.pop().ok_or_else(unlike)?;
    seat.client.flush_closes();
    Ok(Box::new(Close {
        client: seat.client.clone(),
        dir: seat.again()?,
        name,
        handles: Vec::new(),
        count,
    }))
}

pub(super) fn create(seat: &Seat) -> Result<BoxTask, Error> {
    let dir = seat.again()?;
    Ok(call(move || {
        let (file, open) = dir.create("created", Create::mode(0o644), O_RDWR)?;
        // Of the two ids, which then go in one Close.
        drop(file);
        drop(open);
        dir.unlink("created", 0)
    }))
}

pub(super) fn mkdir(seat: &Seat) -> Result<BoxTask, Error> {
    let dir = seat.again()?;
    Ok(call(move || {
        dir.mkdir("made", Create::mode(0o755))?;
        dir.unlink("made", AT_REMOVEDIR)
    }))
}

pub(super) fn mknod(seat: &Seat) -> Result<BoxTask, Error> {
    let dir = seat.again()?;
    Ok(call(move || {
        dir.mknod("node", Create::mode(S_IFREG | 0o644), (0, 0))?;
        dir.unlink("node", 0)
    }))
}

pub(super) fn symlink(seat: &Seat) -> Result<BoxTask, Error> {
    let dir = seat.again()?;
    Ok(call(move || {
        dir.symlink("symlink", "target", Create::mode(0o777))?;
        dir.unlink("symlink", 0)
    }))
}

pub(super) fn link(seat: &Seat) -> Result<BoxTask, Error> {
    let (dir, file) = (seat.again()?, seat.file(0)?);
    Ok(call(move || {
        dir.link("link", &file)?;
        dir.unlink("link", 0)
    }))
}

/// There and back, one way at a time.
pub(super) fn rename(seat: &Seat) -> Result<BoxTask, Error> {
    seat.scratch_file("here")?;
    let dir = seat.again()?;
    let (mut from, mut to) = ("here", "there");
    Ok(call(move || {
        dir.rename(from, &dir, to, 0)?;
        std::mem::swap(&mut from, &mut to);
        Ok(())
    }))
}

pub(super) fn readlink(seat: &Seat) -> Result<BoxTask, Error> {
    let link = match seat.dir.walk_one("readlink") {
        Ok(link) => link,
        Err(_) => seat
            .dir
            .symlink("readlink", "some/where/else", Create::mode(0o777))?,
    };
    Ok(call(move || link.readlink().map(drop)))
}
