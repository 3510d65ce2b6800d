//! Values whose type is known only at run time, see [`schema`](super::schema).

use core::fmt;
use std::borrow::Cow;

use thiserror::Error;

use super::codec::Overflow;
use super::schema::{Field, Kind};

/// The value of a field, or of a whole message.
///
/// ```
/// use lisafs::wire::Mid;
/// use lisafs::wire::schema::Value;
///
/// let open = Mid::OPEN_AT.message().expect("a message");
/// let value = Value::from_text(open.request, &[("fd", b"7"), ("flags", b"0x241")])?;
/// assert_eq!(value.get("flags"), Some(&Value::Unsigned(0x241)));
/// assert_eq!(value.get("name"), None);
/// # Ok::<(), lisafs::wire::schema::SchemaError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An integer that is unsigned on the wire.
    Unsigned(u64),
    /// An integer that is signed on the wire.
    Signed(i64),
    /// A string: any bytes.
    Bytes(Vec<u8>),
    /// An array.
    List(Vec<Value>),
    /// Names and values. Decoding keeps wire order, encoding accepts any.
    Record(Vec<(Cow<'static, str>, Value)>),
}

impl Value {
    /// The field `name` of a record.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Record(record) => {
                let (_, value) = record.iter().find(|(key, _)| key == name)?;
                Some(value)
            }
            _ => None,
        }
    }

    /// Makes a record from `key=value` arguments.
    ///
    /// Integers are decimal, or hexadecimal and octal behind `0x` and `0o`; bytes are taken as they
    /// are. A field of a field has a key with a dot, `atime.sec`. Each argument for an array is one
    /// element, and without any the array is empty. Other fields without an argument are left out:
    /// it is [`encode`](super::schema::encode) that misses them.
    ///
    /// # Errors
    /// Names the first field that is unknown, given twice, or of another kind. Arrays of records
    /// cannot be written this way.
    pub fn from_text(
        fields: &'static [Field],
        arguments: &[(&str, &[u8])],
    ) -> Result<Value, SchemaError> {
        for (key, _) in arguments {
            let (head, member) = match key.split_once('.') {
                Some((head, _)) => (head, true),
                None => (*key, false),
            };
            let known = fields
                .iter()
                .any(|field| field.name == head && member == matches!(field.kind, Kind::Record(_)));
            if !known {
                return Err(SchemaError::from(Problem::Unknown).inside(key));
            }
        }
        let mut record = Vec::with_capacity(fields.len());
        for field in fields {
            let value = Value::field_from_text(field, arguments)
                .map_err(|error| error.inside(field.name))?;
            record.extend(value.map(|value| (Cow::Borrowed(field.name), value)));
        }
        Ok(Value::Record(record))
    }

    fn field_from_text(
        field: &Field,
        arguments: &[(&str, &[u8])],
    ) -> Result<Option<Value>, SchemaError> {
        let mut texts = arguments
            .iter()
            .filter(|(key, _)| *key == field.name)
            .map(|(_, text)| *text);
        match field.kind {
            Kind::Record(fields) => {
                let members: Vec<(&str, &[u8])> = arguments
                    .iter()
                    .filter_map(|(key, text)| {
                        let (head, member) = key.split_once('.')?;
                        (head == field.name).then_some((member, *text))
                    })
                    .collect();
                Value::from_text(fields, &members).map(Some)
            }
            Kind::Array(&element) => {
                let list = texts.enumerate().map(|(index, text)| {
                    Value::scalar_from_text(element, text)
                        .map_err(|problem| SchemaError::from(problem).inside(&index.to_string()))
                });
                Ok(Some(Value::List(list.collect::<Result<_, _>>()?)))
            }
            kind => match (texts.next(), texts.next()) {
                (_, Some(_)) => Err(Problem::Repeated.into()),
                (Some(text), None) => Ok(Some(Value::scalar_from_text(kind, text)?)),
                (None, None) => Ok(None),
            },
        }
    }

    fn scalar_from_text(kind: Kind, text: &[u8]) -> Result<Value, Problem> {
        let value = match kind {
            Kind::Bytes | Kind::LongBytes | Kind::Counted => Some(Value::Bytes(text.to_vec())),
            Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => {
                integer(text).and_then(|number| Some(Value::Unsigned(number.try_into().ok()?)))
            }
            Kind::I32 | Kind::I64 => {
                integer(text).and_then(|number| Some(Value::Signed(number.try_into().ok()?)))
            }
            Kind::Array(_) | Kind::Record(_) => None,
        };
        value.ok_or(Problem::Expected(kind))
    }
}

