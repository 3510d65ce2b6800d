//! Messages recorded from the reference implementation, and damaged ones, against this codec.
//!
//! Every vector goes through the typed records and through the schema. What gVisor's encoder
//! produces ("canonical") is also what ours produces, to the byte.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // a test may panic

mod wire_typed;

use lisafs::wire::schema::{self, Field, Kind, Value};
use lisafs::wire::{Mid, Reader};
use serde_json::Value as Json;
use wire_typed::{Way, fields, recode_message};

/// Where a name in the vectors is not the name of a field of ours: struct, theirs, ours.
const RENAMED: [(&str, &str, &str); 2] = [
    ("StatFS", "type", "kind"),
    // The element of the reply's array.
    ("Getdents64Resp", "type", "d_type"),
];

/// Members of vectors that only repeat what another field says.
const IMPLIED: [(&str, &str); 1] = [
    // The u64 length of the data, which `LongBytes` holds.
    ("PReadResp", "num_bytes"),
];

struct Vector<'a> {
    json: &'a Json,
}

impl<'a> Vector<'a> {
    fn text(&self, key: &str) -> &'a str {
        self.json[key].as_str().expect(key)
    }

    fn name(&self) -> &'a str {
        self.text("name")
    }

    fn bytes(&self) -> Vec<u8> {
        unhex(self.text("hex"))
    }

    /// The message, `None` for a vector of the transports.
    fn message(&self) -> Option<(Mid, Way)> {
        let way = match self.text("direction") {
            "request" => Way::Request,
            "response" => Way::Reply,
            "transport" => return None,
            other => panic!("{}: direction {other}", self.name()),
        };
        let mid = self.json["mid"].as_u64().expect("mid");
        Some((Mid(mid.try_into().expect("a u16")), way))
    }

    fn field(&self, key: &str) -> u64 {
        integer(&self.json["fields"][key]).try_into().expect(key)
    }
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

/// 64-bit integers are decimal strings in the vectors, smaller ones are numbers.
fn integer(json: &Json) -> i128 {
    match json {
        Json::Number(number) => number.as_i128().expect("an integer"),
        Json::String(text) => text.parse().expect("a decimal number"),
        other => panic!("{other} is no integer"),
    }
}

/// The fields of a vector as the schema wants them. Panics at any that the schema does not know.
fn value_of(kind: Kind, json: &Json, structure: &str) -> Value {
    match kind {
        Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => {
            Value::Unsigned(integer(json).try_into().expect("unsigned"))
        }
        Kind::I32 | Kind::I64 => Value::Signed(integer(json).try_into().expect("signed")),
        Kind::Bytes | Kind::LongBytes | Kind::Counted => {
            Value::Bytes(unhex(json.as_str().expect("hex")))
        }
        Kind::Array(&element) => {
            let list = json.as_array().expect("an array").iter();
            Value::List(
                list.map(|json| value_of(element, json, structure))
                    .collect(),
            )
        }
        Kind::Record(fields) => record_of(fields, json, structure),
    }
}

fn record_of(fields: &'static [Field], json: &Json, structure: &str) -> Value {
    let object = json.as_object().expect("an object");
    let mut record = Vec::new();
    for field in fields {
        let theirs = RENAMED
            .iter()
            .find(|(of, _, ours)| *of == structure && *ours == field.name)
            .map_or(field.name, |(_, theirs, _)| theirs);
        let json = object
            .get(theirs)
            .unwrap_or_else(|| panic!("{structure}: no {theirs}"));
        record.push((field.name.into(), value_of(field.kind, json, structure)));
    }
    let extra = object.keys().filter(|key| {
        // A readable twin of a byte string.
        let twin = key
            .strip_suffix("_text")
            .is_some_and(|of| object.contains_key(of));
        !twin && !IMPLIED.contains(&(structure, key.as_str()))
    });
    assert_eq!(extra.count(), fields.len(), "{structure}: {object:?}");
    Value::Record(record)
}

fn check_message(vector: &Vector<'_>, mid: Mid, way: Way) {
    let name = vector.name();
    let bytes = vector.bytes();
    let size = usize::try_from(vector.json["size"].as_u64().expect("size")).expect("a size");
    assert_eq!(bytes.len(), size, "{name}");

    let fields = fields(mid, way);
    let expected = record_of(fields, &vector.json["fields"], vector.text("struct"));
    assert_eq!(
        schema::decode(fields, &mut Reader::new(&bytes)),
        Ok(expected.clone()),
        "{name}"
    );
    let mut encoded = Vec::new();
    schema::encode(fields, &expected, &mut encoded).expect(name);
    let recoded = recode_message(mid, way, &bytes).expect(name);
    assert_eq!(recoded.bytes, encoded, "{name}: {}", recoded.debug);
    let canonical = vector.json["canonical"].as_bool().expect("canonical");
    assert_eq!(encoded == bytes, canonical, "{name}");
}

fn le32(bytes: &[u8]) -> u64 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes")).into()
}

fn le16(bytes: &[u8]) -> u64 {
    u16::from_le_bytes(bytes.try_into().expect("two bytes")).into()
}

/// u32 payload length, u16 number, u16 zero.
fn check_socket_header(vector: &Vector<'_>, header: &[u8], payload_len: u64) {
    let name = vector.name();
    assert_eq!(header.len(), 8, "{name}");
    assert_eq!(le32(&header[..4]), payload_len, "{name}");
    assert_eq!(le16(&header[4..6]), vector.field("mid"), "{name}");
    assert_eq!(header[6..], [0, 0], "{name}");
}

