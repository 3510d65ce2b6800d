//! What the matrix cannot say, one area in each file.

mod channels;
mod create;
mod directory;
mod found;
mod io;
mod lifetime;
mod link;
mod malformed;
mod names;
mod open;
mod precedence;
mod rename;
mod set_stat;
mod socket;
mod special;
mod stat;
mod walk;
mod xattr;

use crate::case::Plain;
use crate::matrix;

pub(crate) fn all() -> impl Iterator<Item = Plain> {
    [
        walk::CASES,
        names::CASES,
        stat::CASES,
        set_stat::CASES,
        create::CASES,
        open::CASES,
        io::CASES,
        directory::CASES,
        link::CASES,
        rename::CASES,
        xattr::CASES,
        socket::CASES,
        special::CASES,
        lifetime::CASES,
        malformed::CASES,
        precedence::CASES,
        channels::CASES,
        found::CASES,
        matrix::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
