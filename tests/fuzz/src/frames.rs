//! An input as a sequence of messages.
//!
//! A message is a byte with its number, a u16 with the length of its payload, little endian, and the
//! payload. The last one may be cut short. Numbers of messages fit into a byte; what does not is a
//! matter of the transports, and dispatch refuses it by the same comparison.

use lisafs::wire::Mid;

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The number.
    pub mid: Mid,
    /// The bytes behind the header.
    pub payload: &'a [u8],
}

/// The messages of an input.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    /// Takes `input` for messages.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Frames<'a> {
        Frames(input)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let [mid, low, high, rest @ ..] = self.0 else {
            return None;
        };
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let (payload, rest) = rest.split_at(len.min(rest.len()));
        self.0 = rest;
        Some(Frame {
            mid: Mid(u16::from(*mid)),
            payload,
        })
    }
}
