//! What the matrix cannot say, one area in each file.

mod names;
mod walk;

use crate::case::Plain;
use crate::matrix;

pub(crate) fn all() -> impl Iterator<Item = Plain> {
    [matrix::CASES, names::CASES, walk::CASES]
        .into_iter()
        .flatten()
        .copied()
}
