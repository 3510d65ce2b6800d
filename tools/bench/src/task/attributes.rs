//! Attributes of handles and open files.

use lisafs::client::{Error, SetAttributes};

use super::{BoxTask, call};
use crate::area::Seat;

/// An attribute of 64 bytes.
const XATTR: (&str, [u8; 64]) = ("user.lisafs-bench", [b'v'; 64]);

pub(super) fn fstat(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.file(0)?;
    Ok(call(move || file.stat().map(drop)))
}

pub(super) fn fstat_open(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.open(0)?;
    Ok(call(move || file.stat().map(drop)))
}

/// By path, as a program would: one walk of three names, and the handles given up.
pub(super) fn stat(seat: &Seat) -> Result<BoxTask, Error> {
    seat.file(0)?;
    let (client, path) = (seat.client.clone(), seat.path("file"));
    Ok(call(move || client.metadata(&path).map(drop)))
}

pub(super) fn set_stat(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.file(0)?;
    let changes = SetAttributes::new().mode(0o644);
    Ok(call(move || file.set_stat(&changes)))
}

pub(super) fn truncate(seat: &Seat) -> Result<BoxTask, Error> {
    let (file, _) = seat.scratch_file("truncated")?;
    let changes = SetAttributes::new().size(0);
    Ok(call(move || file.set_stat(&changes)))
}

pub(super) fn stat_fs(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.file(0)?;
    Ok(call(move || file.stat_fs().map(drop)))
}

pub(super) fn get_xattr(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.file(0)?;
    file.set_xattr(XATTR.0, &XATTR.1, 0)?;
    Ok(call(move || file.get_xattr(XATTR.0).map(drop)))
}

pub(super) fn set_xattr(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.file(0)?;
    Ok(call(move || file.set_xattr(XATTR.0, &XATTR.1, 0)))
}

/// Sets it first: what is not there cannot be removed.
pub(super) fn remove_xattr(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.file(0)?;
    Ok(call(move || {
        file.set_xattr(XATTR.0, &XATTR.1, 0)?;
        file.remove_xattr(XATTR.0)
    }))
}

pub(super) fn list_xattr(seat: &Seat) -> Result<BoxTask, Error> {
    let file = seat.file(0)?;
    file.set_xattr(XATTR.0, &XATTR.1, 0)?;
    Ok(call(move || file.list_xattr().map(drop)))
}