fn integer(text: &[u8]) -> Option<i128> {
    let text = str::from_utf8(text).ok()?;
    let (digits, radix) = if let Some(digits) = text.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = text.strip_prefix("0o") {
        (digits, 8)
    } else {
        (text, 10)
    };
    // The standard library takes a sign anywhere; here only decimal numbers have one.
    let signed = digits.starts_with(['+', '-']);
    (radix == 10 || !signed)
        .then(|| i128::from_str_radix(digits, radix).ok())
        .flatten()
}

/// A value does not match its schema.
///
/// ```
/// use lisafs::wire::Mid;
/// use lisafs::wire::schema::Value;
///
/// let close = Mid::CLOSE.message().expect("a message");
/// let error = Value::from_text(close.request, &[("fds", b"7"), ("fds", b"x")]).unwrap_err();
/// assert_eq!(error.field, "fds.1");
/// assert_eq!(error.to_string(), "fds.1: not an unsigned 64-bit integer");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}{}{problem}", if field.is_empty() { "" } else { ": " })]
pub struct SchemaError {
    /// Which field: names and array positions joined by dots, empty for the message as a whole.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
///
/// ```
/// use lisafs::wire::Mid;
/// use lisafs::wire::schema::{Problem, Value};
///
/// let stat = Mid::FSTAT.message().expect("a message");
/// let error = Value::from_text(stat.request, &[("path", b"/")]).unwrap_err();
/// assert_eq!(error.problem, Problem::Unknown);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// There is no value for it.
    #[error("missing")]
    Missing,
    /// The schema has no such field.
    #[error("no such field")]
    Unknown,
    /// There is more than one value for it.
    #[error("given twice")]
    Repeated,
    /// The value is of another kind, or not in the range of the integer.
    #[error("not {0}")]
    Expected(Kind),
    /// It does not fit into its count field or into the message.
    #[error("too long")]
    TooLong,
}

impl SchemaError {
    /// The same problem, seen from the record or array that holds the value as `name`.
    pub(super) fn inside(mut self, name: &str) -> SchemaError {
        if !self.field.is_empty() {
            self.field.insert(0, '.');
        }
        self.field.insert_str(0, name);
        self
    }
}

impl From<Problem> for SchemaError {
    fn from(problem: Problem) -> SchemaError {
        SchemaError {
            field: String::new(),
            problem,
        }
    }
}

impl From<Overflow> for SchemaError {
    fn from(_: Overflow) -> SchemaError {
        Problem::TooLong.into()
    }
}

