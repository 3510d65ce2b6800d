//! One of many files that are held, at random: what a server does that cannot keep them all open.

use fastrand::Rng;
use libc::S_IFREG;
use lisafs::client::{ControlFile, Create, Error};

use super::{BoxTask, call, unlike};
use crate::area::Seat;

/// How many files are in a directory: as in a source tree that has many.
const IN_EACH: u32 = 56;

/// A directory and its files, all of them held.
struct Held {
    dir: ControlFile,
    files: Vec<ControlFile>,
}

fn name(number: u32) -> String {
    format!("file.{number}")
}

/// Holds `count` files, which are made if they are not there.
fn hold(seat: &Seat, count: u32) -> Result<Vec<Held>, Error> {
    let above = format!("held.{count}");
    // How many files are in each directory.
    let dirs = (0..count.div_ceil(IN_EACH)).map(|dir| IN_EACH.min(count - dir * IN_EACH));
    if seat.dir.walk_one(&above).is_err() {
        let above = seat.dir.mkdir(&above, Create::mode(0o755))?;
        for (number, files) in dirs.clone().enumerate() {
            let dir = above.mkdir(number.to_string(), Create::mode(0o755))?;
            for file in 0..files {
                // Not held on to: what has just been made has to stay open for a while.
                dir.mknod(name(file), Create::mode(S_IFREG | 0o644), (0, 0))?;
            }
        }
    }
    let above = seat.dir.walk_one(&above)?;
    dirs.enumerate()
        .map(|(number, files)| {
            let dir = above.walk_one(number.to_string())?;
            let files = (0..files).map(|file| dir.walk_one(name(file)));
            let files = files.collect::<Result<_, _>>()?;
            Ok(Held { dir, files })
        })
        .collect()
}

/// The same ones each time.
fn chance() -> Rng {
    Rng::with_seed(1)
}

pub(super) fn fstat(seat: &Seat, count: u32) -> Result<BoxTask, Error> {
    let (held, mut chance) = (hold(seat, count)?, chance());
    Ok(call(move || {
        let dir = chance.choice(&held).ok_or_else(unlike)?;
        let file = chance.choice(&dir.files).ok_or_else(unlike)?;
        file.stat().map(drop)
    }))
}

pub(super) fn walk(seat: &Seat, count: u32) -> Result<BoxTask, Error> {
    let (held, mut chance) = (hold(seat, count)?, chance());
    Ok(call(move || {
        let Held { dir, files } = chance.choice(&held).ok_or_else(unlike)?;
        let file = chance.usize(0..files.len());
        let file = u32::try_from(file).map_err(|_| unlike())?;
        dir.walk_one(name(file)).map(drop)
    }))
}
