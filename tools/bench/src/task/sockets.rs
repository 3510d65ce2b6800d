//! Unix sockets.

use libc::SOCK_STREAM;
use lisafs::client::{Create, Error};

use super::{BoxTask, call};
use crate::area::Seat;

/// Binds, gives the socket up, removes its name.
pub(super) fn bind(seat: &Seat) -> Result<BoxTask, Error> {
    let dir = seat.again()?;
    Ok(call(move || {
        drop(dir.bind("bound", Create::mode(0o600), SOCK_STREAM)?);
        dir.unlink("bound", 0)
    }))
}

/// Connects, and takes the connection at the other side.
pub(super) fn connect(seat: &Seat) -> Result<BoxTask, Error> {
    // Of an earlier run on the same seat; if it cannot be removed, the bind says so.
    let _ = seat.dir.unlink("listening", 0);
    let (name, socket) = seat
        .dir
        .bind("listening", Create::mode(0o600), SOCK_STREAM)?;
    socket.listen(16)?;
    Ok(call(move || {
        let _connected = name.connect(SOCK_STREAM)?;
        socket.accept().map(drop)
    }))
}
