//! Messages as text, as strace(1) shows system calls: flags by name, modes in octal.
//!
//! What is shown comes out of the [`schema`](super::schema), so that every message can be shown and
//! none is spelled out here. What a number means is known by the name of its field.
//!
//! ```
//! use lisafs::wire::{FdId, Mid, Encode, OpenAtReq, describe};
//!
//! let mut bytes = Vec::new();
//! OpenAtReq { fd: FdId(7), flags: 0o1002 }.encode(&mut bytes)?;
//! let text = describe::request(Mid::OPEN_AT, &bytes, bytes.len());
//! assert_eq!(text.to_string(), "fd=7, flags=O_RDWR|O_TRUNC");
//! # Ok::<(), lisafs::wire::Overflow>(())
//! ```

mod meaning;
#[cfg(test)]
mod tests;

use core::fmt::{self, Write};

use super::codec::{Decode, Malformed, Reader};
use super::schema::{Field, Kind, Record};
use super::{Mid, SetStat, Statx, TimeSpec, Timestamp};
use meaning::Meaning;

/// How many bytes of a string are shown.
const STRING: usize = 48;

/// How many elements of an array are shown.
const ELEMENTS: usize = 8;

/// How much of a message anybody has to have for [`request`] and [`reply`], in bytes: what lies
/// behind is hardly ever shown.
pub const PREFIX: usize = 1024;

/// The attributes that are shown of a file.
const SHOWN: [&str; 5] = ["uid", "gid", "mode", "ino", "size"];

/// The payload of a message as text, without an allocation: `dir_fd=1, path=["etc"]`.
///
/// Strings are escaped and cut off, contents of files and of extended attributes are counted and
/// not shown.
///
/// ```
/// use lisafs::wire::{Mid, describe};
///
/// let walk = describe::request(Mid::WALK, b"\x01\0\0\0\0\0\0\0\x01\0\x03\0etc", 15);
/// assert_eq!(walk.to_string(), r#"dir_fd=1, path=["etc"]"#);
/// // Eight bytes of the fifteen were kept.
/// let walk = describe::request(Mid::WALK, b"\x01\0\0\0\0\0\0\0", 15);
/// assert!(walk.to_string().ends_with("..."));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Description<'m> {
    mid: Mid,
    fields: Option<&'static [Field]>,
    bytes: &'m [u8],
    len: usize,
}

/// Describes the request `mid` with a payload of `len` bytes that begins with `bytes`, which are
/// private memory.
#[must_use]
pub fn request(mid: Mid, bytes: &[u8], len: usize) -> Description<'_> {
    Description {
        mid,
        fields: mid.message().map(|message| message.request),
        bytes,
        len,
    }
}

/// Describes the reply to request `mid`, as [`request`] does. Not for error replies.
#[must_use]
pub fn reply(mid: Mid, bytes: &[u8], len: usize) -> Description<'_> {
    Description {
        mid,
        fields: mid.message().map(|message| message.reply),
        bytes,
        len,
    }
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(fields) = self.fields else {
            return write!(f, "{} bytes", self.len);
        };
        let mut text = Text {
            mid: self.mid,
            from: Reader::new(self.bytes),
            out: f,
        };
        match text.record(fields) {
            Ok(()) => Ok(()),
            Err(Stop::Full) => Err(fmt::Error),
            Err(Stop::Short) if self.bytes.len() < self.len => f.write_str("..."),
            Err(Stop::Short) => f.write_str("<cut off>"),
        }
    }
}

/// Why no more is shown.
enum Stop {
    /// There is no room for more.
    Full,
    /// There are no more bytes.
    Short,
}

impl From<fmt::Error> for Stop {
    fn from(_: fmt::Error) -> Stop {
        Stop::Full
    }
}

impl From<Malformed> for Stop {
    fn from(_: Malformed) -> Stop {
        Stop::Short
    }
}

/// Turns bytes into text.
struct Text<'m, 'o> {
    mid: Mid,
    from: Reader<'m>,
    out: &'o mut dyn Write,
}

impl Text<'_, '_> {
    /// `name=value, name=value`.
    fn record(&mut self, fields: &'static [Field]) -> Result<(), Stop> {
        if is_moment(fields) {
            return self.moment(fields);
        }
        let brief = fields == Statx::FIELDS;
        let mut named = None;
        let mut first = true;
        for field in fields {
            let shown = if brief {
                SHOWN.contains(&field.name)
            } else {
                named.is_none_or(|mask| counts(mask, field.name))
            };
            if shown {
                let separator = if first { "" } else { ", " };
                write!(self.out, "{separator}{}=", field.name)?;
                first = false;
                let value = self.value(field)?;
                if self.mid == Mid::SET_STAT && field.name == "mask" {
                    named = u32::try_from(value).ok().map(SetStat::from_bits_retain);
                }
            } else {
                self.silently(|text| text.value(field))?;
            }
            self.from.take(field.padding)?;
        }
        if brief {
            self.out.write_str(", ...")?;
        }
        Ok(())
    }

