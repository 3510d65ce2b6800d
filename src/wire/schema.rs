//! The messages as data: which fields they have, by name, and how each lies on the wire.
//!
//! A schema comes out of the declaration that the typed codec comes out of, so the two cannot
//! disagree. It serves programs that learn only at run time which message they deal with: a
//! command line that sends any request and prints any reply, a trace, a fuzzer.
//!
//! ```
//! use lisafs::wire::schema::{self, Value};
//! use lisafs::wire::{Mid, Reader};
//!
//! let walk = Mid::from_name("walk").and_then(Mid::message).expect("a message");
//! let value = Value::from_text(walk.request, &[("dir_fd", b"1"), ("path", b"etc")])?;
//! let mut bytes = Vec::new();
//! schema::encode(walk.request, &value, &mut bytes)?;
//! assert_eq!(bytes, b"\x01\0\0\0\0\0\0\0\x01\0\x03\0etc");
//! assert_eq!(schema::decode(walk.request, &mut Reader::new(&bytes)), Ok(value));
//! # Ok::<(), schema::SchemaError>(())
//! ```

use std::borrow::Cow;

use super::codec::{Decode, Encode, Malformed, Overflow, Reader, Writer};
pub use super::value::{Problem, SchemaError, Value};

/// How a value lies on the wire. All integers are little endian.
///
/// ```
/// use lisafs::wire::schema::{Described, Kind};
/// use lisafs::wire::{Array, FdId};
///
/// assert_eq!(Array::<FdId>::KIND, Kind::Array(&Kind::U64));
/// assert_eq!(Kind::U16.to_string(), "an unsigned 16-bit integer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the integers
pub enum Kind {
    U8,
    U16,
    U32,
    U64,
    I32,
    I64,
    /// A u16 length and that many bytes.
    Bytes,
    /// A u64 length and that many bytes.
    LongBytes,
    /// Bytes without a length of their own: the integer field before them counts them.
    Counted,
    /// A u16 count and that many elements.
    Array(&'static Kind),
    /// Fields, one behind the other.
    Record(&'static [Field]),
}

/// A field of a record.
///
/// ```
/// use lisafs::wire::PReadReq;
/// use lisafs::wire::schema::{Kind, Record};
///
/// let count = PReadReq::FIELDS.last().expect("three fields");
/// assert_eq!((count.name, count.kind, count.padding), ("count", Kind::U32, 4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, unique within the record.
    pub name: &'static str,
    /// The form of the value.
    pub kind: Kind,
    /// How many bytes of padding follow: written as zeros, ignored when read.
    pub padding: usize,
}

/// A type with one form on the wire.
///
/// ```
/// use lisafs::wire::Uid;
/// use lisafs::wire::schema::{Described, Kind};
///
/// assert_eq!(Uid::KIND, Kind::U32);
/// assert_eq!(<&[u8]>::KIND, Kind::Bytes);
/// ```
pub trait Described {
    /// The form.
    const KIND: Kind;
}

/// A type that is a sequence of named fields on the wire. Each message is one.
///
/// ```
/// use lisafs::wire::MkdirAtReq;
/// use lisafs::wire::schema::Record;
///
/// let names: Vec<&str> = MkdirAtReq::FIELDS.iter().map(|field| field.name).collect();
/// assert_eq!(names, ["dir_fd", "uid", "gid", "mode", "name"]);
/// ```
pub trait Record {
    /// The fields in wire order. Those of a record that only groups the first fields of several
    /// requests stand here themselves.
    const FIELDS: &'static [Field];
}

impl<T: Record> Described for T {
    const KIND: Kind = Kind::Record(T::FIELDS);
}

/// The empty message.
impl Record for () {
    const FIELDS: &'static [Field] = &[];
}

/// Appends a message with the fields of `value`, a [`Value::Record`] in any order.
///
/// A field that counts the bytes behind it may be left out. It may also be wrong: whoever scripts
/// an exchange may want to see what the peer makes of it.
///
/// # Errors
/// Names the first field that is missing, unknown, given twice, of another kind, or too long. `out`
/// may have received a part of the message by then.
pub fn encode<W: Writer + ?Sized>(
    fields: &'static [Field],
    value: &Value,
    out: &mut W,
) -> Result<(), SchemaError> {
    let Value::Record(given) = value else {
        return Err(Problem::Expected(Kind::Record(fields)).into());
    };
    for (index, (name, _)) in given.iter().enumerate() {
        if !fields.iter().any(|field| field.name == name) {
            return Err(SchemaError::from(Problem::Unknown).inside(name));
        }
        if given.iter().skip(index + 1).any(|(other, _)| other == name) {
            return Err(SchemaError::from(Problem::Repeated).inside(name));
        }
    }
    let mut rest = fields;
    while let [field, behind @ ..] = rest {
        rest = behind;
        let counted = match (value.get(field.name), behind) {
            (None, [next, ..]) if next.kind == Kind::Counted => match value.get(next.name) {
                Some(Value::Bytes(bytes)) => u64::try_from(bytes.len()).ok().map(Value::Unsigned),
                _ => None,
            },
            _ => None,
        };
        value
            .get(field.name)
            .or(counted.as_ref())
            .ok_or(SchemaError::from(Problem::Missing))
            .and_then(|value| encode_kind(field.kind, value, out))
            .and_then(|()| Ok((0..field.padding).try_for_each(|_| out.put(&[0]))?))
            .map_err(|error| error.inside(field.name))?;
    }
    Ok(())
}

fn encode_kind<W: Writer + ?Sized>(
    kind: Kind,
    value: &Value,
    out: &mut W,
) -> Result<(), SchemaError> {
    match (kind, value) {
        (Kind::U8, _) => encode_integer::<u8, W>(kind, value, out),
        (Kind::U16, _) => encode_integer::<u16, W>(kind, value, out),
        (Kind::U32, _) => encode_integer::<u32, W>(kind, value, out),
        (Kind::U64, _) => encode_integer::<u64, W>(kind, value, out),
        (Kind::I32, _) => encode_integer::<i32, W>(kind, value, out),
        (Kind::I64, _) => encode_integer::<i64, W>(kind, value, out),
        (Kind::Bytes, Value::Bytes(bytes)) => Ok(bytes.as_slice().encode(out)?),
        (Kind::LongBytes, Value::Bytes(bytes)) => Ok(super::LongBytes(bytes).encode(out)?),
        (Kind::Counted, Value::Bytes(bytes)) => Ok(out.put(bytes)?),
        (Kind::Array(&element), Value::List(list)) => {
            let count = u16::try_from(list.len()).map_err(|_| Overflow)?;
            count.encode(out)?;
            for (index, value) in list.iter().enumerate() {
                encode_kind(element, value, out)
                    .map_err(|error| error.inside(&index.to_string()))?;
            }
            Ok(())
        }
        (Kind::Record(fields), Value::Record(_)) => encode(fields, value, out),
        _ => Err(Problem::Expected(kind).into()),
    }
}

fn encode_integer<T: TryFrom<i128> + Encode, W: Writer + ?Sized>(
    kind: Kind,
    value: &Value,
    out: &mut W,
) -> Result<(), SchemaError> {
    let number = match *value {
        Value::Unsigned(number) => i128::from(number),
        Value::Signed(number) => i128::from(number),
        _ => return Err(Problem::Expected(kind).into()),
    };
    let number = T::try_from(number).map_err(|_| Problem::Expected(kind))?;
    Ok(number.encode(out)?)
}

/// Reads a message: a [`Value::Record`] with all `fields` in wire order. What follows the message
/// is left in `from`.
///
/// # Errors
/// `Malformed` when the bytes end early.
pub fn decode(fields: &'static [Field], from: &mut Reader<'_>) -> Result<Value, Malformed> {
    let mut record = Vec::with_capacity(fields.len());
    for field in fields {
        let value = match (field.kind, record.last()) {
            (Kind::Counted, Some((_, Value::Unsigned(count)))) => {
                let count = usize::try_from(*count).map_err(|_| Malformed)?;
                Value::Bytes(from.take(count)?.to_vec())
            }
            _ => decode_kind(field.kind, from)?,
        };
        from.take(field.padding)?;
        record.push((Cow::Borrowed(field.name), value));
    }
    Ok(Value::Record(record))
}

fn decode_kind(kind: Kind, from: &mut Reader<'_>) -> Result<Value, Malformed> {
    Ok(match kind {
        Kind::U8 => Value::Unsigned(u8::decode(from)?.into()),
        Kind::U16 => Value::Unsigned(u16::decode(from)?.into()),
        Kind::U32 => Value::Unsigned(u32::decode(from)?.into()),
        Kind::U64 => Value::Unsigned(u64::decode(from)?),
        Kind::I32 => Value::Signed(i32::decode(from)?.into()),
        Kind::I64 => Value::Signed(i64::decode(from)?),
        Kind::Bytes => Value::Bytes(<&[u8]>::decode(from)?.to_vec()),
        Kind::LongBytes => Value::Bytes(super::LongBytes::decode(from)?.0.to_vec()),
        // Nothing counts them.
        Kind::Counted => return Err(Malformed),
        Kind::Array(&element) => {
            let count = u16::decode(from)?;
            let list = (0..count).map(|_| decode_kind(element, from));
            Value::List(list.collect::<Result<_, _>>()?)
        }
        Kind::Record(fields) => decode(fields, from)?,
    })
}

/// The size of a record in bytes, `None` if it varies.
pub(super) const fn fixed_size(fields: &[Field]) -> Option<usize> {
    let mut size = 0;
    let mut rest = fields;
    while let [field, behind @ ..] = rest {
        rest = behind;
        let bytes = match field.kind {
            Kind::U8 => 1,
            Kind::U16 => 2,
            Kind::U32 | Kind::I32 => 4,
            Kind::U64 | Kind::I64 => 8,
            Kind::Record(fields) => match fixed_size(fields) {
                Some(bytes) => bytes,
                None => return None,
            },
            Kind::Bytes | Kind::LongBytes | Kind::Counted | Kind::Array(_) => return None,
        };
        size += bytes + field.padding;
    }
    Some(size)
}

/// The schema of a declared record as the declaration has it, to be joined by [`flatten`].
///
/// It is not in `Record` itself because `flatten` wants the number of fields, and a constant of a
/// type with a lifetime cannot say the length of an array there.
pub(super) trait Parts {
    const PARTS: &'static [&'static [Field]];
}

/// The number of fields of `parts`.
pub(super) const fn count(parts: &[&[Field]]) -> usize {
    let mut count = 0;
    let mut rest = parts;
    while let [part, behind @ ..] = rest {
        count += part.len();
        rest = behind;
    }
    count
}

/// The fields of all `parts`, which are `N`, in one array.
#[allow(clippy::indexing_slicing)] // runs in the compiler, and a wrong `N` ends there
pub(super) const fn flatten<const N: usize>(parts: &[&[Field]]) -> [Field; N] {
    let mut fields = [Field {
        name: "",
        kind: Kind::U8,
        padding: 0,
    }; N];
    let mut count = 0;
    let mut rest = parts;
    while let [part, behind @ ..] = rest {
        let mut part: &[Field] = part;
        while let [field, others @ ..] = part {
            fields[count] = *field;
            count += 1;
            part = others;
        }
        rest = behind;
    }
    assert!(count == N);
    fields
}
