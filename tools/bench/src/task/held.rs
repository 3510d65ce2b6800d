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
    let above = match seat.dir.walk_one(&above) {
        Ok(above) => above,
        Err(_) => seat.dir.mkdir(&above, Create::mode(0o755))?,
    };
    let dirs = count.div_ceil(IN_EACH);
    (0..dirs)
        .map(|number| {
            let files = IN_EACH.min(count - number * IN_EACH);
            let name_of_dir = format!("dir.{number}");
            let (dir, files): (_, Result<_, _>) = match above.walk_one(&name_of_dir) {
                Ok(dir) => {
                    let files = (0..files).map(|file| dir.walk_one(name(file))).collect();
                    (dir, files)
                }
                Err(_) => {
                    let dir = above.mkdir(&name_of_dir, Create::mode(0o755))?;
                    let how = Create::mode(S_IFREG | 0o644);
                    let make = |file| dir.mknod(name(file), how, (0, 0));
                    let files = (0..files).map(make).collect();
                    (dir, files)
                }
            };
            Ok(Held { dir, files: files? })
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
