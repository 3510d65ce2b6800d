//! The descriptors of this process.

use std::fs;

/// Counts them, and one more: the one that they are counted with.
///
/// # Panics
/// Without a procfs.
#[must_use]
pub fn count_descriptors() -> usize {
    fs::read_dir("/proc/self/fd")
        .expect("there is a procfs")
        .count()
}
