//! What holds for every message whatever it carries. The messages come from the table, so a new
//! row is tested without a line here.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // a test may panic

mod wire_typed;

use lisafs::wire::schema::{self, Field, Kind, Value};
use lisafs::wire::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use wire_typed::{Way, fields, recode_message};

/// Numbers at which length fields and signs go wrong, of an integer of `bits` bits, and others.
fn unsigned(bits: u32) -> BoxedStrategy<Value> {
    let max = u64::MAX >> (64 - bits);
    let sign = 1 << (bits - 1);
    prop_oneof![
        prop::sample::select(vec![0, 1, sign - 1, sign, max - 1, max]),
        0..=max
    ]
    .prop_map(Value::Unsigned)
    .boxed()
}

fn signed(bits: u32) -> BoxedStrategy<Value> {
    let max = i64::MAX >> (64 - bits);
    let min = i64::MIN >> (64 - bits);
    prop_oneof![
        prop::sample::select(vec![0, 1, -1, max - 1, max, min, min + 1]),
        min..=max
    ]
    .prop_map(Value::Signed)
    .boxed()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

fn value(kind: Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::U8 => unsigned(8),
        Kind::U16 => unsigned(16),
        Kind::U32 => unsigned(32),
        Kind::U64 => unsigned(64),
        Kind::I32 => signed(32),
        Kind::I64 => signed(64),
        Kind::Bytes | Kind::LongBytes | Kind::Counted => bytes().prop_map(Value::Bytes).boxed(),
        Kind::Array(&element) => vec(value(element), 0..4).prop_map(Value::List).boxed(),
        Kind::Record(fields) => record(fields),
    }
}

fn record(fields: &'static [Field]) -> BoxedStrategy<Value> {
    let values: Vec<_> = fields.iter().map(|field| value(field.kind)).collect();
    values
        .prop_map(move |mut values| {
            // The two fields that are not independent: bytes, and before them their count.
            for (index, field) in fields.iter().enumerate() {
                if let (Kind::Counted, Value::Bytes(bytes)) = (field.kind, &values[index]) {
                    values[index - 1] = Value::Unsigned(bytes.len() as u64);
                }
            }
            let names = fields.iter().map(|field| field.name.into());
            Value::Record(names.zip(values).collect())
        })
        .boxed()
}

fn all_messages() -> Vec<(Mid, Way)> {
    let requests = messages().map(|message| (message.mid, Way::Request));
    let replies = messages().map(|message| (message.mid, Way::Reply));
    requests
        .chain(replies)
        .chain([(Mid::ERROR, Way::Reply)])
        .collect()
}

/// A failure that teaches something becomes a test with a name, not a file of seeds.
fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

