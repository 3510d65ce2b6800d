#![forbid(unsafe_code)]
//! The JSON that both ends exchange once, before the first datagram.
//!
//! It exists to leave room: members that an end does not know are ignored, so a client can offer
//! something to a peer of the same kind without any other peer noticing. What there is to offer is
//! `"parking"`, the newest form of the parking flags ([`Flags`](crate::control::Flags)) that an end
//! knows: 1, or 0 for none.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, ErrorKind};
use crate::shared::SharedBytes;

/// The form of the parking flags that we know.
pub(crate) const PARKING: u64 = 1;

/// What we send without parking flags: byte for byte what Go's encoder makes of an empty struct.
const PLAIN: &[u8] = b"{}\n";

/// The longest handshake we are ready to read.
const MAX_LEN: usize = 4096;

/// An object with any members, or null.
type Theirs = Option<BTreeMap<String, IgnoredAny>>;

/// The member that we look for. Of the wrong type or there twice it counts as not there.
#[derive(Deserialize)]
struct Members {
    parking: u64,
}

/// Writes our half, with that form of the parking flags, to the start of the datagram and returns
/// its length.
pub(crate) fn write(datagram: SharedBytes<'_>, parking: u64) -> Result<usize, Error> {
    let with_member;
    let text = match parking {
        0 => PLAIN,
        parking => {
            with_member = format!("{{\"parking\":{parking}}}\n");
            with_member.as_bytes()
        }
    };
    datagram
        .copy_from(0, text)
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "no room for the handshake"))?;
    Ok(text.len())
}

/// Checks the peer's half, the first `len` bytes of the datagram, and returns the form of the
/// parking flags in it.
///
/// Bytes behind the first complete JSON value are ignored, as Go's decoder does.
pub(crate) fn read(datagram: SharedBytes<'_>, len: usize) -> Result<u64, Error> {
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
    let json = || serde_json::Deserializer::from_slice(&copy);
    Theirs::deserialize(&mut json()).map_err(Error::json("handshake is not a JSON object"))?;
    let members = Members::deserialize(&mut json());
    Ok(members.map_or(0, |members| members.parking))
}

/// What a server answers to an offer.
pub(crate) fn agree(offered: u64) -> u64 {
    offered.min(PARKING)
}

/// Whether a client that offered [`PARKING`] has been answered with it.
///
/// An answer above the offer is refused: such a server would use what we do not know, and one of
/// the two would sleep for ever.
pub(crate) fn is_agreed(answered: u64) -> Result<bool, Error> {
    match answered {
        0 => Ok(false),
        PARKING => Ok(true),
        more => Err(Error::about(
            ErrorKind::Handshake,
            "peer agreed to more than was offered: parking",
            more,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &[u8]) -> Result<u64, Error> {
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
    fn parking_is_offered_by_a_number_only() {
        for (json, parking) in [
            (&b"{}"[..], 0),
            (b"null", 0),
            (br#"{"parking":0}"#, 0),
            (br#"{"parking":1}"#, 1),
            (br#"{"a":[1e999],"parking": 1 ,"z":{}} rest"#, 1),
            (br#"{"parking":7}"#, 7),
            (br#"{"parking":true}"#, 0),
            (br#"{"parking":"1"}"#, 0),
            (br#"{"parking":-1}"#, 0),
            (br#"{"parking":1.5}"#, 0),
            (br#"{"parking":1e999}"#, 0),
            (br#"{"parking":[1]}"#, 0),
            (br#"{"parking":1,"parking":1}"#, 0),
            (br#"{"Parking":1}"#, 0),
            (br#"{"in":{"parking":1}}"#, 0),
        ] {
            assert_eq!(check(json).unwrap(), parking, "{}", json.escape_ascii());
        }
    }

    #[test]
    fn a_server_answers_no_more_than_both_know() {
        assert_eq!([0, 1, 2, u64::MAX].map(agree), [0, 1, 1, 1]);
    }

    #[test]
    fn a_client_takes_no_more_than_it_offered() {
        assert!(!is_agreed(0).unwrap());
        assert!(is_agreed(1).unwrap());
        for answer in [2, u64::MAX] {
            assert_eq!(is_agreed(answer).unwrap_err().kind(), ErrorKind::Handshake);
        }
    }

    #[test]
    fn ours_is_read_by_ourselves() {
        for (parking, bytes) in [(0, &b"{}\n\xaa\xaa"[..]), (1, b"{\"parking\":1}\n\xaa\xaa")] {
            let mut window = [0xaa; 16];
            let view = SharedBytes::from(&mut window[..]);
            let len = write(view, parking).unwrap();
            assert_eq!(read(view, len).unwrap(), parking);
            assert_eq!(&window[..bytes.len()], bytes);
        }
    }
}
