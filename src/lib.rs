//! lisafs.

#[cfg(feature = "client")]
pub mod client;
mod comm;
mod errno;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "server")]
pub mod server;
pub mod wire;

pub use errno::Errno;
