//! Words of the command line as a request.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use lisafs::wire::schema::{self, Field, Kind, Value};
use lisafs::wire::{Message, Mid};

use super::Ids;
use crate::text;

/// A message to be sent.
pub(super) struct Step<'w> {
    pub(super) message: &'static Message,
    arguments: Vec<(&'w str, &'w [u8])>,
}

impl<'w> Step<'w> {
    pub(super) fn parse(words: &'w [OsString]) -> Result<Step<'w>, String> {
        let (name, words) = words
            .split_first()
            .ok_or("there is no message before or behind a comma")?;
        let name = name.to_string_lossy();
        let message = Mid::from_name(&name)
            .and_then(Mid::message)
            .ok_or_else(|| {
                format!("{name}: there is no such message: `lisafs info` shows which there are")
            })?;
        let arguments = words.iter().map(|word| {
            argument(word).ok_or_else(|| {
                let word = text::escaped(word);
                format!("{name}: {word}: fields are FIELD=VALUE, and a comma stands by itself")
            })
        });
        Ok(Step {
            message,
            arguments: arguments.collect::<Result<_, _>>()?,
        })
    }

    /// The request as it is sent.
    pub(super) fn encode(&self, ids: &Ids) -> Result<Vec<u8>, String> {
        let fields = self.message.request;
        let mut arguments = Vec::new();
        for (key, text) in &self.arguments {
            arguments.push(self.resolve(key, text, ids)?);
        }
        fill("", fields, &mut arguments);
        let arguments: Vec<(&str, &[u8])> = arguments
            .iter()
            .map(|(key, text)| (&**key, &**text))
            .collect();
        let value = Value::from_text(fields, &arguments).map_err(|why| self.explain(&why))?;
        let mut body = Vec::new();
        schema::encode(fields, &value, &mut body).map_err(|why| self.explain(&why))?;
        Ok(body)
    }

    /// Replaces what stands for something else.
    fn resolve(
        &self,
        key: &'w str,
        text: &'w [u8],
        ids: &Ids,
    ) -> Result<(Cow<'w, str>, Cow<'w, [u8]>), String> {
        let kind = kind_of(self.message.request, key);
        if kind.is_none()
            && let Some(key) = key.strip_suffix("_hex")
        {
            let bytes = from_hex(text).ok_or_else(|| format!("{key}_hex: not hexadecimal"))?;
            return Ok((key.into(), bytes.into()));
        }
        match (kind, text) {
            (Some(Kind::U64), [b'@', name @ ..]) => {
                let name = String::from_utf8_lossy(name);
                let id = ids.named(&name).ok_or_else(|| match &*name {
                    "open" | "bound" => format!("{key}: there is no @{name} yet"),
                    _ => format!("{key}: there is no @{name}: use @root, @fd, @open or @bound"),
                })?;
                Ok((key.into(), id.to_string().into_bytes().into()))
            }
            _ => Ok((key.into(), text.into())),
        }
    }

    fn explain(&self, why: &schema::SchemaError) -> String {
        let names: Vec<_> = self
            .message
            .request
            .iter()
            .map(|field| field.name)
            .collect();
        format!("{why} (the fields are {})", names.join(", "))
    }
}

fn argument(word: &OsStr) -> Option<(&str, &[u8])> {
    let bytes = word.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let (key, text) = bytes.split_at_checked(at)?;
    Some((str::from_utf8(key).ok()?, text.get(1..)?))
}

/// The kind of the numbers or bytes that the key stands for.
fn kind_of(fields: &'static [Field], key: &str) -> Option<Kind> {
    let (head, member) = match key.split_once('.') {
        Some((head, member)) => (head, Some(member)),
        None => (key, None),
    };
    let kind = fields.iter().find(|field| field.name == head)?.kind;
    match (kind, member) {
        (Kind::Record(fields), Some(member)) => kind_of(fields, member),
        (Kind::Array(&element), None) => Some(element),
        (kind, None) => Some(kind),
        (_, Some(_)) => None,
    }
}

/// Adds what was left out.
fn fill<'w>(
    prefix: &str,
    fields: &'static [Field],
    arguments: &mut Vec<(Cow<'w, str>, Cow<'w, [u8]>)>,
) {
    for (index, field) in fields.iter().enumerate() {
        let key = format!("{prefix}{}", field.name);
        let counts = fields
            .get(index + 1)
            .is_some_and(|next| next.kind == Kind::Counted);
        let text: &[u8] = match field.kind {
            Kind::Record(fields) => {
                fill(&format!("{key}."), fields, arguments);
                continue;
            }
            Kind::Array(_) => continue,
            // It is counted when it is sent.
            _ if counts => continue,
            Kind::Bytes | Kind::LongBytes | Kind::Counted => b"",
            // The number that is nobody's.
            Kind::U32 if matches!(field.name, "uid" | "gid") => b"0xffffffff",
            _ => b"0",
        };
        if !arguments.iter().any(|(given, _)| *given == key) {
            arguments.push((key.into(), text.into()));
        }
    }
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text
        .iter()
        .map(|digit| char::from(*digit).to_digit(16).map(u8::try_from)?.ok());
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use lisafs::wire::FdId;

    use super::*;

    fn encode(words: &[&str]) -> Result<Vec<u8>, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let ids = Ids {
            root: FdId(1),
            fd: FdId(7),
            open: None,
            bound: None,
        };
        Step::parse(&words)?.encode(&ids)
    }

    #[test]
    fn ids_have_names_and_bytes_have_not() {
        assert_eq!(encode(&["FStat", "fd=@fd"]).unwrap(), 7u64.to_le_bytes());
        assert_eq!(
            encode(&["Close", "fds=@root", "fds=2"]).unwrap(),
            b"\x02\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"
        );
        assert_eq!(
            encode(&["Walk", "dir_fd=@root", "path=@fd"]).unwrap(),
            b"\x01\0\0\0\0\0\0\0\x01\0\x03\0@fd"
        );
        assert!(
            encode(&["FStat", "fd=@open"])
                .unwrap_err()
                .contains("@open")
        );
    }

    #[test]
    fn what_is_left_out_is_nothing() {
        let mkdir = encode(&["mkdir-at", "dir_fd=1", "name=d", "mode=0o755"]).unwrap();
        assert_eq!(
            mkdir,
            b"\x01\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xed\x01\0\0\0\0\0\0\x01\0d"
        );
        let write = encode(&["PWrite", "fd=1", "data=abc"]).unwrap();
        assert_eq!(&write[16..], b"\x03\0\0\0abc");
        assert_eq!(
            encode(&["SetStat", "fd=1", "atime.sec=5"]).unwrap().len(),
            64
        );
    }

    #[test]
    fn any_bytes_can_be_given_in_hexadecimal() {
        assert_eq!(
            encode(&["Walk", "path_hex=ff00", "path=a"]).unwrap(),
            b"\0\0\0\0\0\0\0\0\x02\0\x02\0\xff\0\x01\0a"
        );
        for wrong in ["path_hex=f", "path_hex=xx"] {
            assert!(encode(&["Walk", wrong]).is_err());
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        for (words, reason) in [
            (&[][..], "no message"),
            (&["Stat"], "no such message"),
            (&["FStat", "fd"], "FIELD=VALUE"),
            (&["FStat", "id=1"], "no such field (the fields are fd)"),
            (&["FStat", "fd=x"], "not an unsigned 64-bit integer"),
            (&["FStat", "fd=1", "fd=2"], "given twice"),
        ] {
            let why = encode(words).unwrap_err();
            assert!(why.contains(reason), "{words:?}: {why}");
        }
    }
}
