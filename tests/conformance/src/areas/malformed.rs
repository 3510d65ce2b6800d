//! Requests that are no messages, made from the schema of each.

use std::borrow::Cow;

use lisafs::Errno;
use lisafs::wire::schema::{self, Field, Kind, Value};
use lisafs::wire::{CloseReq, FdId, Message, Mid, Request, messages};

use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Stop, Verdict, ensure, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("malformed.every_truncation_of_every_message", truncated),
    Plain::new("malformed.counts_beyond_the_end", counts),
    Plain::new("malformed.trailing_bytes_are_ignored", trailing),
    Plain::new("malformed.padding_is_ignored", padding),
    Plain::new("malformed.read_only_comes_first", read_only).needs(&[Need::ReadOnly]),
    Plain::new("malformed.longest_message", longest),
    Plain::new("malformed.longer_than_a_message", too_long),
];

/// A part of a request: a field, and how many of the bytes are padding.
struct Part {
    bytes: Vec<u8>,
    padding: usize,
    counted: bool,
}

/// A value for a field. All ids are 0, so no request does anything but be decoded.
fn value(kind: Kind) -> Value {
    match kind {
        Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => Value::Unsigned(0),
        Kind::I32 | Kind::I64 => Value::Signed(0),
        Kind::Bytes | Kind::LongBytes | Kind::Counted => Value::Bytes(b"x".to_vec()),
        Kind::Array(&element) => Value::List(vec![value(element)]),
        Kind::Record(fields) => Value::Record(
            fields
                .iter()
                .map(|field| (Cow::Borrowed(field.name), value(field.kind)))
                .collect(),
        ),
    }
}

/// A complete request, in parts.
fn parts(fields: &'static [Field]) -> Result<Vec<Part>, Stop> {
    let mut parts: Vec<Part> = Vec::new();
    let mut rest = fields;
    while let [field, behind @ ..] = rest {
        let counts = behind
            .first()
            .is_some_and(|next| next.kind == Kind::Counted);
        let value = match counts {
            true => Value::Unsigned(1),
            false => value(field.kind),
        };
        let record = Value::Record(vec![(Cow::Borrowed(field.name), value)]);
        let mut bytes = Vec::new();
        schema::encode(std::slice::from_ref(field), &record, &mut bytes)?;
        parts.push(Part {
            bytes,
            padding: field.padding,
            counted: matches!(field.kind, Kind::Bytes | Kind::Array(_)),
        });
        rest = behind;
    }
    Ok(parts)
}

fn joined(parts: &[Part]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|part| part.bytes.iter().copied())
        .collect()
}

/// The messages that the server decodes.
fn decoded(s: &Session) -> Vec<&'static Message> {
    messages()
        .filter(|message| s.supported.contains(message.mid) && !message.request.is_empty())
        .collect()
}

/// How the server answers to a request that is complete.
fn answer(s: &mut Session, mid: Mid, body: &[u8]) -> Result<Option<Errno>, Stop> {
    let errno = s.raw(mid, body)?.errno();
    ensure!(
        errno != Some(Errno::EIO),
        "{mid}: EIO for a complete message"
    );
    Ok(errno)
}

fn truncated(s: &mut Session, d: FdId) -> Verdict {
    for message in decoded(s) {
        let body = joined(&parts(message.request)?);
        answer(s, message.mid, &body)?;
        for len in 0..body.len() {
            let cut = body.get(..len).unwrap_or_default();
            let got = s.raw(message.mid, cut)?;
            same!(
                got.errno(),
                Some(Errno::EIO),
                "{} with {len} bytes",
                message.name
            );
        }
    }
    s.stat(d)?;
    Ok(())
}

fn counts(s: &mut Session, d: FdId) -> Verdict {
    for message in decoded(s) {
        let mut before = Vec::new();
        for part in parts(message.request)? {
            if part.counted {
                for count in [2, 0x8000, u16::MAX] {
                    let mut body = before.clone();
                    body.extend(count.to_le_bytes());
                    body.push(b'x');
                    let got = s.raw(message.mid, &body)?;
                    same!(
                        got.errno(),
                        Some(Errno::EIO),
                        "{} with a count of {count}",
                        message.name
                    );
                }
            }
            before.extend(part.bytes);
        }
    }
    s.stat(d)?;
    Ok(())
}

fn trailing(s: &mut Session, _: FdId) -> Verdict {
    for message in decoded(s) {
        let mut body = joined(&parts(message.request)?);
        let plain = answer(s, message.mid, &body)?;
        for junk in [1, 8, 1000] {
            body.resize(body.len() + junk, 0xff);
            let got = answer(s, message.mid, &body)?;
            same!(got, plain, "{} with {junk} bytes behind it", message.name);
        }
    }
    Ok(())
}

fn padding(s: &mut Session, _: FdId) -> Verdict {
    let mut padded = 0;
    for message in decoded(s) {
        let mut parts = parts(message.request)?;
        let plain = answer(s, message.mid, &joined(&parts))?;
        for part in &mut parts {
            padded += part.padding;
            let start = part.bytes.len() - part.padding;
            part.bytes.get_mut(start..).unwrap_or_default().fill(0xff);
        }
        let got = answer(s, message.mid, &joined(&parts))?;
        same!(got, plain, "{} with dirty padding", message.name);
    }
    ensure!(padded > 0, "no message has padding");
    Ok(())
}

fn read_only(s: &mut Session, _: FdId) -> Verdict {
    let mut ro = s.attach(true)?;
    for message in decoded(s) {
        let expected = match message.mutates {
            true => Errno::EROFS,
            false => Errno::EIO,
        };
        let got = ro.raw(message.mid, &[])?.errno();
        same!(got, Some(expected), "{} without a payload", message.name);
    }
    Ok(())
}

/// A Close of nothing, `len` bytes long.
fn close_of(len: usize) -> Vec<u8> {
    vec![0; len]
}

fn longest(s: &mut Session, _: FdId) -> Verdict {
    let max = s.max_message_size() as usize;
    let got = s.raw(CloseReq::MID, &close_of(max))?;
    same!((got.mid, got.body.len()), (CloseReq::MID, 0), "the reply");
    Ok(())
}

fn too_long(s: &mut Session, d: FdId) -> Verdict {
    let max = s.max_message_size() as usize;
    for more in [1, 1000] {
        let got = s.raw(CloseReq::MID, &close_of(max + more))?;
        got.refused(Errno::EIO)?;
        s.stat(d)?;
    }
    Ok(())
}
