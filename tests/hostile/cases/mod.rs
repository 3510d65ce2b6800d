//! The attacks.

mod crowd;
mod depth;
mod descriptors;
mod directories;
mod donations;
mod frames;
mod hung;
mod ids;
mod limits;
mod liveness;
mod memory;
mod numbers;
mod races;
mod repetition;
mod scribbling;
mod sweep;
mod windows;

use crate::case::Case;

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = Case> {
    [
        frames::CASES,
        scribbling::CASES,
        windows::CASES,
        numbers::CASES,
        descriptors::CASES,
        directories::CASES,
        crowd::CASES,
        donations::CASES,
        ids::CASES,
        memory::CASES,
        depth::CASES,
        races::CASES,
        repetition::CASES,
        liveness::CASES,
        hung::CASES,
        limits::CASES,
        sweep::CASES,
    ]
    .into_iter()
    .flatten()
    .cloned()
}
