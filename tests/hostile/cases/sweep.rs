//! All messages: what a suite for any server asks, and requests that are not quite right.

use std::borrow::Cow;

use lisafs::wire::schema::{self, Field, Kind, Value};
use lisafs::wire::{FdId, Message, Mid, messages};
use lisafs_conformance::{Caller, Stop};

use crate::case::Case;
use crate::chance::Chance;

pub(super) const CASES: &[Case] = &[
    // Every truncation of every message, counts beyond the end, trailing bytes, padding, lengths.
    Case::conformance("malformed.", &["A8", "A2-15", "A3-1"]),
    // Every message for an object that is well, deleted, read-only, of the wrong kind, unknown,
    // closed, and a bound socket.
    Case::conformance("matrix.", &["A19", "A21", "A2-4", "A2-5", "A3-2"]),
    Case::conformance("names.", &["A15", "A16"]),
    Case::conformance("walk.", &["A7", "A11", "A16"]),
    Case::conformance("io.", &["A10", "A20", "A2-3"]),
    Case::conformance("allocate.", &["A10", "A23", "A29"]),
    Case::conformance("directory.", &["A11", "A27", "A2-9", "A2-16", "A3-6"]),
    Case::conformance("xattr.", &["A11", "A23", "A24", "A2-11"]),
    Case::conformance("device.", &["A25", "A2-14"]),
    Case::conformance("fifo.", &["A17", "A2-14"]),
    Case::conformance(
        "socket.",
        &["A14", "A17", "A27", "A28", "A2-6", "A2-7", "A2-12", "A2-13"],
    ),
    Case::conformance("set_stat.", &["A14", "A22"]),
    Case::conformance("link.", &["A16", "A2-15"]),
    Case::conformance("precedence.", &["A21", "A3-2"]),
    Case::conformance("frames.", &["A1", "A2-1", "A2-2"]),
    Case::conformance("stat.", &["A27", "A2-5"]),
    Case::conformance("create.", &["A15", "A22"]),
    Case::conformance("open.", &["A16", "A21", "A25"]),
    Case::conformance("unlink.", &["A23", "A2-8"]),
    Case::conformance("rename.", &["A23", "A2-15"]),
    Case::conformance("channels.", &["A5", "A6"]),
    Case::conformance("ids.", &["A12", "A30"]),
    Case::conformance("close.", &["A8", "A30"]),
    Case::conformance("order.", &["A5", "A2-15"]),
];

/// The fields that name an object.
const ID_FIELDS: [&str; 7] = [
    "fd",
    "dir_fd",
    "target_fd",
    "old_dir",
    "new_dir",
    "control_fd",
    "open_fd",
];

pub(super) fn is_id(field: &Field) -> bool {
    field.kind == Kind::U64 && ID_FIELDS.contains(&field.name)
}

/// A value for a field that is of the right form. All ids are `id`.
pub(super) fn plausible(field: &Field, id: FdId) -> Value {
    fn of(kind: Kind, id: FdId) -> Value {
        match kind {
            Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => Value::Unsigned(0),
            Kind::I32 | Kind::I64 => Value::Signed(0),
            Kind::Bytes | Kind::LongBytes | Kind::Counted => Value::Bytes(b"name".to_vec()),
            Kind::Array(&Kind::U64) => Value::List(vec![Value::Unsigned(id.0)]),
            Kind::Array(&element) => Value::List(vec![of(element, id)]),
            Kind::Record(fields) => Value::Record(
                fields
                    .iter()
                    .map(|field| (Cow::Borrowed(field.name), plausible(field, id)))
                    .collect(),
            ),
        }
    }
    if is_id(field) {
        return Value::Unsigned(id.0);
    }
    of(field.kind, id)
}

/// The bytes of a request with `value` for the field that is called so.
pub(super) fn request_with(
    message: &Message,
    id: FdId,
    changed: Option<(&str, Value)>,
) -> Result<Vec<u8>, Stop> {
    let value = |field: &Field| match &changed {
        Some((name, value)) if *name == field.name => value.clone(),
        // It may be left out, and is then right.
        _ => plausible(field, id),
    };
    let mut record = Vec::new();
    for (index, field) in message.request.iter().enumerate() {
        let counts = message
            .request
            .get(index + 1)
            .is_some_and(|next| next.kind == Kind::Counted);
        let is_changed = changed
            .as_ref()
            .is_some_and(|(name, _)| *name == field.name);
        if !counts || is_changed {
            record.push((Cow::Borrowed(field.name), value(field)));
        }
    }
    let mut bytes = Vec::new();
    schema::encode(message.request, &Value::Record(record), &mut bytes)?;
    Ok(bytes)
}

/// Requests about objects that exist.
#[derive(Debug)]
pub(super) struct Requests {
    all: Vec<(Mid, Vec<u8>)>,
}

impl Requests {
    /// Makes an object of each sort, and a request for each of them and each message.
    pub(super) fn prepare(caller: &mut Caller, root: FdId) -> Result<Requests, Stop> {
        let mut all = Vec::new();
        for id in objects(caller, root)? {
            for message in messages() {
                // A reply that is full of descriptors needs a client that wants them.
                if ![Mid::ERROR, Mid::CHANNEL, Mid::MOUNT].contains(&message.mid) {
                    all.push((message.mid, request_with(message, id, None)?));
                }
            }
        }
        Ok(Requests { all })
    }

    /// One of them.
    pub(super) fn any(&self, chance: &mut Chance) -> (Mid, Vec<u8>) {
        chance.one_of(&self.all).clone()
    }
}

/// A directory with a file, the file, both open, and a socket if they can be bound. The names are
/// those of [`plausible`], or what they lead to.
pub(super) fn objects(caller: &mut Caller, root: FdId) -> Result<Vec<FdId>, Stop> {
    // Left by the last one perhaps.
    let dir = match caller.mkdir(root, b"objects") {
        Ok(made) => made.control_fd,
        Err(_) => caller.find(root, b"objects")?.control_fd,
    };
    let file = match caller.file(dir, b"file", b"content") {
        Ok(file) => file,
        Err(_) => caller.find(dir, b"file")?.control_fd,
    };
    let open_dir = caller.open(dir, 0)?.id;
    let open_file = caller.open(file, libc::O_RDWR.cast_unsigned())?.id;
    let mut objects = vec![dir, file, open_dir, open_file];
    if let Ok(bound) = caller.bind(dir, b"bound", libc::SOCK_STREAM.cast_unsigned()) {
        objects.push(bound.id);
    }
    Ok(objects)
}