/// u16 number, u8 count of descriptors, u8 zero.
fn check_channel_header(vector: &Vector<'_>, header: &[u8]) {
    let name = vector.name();
    assert_eq!(header.len(), 4, "{name}");
    assert_eq!(le16(&header[..2]), vector.field("mid"), "{name}");
    assert_eq!(u64::from(header[2]), vector.field("num_fds"), "{name}");
    assert_eq!(header[3], 0, "{name}");
}

/// u32 state, u32 data length, eight zeros.
fn check_window_header(vector: &Vector<'_>, header: &[u8]) {
    let name = vector.name();
    assert_eq!(header.len(), 16, "{name}");
    assert_eq!(le32(&header[..4]), vector.field("state"), "{name}");
    assert_eq!(le32(&header[4..8]), vector.field("data_len"), "{name}");
    assert_eq!(header[8..], [0; 8], "{name}");
}

/// The payload of a frame, whose vector lists its fields among those of the header.
fn check_payload(vector: &Vector<'_>, way: Way, payload: &[u8]) {
    let name = vector.name();
    let mid = Mid(vector.field("mid").try_into().expect("a u16"));
    let expected = fields(mid, way)
        .iter()
        .map(|field| {
            let json = &vector.json["fields"][field.name];
            (field.name.into(), value_of(field.kind, json, name))
        })
        .collect();
    let mut encoded = Vec::new();
    schema::encode(fields(mid, way), &Value::Record(expected), &mut encoded).expect(name);
    assert_eq!(encoded, payload, "{name}");
    let recoded = recode_message(mid, way, payload).expect(name);
    assert_eq!(recoded.bytes, payload, "{name}");
}

/// The headers belong to the communicators, and those judge them in tests of their own. Here the
/// vectors pin the layout down, and what lies behind a header goes through the codec.
fn check_transport(vector: &Vector<'_>) {
    let name = vector.name();
    let bytes = vector.bytes();
    match vector.text("struct") {
        "sockHeader" => check_socket_header(vector, &bytes, vector.field("payload_len")),
        "sockFrame" => {
            let (header, payload) = bytes.split_at(8);
            check_socket_header(vector, header, payload.len().try_into().expect("a length"));
            let way = if vector.field("mid") == 0 {
                Way::Reply
            } else {
                Way::Request
            };
            check_payload(vector, way, payload);
        }
        "channelHeader" => check_channel_header(vector, &bytes),
        "flipcallHeader" => check_window_header(vector, &bytes),
        "handshake" => assert_eq!(bytes, b"{}\n", "{name}"),
        "flipcallWindow" => {
            let (header, packet) = bytes.split_at(16);
            check_window_header(vector, header);
            let data_len = usize::try_from(vector.field("data_len")).expect("a length");
            assert_eq!(packet.len(), data_len, "{name}");
            // What the handshake carries is no message and has no channel header.
            if vector.json["fields"].get("mid").is_none() {
                assert_eq!(packet, b"{}\n", "{name}");
                return;
            }
            let (header, payload) = packet.split_at(4);
            check_channel_header(vector, header);
            // The state says who reads the packet: 1 is the server.
            let way = if vector.field("state") == 1 {
                Way::Request
            } else {
                Way::Reply
            };
            check_payload(vector, way, payload);
        }
        other => panic!("{name}: nothing checks a {other}"),
    }
}

fn golden() -> Json {
    serde_json::from_str(include_str!("golden/vectors.json")).expect("JSON")
}

#[test]
fn every_vector_is_what_its_fields_say() {
    let golden = golden();
    let vectors = golden["vectors"].as_array().expect("vectors");
    let mut messages = 0;
    let mut not_canonical = 0;
    for json in vectors {
        let vector = Vector { json };
        match vector.message() {
            Some((mid, way)) => {
                check_message(&vector, mid, way);
                messages += 1;
                not_canonical += usize::from(json["canonical"] == Json::Bool(false));
            }
            None => check_transport(&vector),
        }
    }
    assert_eq!((vectors.len(), messages, not_canonical), (207, 191, 5));
}

#[test]
fn every_message_has_a_vector_each_way() {
    let golden = golden();
    let vectors = golden["vectors"].as_array().expect("vectors");
    let seen: Vec<_> = vectors
        .iter()
        .filter_map(|json| Vector { json }.message())
        .collect();
    for message in lisafs::wire::messages() {
        for way in [Way::Request, Way::Reply] {
            assert!(
                seen.contains(&(message.mid, way)),
                "{} {way:?}",
                message.name
            );
        }
    }
}

#[test]
fn every_damaged_message_is_refused() {
    let golden = golden();
    let malformed = golden["malformed"].as_array().expect("malformed");
    assert_eq!(malformed.len(), 426);
    for json in malformed {
        let vector = Vector { json };
        let (mid, way) = vector.message().expect("a message");
        let bytes = vector.bytes();
        let why = vector.text("why");
        let typed = recode_message(mid, way, &bytes);
        assert!(typed.is_err(), "{} ({why}): {typed:?}", vector.name());
        let untyped = schema::decode(fields(mid, way), &mut Reader::new(&bytes));
        assert!(untyped.is_err(), "{} ({why}): {untyped:?}", vector.name());
    }
}
