//! What precedes a message on a channel, whichever end reads it.
#![forbid(unsafe_code)]

use bytemuck::{Pod, Zeroable};

use crate::wire::Mid;

/// What precedes a message in a packet window (4 bytes). The window's `data_len` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct ChannelHeader {
    /// The number of the message; in a reply the request's, or 0 for an error.
    pub(crate) mid: Mid,
    /// How many descriptors wait on the fd channel. 0 in a request.
    pub(crate) num_fds: u8,
    /// Zero, ignored when read.
    pub(crate) pad: u8,
}

impl ChannelHeader {
    /// The size of the header in bytes.
    pub(crate) const SIZE: usize = size_of::<ChannelHeader>();
}

const _: () = assert!(ChannelHeader::SIZE == 4);