    /// Reads what is not shown.
    fn silently<T>(&mut self, read: impl FnOnce(&mut Text<'_, '_>) -> T) -> T {
        let mut text = Text {
            mid: self.mid,
            from: self.from.clone(),
            out: &mut Nowhere,
        };
        let result = read(&mut text);
        self.from = Reader::new(text.from.rest());
        result
    }

    /// Shows a value, and returns it if it is a number without a sign.
    fn value(&mut self, field: &Field) -> Result<u64, Stop> {
        match field.kind {
            // The last fields of their messages, and long.
            Kind::Array(_) if matches!(field.name, "dirents" | "supported_mids") => {
                let count = u16::decode(&mut self.from)?;
                write!(self.out, "[{count} of them]")?;
                Ok(0)
            }
            Kind::Array(&element) => self.array(field.name, element),
            Kind::Record(fields) if is_moment(fields) => self.moment(fields).map(|()| 0),
            Kind::Record(fields) => {
                self.out.write_char('{')?;
                self.record(fields)?;
                self.out.write_char('}')?;
                Ok(0)
            }
            // The data is not here: the field in front of it has said how much it is.
            Kind::Counted => {
                self.out.write_str("...")?;
                Ok(0)
            }
            Kind::LongBytes => {
                let len = u64::decode(&mut self.from)?;
                write!(self.out, "{len} bytes")?;
                Ok(len)
            }
            Kind::Bytes => {
                let bytes = <&[u8]>::decode(&mut self.from)?;
                if field.name == "value" {
                    write!(self.out, "{} bytes", bytes.len())?;
                } else {
                    quote(bytes, self.out)?;
                }
                Ok(0)
            }
            Kind::I32 => self.signed(|text| Ok(i32::decode(&mut text.from)?.into())),
            Kind::I64 => self.signed(|text| i64::decode(&mut text.from)),
            Kind::U8 => self.number(field, |text| Ok(u8::decode(&mut text.from)?.into())),
            Kind::U16 => self.number(field, |text| Ok(u16::decode(&mut text.from)?.into())),
            Kind::U32 => self.number(field, |text| Ok(u32::decode(&mut text.from)?.into())),
            Kind::U64 => self.number(field, |text| u64::decode(&mut text.from)),
        }
    }

    fn array(&mut self, name: &'static str, element: Kind) -> Result<u64, Stop> {
        let count = u16::decode(&mut self.from)?;
        let element = Field {
            name,
            kind: element,
            padding: 0,
        };
        self.out.write_char('[')?;
        for index in 0..usize::from(count) {
            if index > 0 {
                self.out.write_str(", ")?;
            }
            if index == ELEMENTS {
                write!(self.out, "... {count} in all")?;
                break;
            }
            self.value(&element)?;
        }
        self.out.write_char(']')?;
        Ok(0)
    }

    fn signed(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<i64, Malformed>,
    ) -> Result<u64, Stop> {
        let number = read(self)?;
        write!(self.out, "{number}")?;
        Ok(0)
    }

    fn number(
        &mut self,
        field: &Field,
        read: impl FnOnce(&mut Self) -> Result<u64, Malformed>,
    ) -> Result<u64, Stop> {
        let number = read(self)?;
        Meaning::of(self.mid, field.name).show(number, self.out)?;
        Ok(number)
    }

    /// `1763758207.000000001`, or what utimensat(2) has instead of nanoseconds.
    fn moment(&mut self, fields: &'static [Field]) -> Result<(), Stop> {
        let (sec, nsec) = if fields == TimeSpec::FIELDS {
            let time = TimeSpec::decode(&mut self.from)?;
            (time.sec, time.nsec)
        } else {
            let time = Timestamp::decode(&mut self.from)?;
            (time.sec, time.nsec.into())
        };
        match nsec {
            libc::UTIME_NOW => self.out.write_str("UTIME_NOW")?,
            libc::UTIME_OMIT => self.out.write_str("UTIME_OMIT")?,
            _ => write!(self.out, "{sec}.{nsec:09}")?,
        }
        Ok(())
    }
}

/// Where what is not shown goes.
struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

fn is_moment(fields: &'static [Field]) -> bool {
    fields == TimeSpec::FIELDS || fields == Timestamp::FIELDS
}

/// Whether a field of SetStat means anything under this mask.
fn counts(mask: SetStat, name: &str) -> bool {
    match name {
        "mode" => mask.contains(SetStat::MODE),
        "uid" => mask.contains(SetStat::UID),
        "gid" => mask.contains(SetStat::GID),
        "size" => mask.contains(SetStat::SIZE),
        "atime" => mask.contains(SetStat::ATIME),
        "mtime" => mask.contains(SetStat::MTIME),
        _ => true,
    }
}

/// The start of a string, with nothing in it that a terminal would obey or that ends a line.
fn quote(bytes: &[u8], out: &mut dyn Write) -> fmt::Result {
    let shown = bytes.get(..STRING).unwrap_or(bytes);
    write!(out, "\"{}\"", shown.escape_ascii())?;
    if shown.len() < bytes.len() {
        out.write_str("...")?;
    }
    Ok(())
}
