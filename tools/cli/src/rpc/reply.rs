//! A reply for people and for programs.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::FdId;
use lisafs::wire::schema::Value;
use serde_json::{Value as Json, json};

use super::Ids;
use crate::console::Console;
use crate::donated::Donated;
use crate::failure::{Stop, Why};
use crate::json::{Object, hex};
use crate::text;

/// Shows a reply and what came with it.
pub(super) fn show(
    name: &str,
    value: &Value,
    fds: &[OwnedFd],
    console: &mut Console,
) -> Result<(), Stop> {
    let mut donated = Vec::new();
    for fd in fds {
        donated.extend(console.or_complain(name, Donated::look(fd).map_err(Why::from))?);
    }
    if console.is_json() {
        let fds: Vec<Json> = donated.iter().map(|fd| fd.object().into()).collect();
        let object = Object::new().set("message", name);
        return console.object(object.set("reply", record(value)).set("fds", fds));
    }
    console.line(name)?;
    lines("", value, console)?;
    for (number, fd) in donated.iter().enumerate() {
        console.line(&format!("  descriptor {number}: {}", fd.text()))?;
    }
    Ok(())
}

/// Shows an error reply.
pub(super) fn show_error(name: &str, errno: Errno, console: &mut Console) -> Result<(), Stop> {
    if console.is_json() {
        let error = Object::new()
            .set("errno", errno.raw())
            .set("name", format!("{errno:?}"));
        console.object(Object::new().set("message", name).set("error", error))?;
    }
    console.complain(name, Error::Remote(errno))
}

/// Remembers the ids that came.
pub(super) fn note_ids(value: &Value, ids: &mut Ids) {
    match value {
        Value::Record(fields) => {
            for (name, value) in fields {
                match (&**name, value) {
                    ("control_fd", Value::Unsigned(id)) => ids.fd = FdId(*id),
                    ("open_fd" | "new_fd", Value::Unsigned(id)) => ids.open = Some(FdId(*id)),
                    ("bound_socket_fd", Value::Unsigned(id)) => ids.bound = Some(FdId(*id)),
                    (_, value) => note_ids(value, ids),
                }
            }
        }
        Value::List(list) => list.iter().for_each(|value| note_ids(value, ids)),
        Value::Unsigned(_) | Value::Signed(_) | Value::Bytes(_) => {}
    }
}

/// A line for each number and string, with its way there.
fn lines(path: &str, value: &Value, console: &mut Console) -> Result<(), Stop> {
    let inner = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Unsigned(number) if path.ends_with("mode") => {
            console.line(&format!("  {path} = 0o{number:o}"))
        }
        Value::Unsigned(number) => console.line(&format!("  {path} = {number}")),
        Value::Signed(number) => console.line(&format!("  {path} = {number}")),
        Value::Bytes(bytes) => {
            let bytes = text::escaped(OsStr::from_bytes(bytes));
            console.line(&format!("  {path} = \"{bytes}\""))
        }
        Value::List(list) if list.is_empty() => console.line(&format!("  {path} = none")),
        Value::List(list) => list
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| lines(&inner(&index.to_string()), value, console)),
        Value::Record(fields) => fields
            .iter()
            .try_for_each(|(name, value)| lines(&inner(name), value, console)),
    }
}

fn record(value: &Value) -> Json {
    match value {
        Value::Unsigned(number) => json!(number),
        Value::Signed(number) => json!(number),
        // In a list they have no key that could say so.
        Value::Bytes(bytes) => match str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "hex": hex(bytes) }),
        },
        Value::List(list) => list.iter().map(record).collect(),
        Value::Record(fields) => {
            let object = fields
                .iter()
                .fold(Object::new(), |object, (name, value)| match value {
                    Value::Bytes(bytes) => object.bytes(name, OsStr::from_bytes(bytes)),
                    value => object.set(name, record(value)),
                });
            object.into()
        }
    }
}
