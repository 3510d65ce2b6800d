//! Opening, reading, writing, listing.

use libc::{O_DIRECTORY, O_RDONLY};
use lisafs::client::Error;

use super::{BoxTask, call, unlike};
use crate::area::Seat;

/// Opens, receives the host's descriptor, closes that and the open file.
pub(super) fn open(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.file(0)?;
    Ok(call(move || match file.open(O_RDONLY)?.donated_fd() {
        Some(_) => Ok(()),
        None => Err(unlike()),
    }))
}

/// As a program opens a file that nobody has a handle on: by its name, and all is closed again.
pub(super) fn walk_open(seat: &Seat) -> Result<BoxTask, Error> {
    seat.file(0)?;
    let dir = seat.again()?;
    Ok(call(move || {
        let file = dir.walk_one("file")?;
        let open = file.open(O_RDONLY)?;
        // First, so that both ids go in one Close.
        drop(file);
        match open.donated_fd() {
            Some(_) => Ok(()),
            None => Err(unlike()),
        }
    }))
}

/// What no descriptor is donated for.
pub(super) fn open_dir(seat: &Seat) -> Result<BoxTask, Error> {
    let dir = seat.again()?;
    Ok(call(move || dir.open(O_RDONLY | O_DIRECTORY).map(drop)))
}

/// Lists all of a directory, from the first entry to the end.
pub(super) fn getdents(seat: &Seat, entries: u32) -> Result<BoxTask, Error> {
    let mut dir = seat.directory(entries)?.read_dir();
    Ok(call(move || {
        dir.rewind();
        let mut seen = 0;
        for entry in &mut dir {
            entry?;
            seen += 1;
        }
        if seen == entries {
            Ok(())
        } else {
            Err(unlike())
        }
    }))
}

pub(super) fn pread(seat: &Seat, size: u32) -> Result<BoxTask, Error> {
    let file = seat.open(size)?;
    let mut buf = vec![0; size as usize];
    Ok(call(move || {
        if file.read_at(&mut buf, 0)? == buf.len() {
            Ok(())
        } else {
            Err(unlike())
        }
    }))
}

/// Where it came in, and only its length is looked at.
pub(super) fn read_with(seat: &Seat, size: u32) -> Result<BoxTask, Error> {
    let file = seat.open(size)?;
    let size = size as usize;
    Ok(call(move || {
        if file.read_with(size, 0, |data| data.len())? == size {
            Ok(())
        } else {
            Err(unlike())
        }
    }))
}

pub(super) fn pwrite(seat: &Seat, size: u32) -> Result<BoxTask, Error> {
    let file = seat.open(size)?;
    let data = vec![b'y'; size as usize];
    Ok(call(move || {
        if file.write_at(&data, 0)? == data.len() {
            Ok(())
        } else {
            Err(unlike())
        }
    }))
}

pub(super) fn fsync(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.open(0)?;
    Ok(call(move || file.sync()))
}

/// Of what is allocated already.
pub(super) fn allocate(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.open(4096)?;
    Ok(call(move || file.allocate(0, 0, 4096)))
}
