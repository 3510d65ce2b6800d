//! A buffer per thread for what the kernel tells in bulk.
#![forbid(unsafe_code)]

use std::cell::Cell;

/// The size of the buffer in bytes: what a list of attribute names takes at the most.
pub(super) const SIZE: usize = 65_536;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `operation` with a buffer of [`SIZE`] bytes of whatever was last in it.
pub(super) fn with<R>(operation: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = BUFFER.take();
    buffer.resize(SIZE, 0);
    let result = operation(&mut buffer);
    BUFFER.set(buffer);
    result
}
