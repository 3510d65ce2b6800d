//! lisafs.
#![forbid(unsafe_code)]

mod errno;
pub mod wire;

pub use errno::Errno;