/// For people: `an unsigned 16-bit integer`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::U8 => "an unsigned 8-bit integer",
            Kind::U16 => "an unsigned 16-bit integer",
            Kind::U32 => "an unsigned 32-bit integer",
            Kind::U64 => "an unsigned 64-bit integer",
            Kind::I32 => "a signed 32-bit integer",
            Kind::I64 => "a signed 64-bit integer",
            Kind::Bytes | Kind::LongBytes | Kind::Counted => "bytes",
            Kind::Array(_) => "a list",
            Kind::Record(_) => "a record",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Problem, SchemaError, Value};
    use crate::wire::schema::{Kind, decode, encode};
    use crate::wire::{Mid, Reader};

    fn request(name: &str, arguments: &[(&str, &[u8])]) -> Result<Vec<u8>, SchemaError> {
        let fields = Mid::from_name(name).unwrap().message().unwrap().request;
        let mut bytes = Vec::new();
        encode(fields, &Value::from_text(fields, arguments)?, &mut bytes)?;
        Ok(bytes)
    }

    fn error(field: &str, problem: Problem) -> Result<Vec<u8>, SchemaError> {
        Err(SchemaError {
            field: field.to_owned(),
            problem,
        })
    }

    #[test]
    fn text_becomes_a_message() {
        assert_eq!(
            request("OpenAt", &[("flags", b"0x241"), ("fd", b"7")]).unwrap(),
            [7, 0, 0, 0, 0, 0, 0, 0, 0x41, 2, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            request("Getdents64", &[("dir_fd", b"0o10"), ("count", b"-2")]).unwrap(),
            [8, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0]
        );
        assert_eq!(
            request("Close", &[("fds", b"1"), ("fds", b"2")]).unwrap(),
            [2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(request("Close", &[]).unwrap(), [0, 0]);
        assert_eq!(request("Mount", &[]).unwrap(), Vec::<u8>::new());
    }

    #[test]
    fn members_of_records_have_dotted_keys() {
        let fields = Mid::SET_STAT.message().unwrap().request;
        let arguments: [(&str, &[u8]); 10] = [
            ("fd", b"1"),
            ("mask", b"0"),
            ("mode", b"0o644"),
            ("uid", b"0"),
            ("gid", b"0"),
            ("size", b"0"),
            ("atime.sec", b"-1"),
            ("atime.nsec", b"2"),
            ("mtime.sec", b"3"),
            ("mtime.nsec", b"4"),
        ];
        let bytes = request("SetStat", &arguments).unwrap();
        let value = decode(fields, &mut Reader::new(&bytes)).unwrap();
        let atime = value.get("atime").unwrap();
        assert_eq!(atime.get("sec"), Some(&Value::Signed(-1)));
        assert_eq!(value.get("mode"), Some(&Value::Unsigned(0o644)));

        assert_eq!(
            request("SetStat", arguments.split_last().unwrap().1),
            error("mtime.nsec", Problem::Missing)
        );
        assert_eq!(
            request("SetStat", &[("atime.day", b"1")]),
            error("atime.day", Problem::Unknown)
        );
        for key in ["atime", "fd.sec", ".", ""] {
            assert_eq!(
                request("SetStat", &[(key, b"1")]),
                error(key, Problem::Unknown)
            );
        }
    }

    #[test]
    fn the_count_of_written_data_may_be_left_out_or_wrong() {
        let data: [(&str, &[u8]); 3] = [("offset", b"0"), ("fd", b"1"), ("data", b"abc")];
        let counted = request("PWrite", &data).unwrap();
        assert_eq!(&counted[16..], b"\x03\0\0\0abc");
        let mut lie = data.to_vec();
        lie.push(("num_bytes", b"4"));
        let lie = request("PWrite", &lie).unwrap();
        assert_eq!(&lie[16..], b"\x04\0\0\0abc");
        let fields = Mid::PWRITE.message().unwrap().request;
        assert!(decode(fields, &mut Reader::new(&lie)).is_err());
        assert_eq!(
            request("PWrite", &[("offset", b"0"), ("fd", b"1")]),
            error("num_bytes", Problem::Missing)
        );
    }

    #[test]
    fn errors_name_the_field() {
        let fd = |text| request("FStat", &[("fd", text)]);
        for text in [
            &b""[..],
            b"x",
            b"-1",
            b"0x-1",
            b"1 ",
            b"0x",
            b"18446744073709551616",
        ] {
            assert_eq!(fd(text), error("fd", Problem::Expected(Kind::U64)));
        }
        assert!(fd(b"18446744073709551615").is_ok());
        assert_eq!(
            request("OpenAt", &[("fd", b"1"), ("flags", b"4294967296")]),
            error("flags", Problem::Expected(Kind::U32))
        );
        assert_eq!(
            request("FStat", &[("fd", b"1"), ("fd", b"1")]),
            error("fd", Problem::Repeated)
        );
        assert_eq!(request("FStat", &[]), error("fd", Problem::Missing));
        assert_eq!(
            request("Close", &[("fds", b"1"), ("fds", b"x")]),
            error("fds.1", Problem::Expected(Kind::U64))
        );
        assert_eq!(
            request("Walk", &[("dir_fd", b"1"), ("path", &[b'a'; 65_536])]),
            error("path.0", Problem::TooLong)
        );
        let message = request("FStat", &[("fd", b"x")]).unwrap_err().to_string();
        assert_eq!(message, "fd: not an unsigned 64-bit integer");
    }

    #[test]
    fn a_record_built_by_hand_is_checked_too() {
        let fields = Mid::FSTAT.message().unwrap().request;
        let check = |value: Value| encode(fields, &value, &mut Vec::new()).map(|()| Vec::new());
        let record = |keys: &[&'static str]| {
            Value::Record(
                keys.iter()
                    .map(|&key| (key.into(), Value::Unsigned(1)))
                    .collect(),
            )
        };
        assert!(check(record(&["fd"])).is_ok());
        assert_eq!(check(record(&["fd", "fd"])), error("fd", Problem::Repeated));
        assert_eq!(check(record(&["fd", "gd"])), error("gd", Problem::Unknown));
        assert_eq!(
            check(Value::List(Vec::new())),
            error("", Problem::Expected(Kind::Record(fields)))
        );
        assert_eq!(
            check(Value::Record(vec![(
                "fd".into(),
                Value::Bytes(b"1".to_vec())
            )])),
            error("fd", Problem::Expected(Kind::U64))
        );
    }
}
