#![forbid(unsafe_code)]
//! The JSON that both ends exchange once, before the first datagram.
//!
//! Its only purpose is to leave room: members that an end does not know are ignored, so a later
//! version can offer something to a peer of the same kind without any other peer noticing.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, ErrorKind};
use crate::shared::SharedBytes;

/// What we send: byte for byte what Go's encoder makes of an empty struct.
const OURS: &[u8] = b"{}\n";

/// The longest handshake we are ready to read.
const MAX_LEN: usize = 4096;

/// An object with any members, or null.
type Theirs = Option<BTreeMap<String, IgnoredAny>>;

/// Writes our half to the start of the datagram and returns its length.
pub(crate) fn write(datagram: SharedBytes<'_>) -> Result<usize, Error> {
    datagram
        .copy_from(0, OURS)
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "no room for the handshake"))?;
    Ok(OURS.len())
}

/// Checks the peer's half, the first `len` bytes of the datagram.
///
/// Bytes behind the first complete JSON value are ignored, as Go's decoder does.
pub(crate) fn read(datagram: SharedBytes<'_>, len: usize) -> Result<(), Error> {
    if len > MAX_LEN {
        return Err(Error::about(
            ErrorKind::Handshake,
            "handshake is too long",
            len as u64,
        ));
    }
    let mut copy = vec![0; len];
    datagram
        .copy_to(0, &mut copy)
        .map_err(|_| Error::new(ErrorKind::Handshake, "handshake exceeds the window"))?;
    // `Deserializer::end` is what would object to trailing bytes.
    let mut json = serde_json::Deserializer::from_slice(&copy);
    Theirs::deserialize(&mut json)
        .map(drop)
        .map_err(Error::json("handshake is not a JSON object"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &[u8]) -> Result<(), Error> {
        let mut copy = json.to_vec();
        let view = SharedBytes::from(&mut copy[..]);
        read(view, json.len())
    }

    #[test]
    fn whatever_go_accepts_is_accepted() {
        let accepted: [&[u8]; 8] = [
            b"{}\n",
            b"{}",
            b" \t\r\n{ } ",
            b"null",
            br#"{"parking":1}"#,
            br#"{"a":{"b":[1e999,"\u00e9",null]},"c":-0.5}"#,
            b"{}]]garbage",
            b"{}\0\xff",
        ];
        for json in accepted {
            check(json).unwrap_or_else(|error| panic!("{}: {error:?}", json.escape_ascii()));
        }
    }

    #[test]
    fn whatever_go_rejects_is_rejected() {
        let rejected: [&[u8]; 12] = [
            b"",
            b" ",
            b"[]",
            b"[{}]",
            b"0",
            b"true",
            b"\"{}\"",
            b"{",
            b"{\"a\":}",
            b"nul",
            b"\0\0\0",
            b"\xff",
        ];
        for json in rejected {
            let error = check(json).expect_err(&json.escape_ascii().to_string());
            assert_eq!(error.kind(), ErrorKind::Handshake);
        }
    }

    #[test]
    fn length_is_judged_before_content() {
        let mut json = vec![b' '; MAX_LEN + 1];
        json[..2].copy_from_slice(b"{}");
        assert!(check(&json[..MAX_LEN]).is_ok());
        assert_eq!(check(&json).unwrap_err().kind(), ErrorKind::Handshake);
    }

    #[test]
    fn nesting_cannot_exhaust_the_stack() {
        let mut json = br#"{"a":"#.to_vec();
        json.resize(MAX_LEN, b'[');
        assert_eq!(check(&json).unwrap_err().kind(), ErrorKind::Handshake);
    }

    #[test]
    fn ours_is_read_by_ourselves() {
        let mut window = [0xaa; 8];
        let view = SharedBytes::from(&mut window[..]);
        let len = write(view).unwrap();
        read(view, len).unwrap();
        assert_eq!(&window, b"{}\n\xaa\xaa\xaa\xaa\xaa");
    }
}
