//! The messages as bytes: what protocol version "lisafs" puts behind a communicator's header.
//!
//! This module knows no I/O. A message is declared once, as a row of the table in [`table`] and as
//! a record in [`requests`] or [`replies`]; encoding, decoding, dispatch, the typed client call and
//! the [`schema`] all follow from that.
//!
//! All integers are little endian (the protocol says "native", and big-endian hosts are refused at
//! compile time) and unaligned. Strings and arrays carry a u16 count. Padding is written as zeros
//! and ignored when read; bytes after the end of a complete message are ignored too.
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("records lie in memory as on the wire, which is little endian");

mod array;
mod codec;
mod declare;
pub mod describe;
mod dirent;
mod name;
pub mod replies;
pub mod requests;
pub mod schema;
mod stat;
pub mod table;
mod types;
mod value;

pub use array::{Array, Measured, StringArray, StringArrayBuf};
pub use codec::{Decode, Encode, Malformed, Overflow, Reader, Writer};
pub use dirent::{Dirent64, DirentWriter, Dirents};
pub use name::{Name, XattrName};
pub use replies::*;
pub use requests::*;
pub use stat::{FileType, SetStat, StatFs, Statx, TimeSpec, Timestamp};
pub use table::{MESSAGE_COUNT, Message, Request, messages};
pub use types::{CreateCommon, FdId, Gid, Inode, Mid, Uid};

/// The default limit of a payload, in bytes: 2 MiB minus a page, so that a packet window with both
/// headers fits into 2 MiB.
pub const DEFAULT_MAX_MESSAGE_SIZE: u32 = (2 << 20) - 4096;

/// The payload limit a client keeps to until `Mount` has told it the server's.
pub const MAX_MESSAGE_SIZE_BEFORE_MOUNT: u32 = 1 << 20;