/// Runs `property` on many of the inputs that `strategy` makes for each message.
fn for_each_message<S: Strategy>(
    cases: u32,
    strategy: impl Fn(&'static [Field]) -> S,
    property: impl Fn(Mid, Way, S::Value) -> Result<(), TestCaseError>,
) {
    for (mid, way) in all_messages() {
        let strategy = strategy(fields(mid, way));
        match TestRunner::new(config(cases)).run(&strategy, |input| property(mid, way, input)) {
            Ok(()) => {}
            Err(TestError::Fail(why, input)) => panic!("{mid} {way:?}: {why}\nfor {input:?}"),
            Err(TestError::Abort(why)) => panic!("{mid} {way:?}: {why}"),
        }
    }
}

fn encode(mid: Mid, way: Way, value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    schema::encode(fields(mid, way), value, &mut bytes).expect("a value of the schema");
    bytes
}

fn decode(mid: Mid, way: Way, bytes: &[u8]) -> Result<Value, Malformed> {
    schema::decode(fields(mid, way), &mut Reader::new(bytes))
}

/// The typed codec and the schema judge `bytes` alike, and see the same message if there is one.
fn agree(mid: Mid, way: Way, bytes: &[u8]) -> Result<Option<Value>, TestCaseError> {
    match (recode_message(mid, way, bytes), decode(mid, way, bytes)) {
        (Ok(typed), Ok(value)) => {
            prop_assert_eq!(
                decode(mid, way, &typed.bytes),
                Ok(value.clone()),
                "{}",
                typed.debug
            );
            prop_assert_eq!(encode(mid, way, &value).len(), typed.bytes.len());
            Ok(Some(value))
        }
        (Err(Malformed), Err(Malformed)) => Ok(None),
        (typed, untyped) => Err(TestCaseError::fail(format!("{typed:?} but {untyped:?}"))),
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    for_each_message(64, record, |mid, way, value| {
        let bytes = encode(mid, way, &value);
        prop_assert_eq!(decode(mid, way, &bytes), Ok(value));
        let typed = recode_message(mid, way, &bytes).expect("a message");
        prop_assert_eq!(typed.bytes, bytes);
        Ok(())
    });
}

#[test]
fn a_message_that_ends_early_is_refused() {
    for_each_message(16, record, |mid, way, value| {
        let bytes = encode(mid, way, &value);
        for end in 0..bytes.len() {
            prop_assert_eq!(agree(mid, way, &bytes[..end])?, None, "{} bytes", end);
        }
        Ok(())
    });
}

#[test]
fn bytes_behind_a_message_are_ignored() {
    let with_garbage = |fields| (record(fields), bytes());
    for_each_message(32, with_garbage, |mid, way, (value, garbage)| {
        let message = encode(mid, way, &value);
        let longer = [message.as_slice(), garbage.as_slice()].concat();
        prop_assert_eq!(agree(mid, way, &longer)?, Some(value));
        let typed = recode_message(mid, way, &longer).expect("a message");
        prop_assert_eq!(typed.bytes, message);
        Ok(())
    });
}

#[test]
fn any_bytes_are_a_message_or_refused() {
    for_each_message(
        256,
        |_| vec(any::<u8>(), 0..600),
        |mid, way, bytes| {
            agree(mid, way, &bytes)?;
            Ok(())
        },
    );
}

#[test]
fn a_damaged_message_is_a_message_or_refused() {
    let with_damage = |fields| {
        let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
        (record(fields), damage)
    };
    for_each_message(64, with_damage, |mid, way, (value, damage)| {
        let mut bytes = encode(mid, way, &value);
        for (at, byte) in damage {
            if !bytes.is_empty() {
                *at.get_mut(&mut bytes) = byte;
            }
        }
        agree(mid, way, &bytes)?;
        Ok(())
    });
}

/// A length or count inside an encoded message.
#[derive(Debug)]
struct Length {
    /// Where it lies.
    at: usize,
    /// Its width in bytes.
    width: usize,
    /// The fewest bytes that one of what it counts takes.
    unit: usize,
}

/// The fewest bytes that a value can take.
fn least_size(kind: Kind) -> usize {
    match kind {
        Kind::U8 => 1,
        Kind::U16 | Kind::Bytes | Kind::Array(_) => 2,
        Kind::U32 | Kind::I32 => 4,
        Kind::U64 | Kind::I64 | Kind::LongBytes => 8,
        Kind::Counted => 0,
        Kind::Record(fields) => fields
            .iter()
            .map(|field| least_size(field.kind) + field.padding)
            .sum(),
    }
}

/// Moves `at` behind `value` and collects the lengths on the way.
fn find_lengths(kind: Kind, value: &Value, at: &mut usize, found: &mut Vec<Length>) {
    let start = *at;
    let mut length = |width, unit| {
        found.push(Length {
            at: start,
            width,
            unit,
        })
    };
    *at += least_size(kind);
    match (kind, value) {
        (Kind::Bytes, Value::Bytes(bytes)) => {
            length(2, 1);
            *at += bytes.len();
        }
        (Kind::LongBytes, Value::Bytes(bytes)) => {
            length(8, 1);
            *at += bytes.len();
        }
        (Kind::Counted, Value::Bytes(bytes)) => {
            // Every count before counted bytes is a u32.
            found.push(Length {
                at: start - 4,
                width: 4,
                unit: 1,
            });
            *at += bytes.len();
        }
        (Kind::Array(&element), Value::List(list)) => {
            length(2, least_size(element));
            for value in list {
                find_lengths(element, value, at, found);
            }
        }
        (Kind::Record(fields), Value::Record(record)) => {
            *at = start;
            for (field, (_, value)) in fields.iter().zip(record) {
                find_lengths(field.kind, value, at, found);
                *at += field.padding;
            }
        }
        _ => {}
    }
}

#[test]
fn a_length_of_more_than_there_is_is_refused() {
    let lengths_seen = std::cell::Cell::new(0);
    for_each_message(32, record, |mid, way, value| {
        let bytes = encode(mid, way, &value);
        let mut lengths = Vec::new();
        let mut end = 0;
        find_lengths(
            Kind::Record(fields(mid, way)),
            &value,
            &mut end,
            &mut lengths,
        );
        prop_assert_eq!(end, bytes.len());
        lengths_seen.set(lengths_seen.get() + lengths.len());
        for Length { at, width, unit } in lengths {
            let max = u64::MAX >> (64 - 8 * width);
            let sign = 1 << (8 * width - 1);
            let behind = bytes.len() - at - width;
            let fits = (behind / unit) as u64;
            for claim in [0, 1, fits, fits + 1, sign - 1, sign, sign + 1, max - 1, max] {
                let mut bytes = bytes.clone();
                bytes[at..at + width].copy_from_slice(&claim.to_le_bytes()[..width]);
                let outcome = agree(mid, way, &bytes)?;
                if claim > fits {
                    prop_assert_eq!(outcome, None, "{} of {} at {}", claim, fits, at);
                }
            }
        }
        Ok(())
    });
    assert!(lengths_seen.get() > 1000, "{}", lengths_seen.get());
}

fn inode(control_fd: u64) -> Inode {
    Inode {
        control_fd: FdId(control_fd),
        stat: Statx {
            ino: control_fd.wrapping_mul(3),
            ..Statx::default()
        },
    }
}

/// `value` encoded at an odd offset, with a byte behind it.
fn at_odd_offset(value: &impl Encode) -> Vec<u8> {
    let mut bytes = vec![0xa5];
    value.encode(&mut bytes).expect("fits");
    bytes.push(0x5a);
    bytes
}

fn dirent(name: &[u8]) -> Dirent64<'_> {
    Dirent64 {
        ino: 1,
        dev_minor: 2,
        dev_major: 3,
        off: 4,
        d_type: 5,
        name,
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn an_array_has_as_many_elements_as_it_says(ids in vec(any::<u64>(), 0..50)) {
        let inodes: Vec<Inode> = ids.into_iter().map(inode).collect();
        let bytes = at_odd_offset(&Array::new(&inodes));
        let mut from = Reader::new(&bytes[1..]);
        let array = Array::<Inode>::decode(&mut from).expect("an array");
        prop_assert_eq!(from.rest(), b"\x5a");
        prop_assert_eq!((array.len(), array.iter().len()), (inodes.len(), inodes.len()));
        prop_assert_eq!(array.is_empty(), inodes.is_empty());
        prop_assert_eq!(array.iter().collect::<Vec<_>>(), inodes);
    }

    #[test]
    fn a_string_array_has_as_many_strings_as_it_says(strings in vec(bytes(), 0..50)) {
        let built = StringArrayBuf::collect(strings.iter().map(Vec::as_slice)).expect("fits");
        let bytes = at_odd_offset(&built.as_array());
        let mut from = Reader::new(&bytes[1..]);
        let array = StringArray::decode(&mut from).expect("an array");
        prop_assert_eq!(from.rest(), b"\x5a");
        prop_assert_eq!(array, built.as_array());
        prop_assert_eq!(array.len(), strings.len());
        prop_assert_eq!(array.is_empty(), strings.is_empty());
        prop_assert_eq!(array.iter().collect::<Vec<_>>(), strings);
    }

    #[test]
    fn directory_entries_are_taken_as_long_as_they_fit(
        names in vec(bytes(), 0..20),
        limit in 2_usize..400,
    ) {
        let mut buffer = b"left from before".to_vec();
        let mut writer = DirentWriter::new(&mut buffer, limit);
        let mut taken = Vec::new();
        let mut size = 2;
        for name in &names {
            let fits = size + Dirent64::FIXED_SIZE + name.len() <= limit;
            prop_assert_eq!(writer.push(&dirent(name)).is_ok(), fits);
            if fits {
                size += Dirent64::FIXED_SIZE + name.len();
                taken.push(name.as_slice());
            }
        }
        prop_assert_eq!((writer.len(), writer.is_empty()), (taken.len(), taken.is_empty()));
        let bytes = at_odd_offset(&writer.as_dirents());
        prop_assert_eq!(bytes.len() - 2, size);
        let mut from = Reader::new(&bytes[1..]);
        let dirents = Dirents::decode(&mut from).expect("entries");
        prop_assert_eq!(from.rest(), b"\x5a");
        prop_assert_eq!((dirents.len(), dirents.is_empty()), (taken.len(), taken.is_empty()));
        let expected: Vec<_> = taken.into_iter().map(dirent).collect();
        prop_assert_eq!(dirents.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn counts_end_at_65535() {
    const MOST: usize = 65_535;
    let encodes = |value: &dyn Fn(&mut Vec<u8>) -> Result<(), Overflow>| {
        let mut bytes = Vec::new();
        value(&mut bytes).map(|()| bytes.len())
    };
    let long = [b'n'; MOST + 1];
    assert_eq!(encodes(&|out| (&long[..MOST]).encode(out)), Ok(2 + MOST));
    assert_eq!(encodes(&|out| (&long[..]).encode(out)), Err(Overflow));

    let ids = vec![FdId(1); MOST + 1];
    assert_eq!(
        encodes(&|out| Array::new(&ids[..MOST]).encode(out)),
        Ok(2 + 8 * MOST)
    );
    assert_eq!(encodes(&|out| Array::new(&ids).encode(out)), Err(Overflow));

    let mut strings = StringArrayBuf::default();
    assert_eq!(strings.push(&long), Err(Overflow));
    assert!(strings.as_array().is_empty());
    for _ in 0..MOST {
        strings.push(b"").expect("fits");
    }
    assert_eq!(strings.push(b""), Err(Overflow));
    assert_eq!(strings.as_array().iter().count(), MOST);
    assert_eq!(
        encodes(&|out| strings.as_array().encode(out)),
        Ok(2 + 2 * MOST)
    );
    strings.clear();
    assert_eq!(strings.as_array().iter().next(), None);

    let mut buffer = Vec::new();
    let mut dirents = DirentWriter::new(&mut buffer, usize::MAX);
    assert_eq!(dirents.push(&dirent(&long)), Err(Overflow));
    for _ in 0..MOST {
        dirents.push(&dirent(b"")).expect("fits");
    }
    assert_eq!(dirents.push(&dirent(b"")), Err(Overflow));
    assert_eq!(dirents.as_dirents().iter().count(), MOST);
    assert_eq!(
        encodes(&|out| dirents.as_dirents().encode(out)),
        Ok(2 + Dirent64::FIXED_SIZE * MOST)
    );
}

#[test]
fn messages_are_found_by_name() {
    for message in messages() {
        let shouted = message.name.to_uppercase();
        for name in [message.name, &shouted, &message.name.to_lowercase()] {
            assert_eq!(Mid::from_name(name), Some(message.mid), "{name}");
        }
        assert_eq!(
            message.mid.message().map(|row| row.name),
            Some(message.name)
        );
    }
    for name in ["WALK_STAT", "walk-stat", "walk_STAT"] {
        assert_eq!(Mid::from_name(name), Some(Mid::WALK_STAT));
    }
    for name in ["", "_", "Walk ", "Wal", "Walks", "Error", "wàlk"] {
        assert_eq!(Mid::from_name(name), None, "{name}");
    }
    assert_eq!(messages().count(), 33);
}

#[test]
fn the_data_of_a_write_lies_inside_the_message() {
    let request = |num_bytes| PWriteReq {
        offset: 0,
        fd: FdId(1),
        num_bytes,
    };
    assert_eq!(request(0).data_range(20), Ok(20..20));
    assert_eq!(request(3).data_range(23), Ok(20..23));
    assert_eq!(request(3).data_range(24), Ok(20..23));
    for (num_bytes, message_len) in [(0, 19), (1, 20), (3, 22), (0, 0), (u32::MAX, 1 << 20)] {
        assert_eq!(request(num_bytes).data_range(message_len), Err(Malformed));
    }
    let huge = u32::MAX as usize + 20;
    assert_eq!(request(u32::MAX).data_range(huge), Ok(20..huge));
}

#[test]
fn data_begins_where_the_records_say() {
    let offset_in = |message: Vec<u8>| {
        let at = message.windows(4).position(|bytes| bytes == b"DATA");
        at.and_then(|at| u32::try_from(at).ok())
    };
    let write = Value::from_text(
        fields(Mid::PWRITE, Way::Request),
        &[("offset", b"0"), ("fd", b"0"), ("data", b"DATA")],
    );
    let write = encode(Mid::PWRITE, Way::Request, &write.expect("a write"));
    assert_eq!(offset_in(write), Some(PWriteReq::DATA_OFFSET));
    let mut read = Vec::new();
    let data = LongBytes(b"DATA");
    PReadResp { data }.encode(&mut read).expect("fits");
    assert_eq!(offset_in(read), Some(PReadResp::DATA_OFFSET));
}
