//! One of many files that are held, at random: what a server does that cannot keep them all open.

use fastrand::Rng;
use libc::S_IFREG;
use lisafs::client::{ControlFile, Create, Error};

use super::{BoxTask, call, unlike};
use crate::area::Seat;

/// How many files are in a directory: as in a source tree that has many.
const IN_EACH: u32 = 56;

/// Files that are held, and their directories.
struct Held {
    dirs: Vec<ControlFile>,
    files: Vec<ControlFile>,
}

/// The directory of a file, and its name there.
fn place(number: u32) -> (u32, String) {
    (number / IN_EACH, format!("file.{}", number % IN_EACH))
}

/// Holds `count` files, which are made if they are not there.
fn hold(seat: &Seat, count: u32) -> Result<Held, Error> {
    let above = format!("held.{count}");
    if seat.dir.walk_one(&above).is_err() {
        let above = seat.dir.mkdir(&above, Create::mode(0o755))?;
        for number in 0..count.div_ceil(IN_EACH) {
            let dir = above.mkdir(number.to_string(), Create::mode(0o755))?;
            let first = number * IN_EACH;
            for (_, name) in (first..count.min(first + IN_EACH)).map(place) {
                // Not held on to: what has just been made has to stay open for a while.
                dir.mknod(name, Create::mode(S_IFREG | 0o644), (0, 0))?;
            }
        }
    }
    let above = seat.dir.walk_one(&above)?;
    let dirs = (0..count.div_ceil(IN_EACH)).map(|number| above.walk_one(number.to_string()));
    let dirs = dirs.collect::<Result<Vec<_>, _>>()?;
    let files = (0..count).map(place).map(|(dir, name)| {
        let dir = dirs.get(dir as usize).ok_or_else(unlike)?;
        dir.walk_one(name)
    });
    let files = files.collect::<Result<_, _>>()?;
    Ok(Held { dirs, files })
}

/// The same ones each time.
fn chance() -> Rng {
    Rng::with_seed(1)
}

pub(super) fn fstat(seat: &Seat, count: u32) -> Result<BoxTask, Error> {
    let (held, mut chance) = (hold(seat, count)?, chance());
    Ok(call(move || {
        let file = chance.choice(&held.files).ok_or_else(unlike)?;
        file.stat().map(drop)
    }))
}

pub(super) fn walk(seat: &Seat, count: u32) -> Result<BoxTask, Error> {
    let (held, mut chance) = (hold(seat, count)?, chance());
    Ok(call(move || {
        let (dir, name) = place(chance.u32(0..count));
        let dir = held.dirs.get(dir as usize).ok_or_else(unlike)?;
        dir.walk_one(name).map(drop)
    }))
}
