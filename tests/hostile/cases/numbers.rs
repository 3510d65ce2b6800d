//! Numbers at the ends of their ranges.

use std::borrow::Cow;

use lisafs::Errno;
use lisafs::wire::schema::{self, Kind, Value};
use lisafs::wire::{Array, CloseReq, Encode, FSyncReq, FdId, Mid, Request, messages};
use lisafs_conformance::{Caller, Stop, Verdict, ensure};

use super::sweep::{is_id, objects, plausible, request_with};
use crate::case::Case;
use crate::stage::Stage;

const POLICY: &[&str] = &["--host-uds", "all", "--host-fifo", "open"];

pub(super) const CASES: &[Case] = &[
    Case::new(
        "every_number_of_every_message_at_its_ends",
        &["A10", "A19", "A2-3", "A3-1"],
        ends,
    )
    .options(POLICY),
    Case::new("an_id_65535_times", &["A8"], repeated),
];

/// The numbers at which arithmetic goes wrong.
const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// `number` in the form of `kind`, if it is an integer that can hold it.
fn integer(kind: Kind, number: u64) -> Option<Value> {
    match kind {
        Kind::U8 => u8::try_from(number).ok().map(|_| Value::Unsigned(number)),
        Kind::U16 => u16::try_from(number).ok().map(|_| Value::Unsigned(number)),
        Kind::U32 => u32::try_from(number).ok().map(|_| Value::Unsigned(number)),
        Kind::U64 => Some(Value::Unsigned(number)),
        Kind::I32 => {
            let number = u32::try_from(number).ok()?.cast_signed();
            Some(Value::Signed(number.into()))
        }
        Kind::I64 => Some(Value::Signed(number.cast_signed())),
        _ => None,
    }
}

/// Sends the message and asks only that there is an answer, and that it does not speak of a bug.
fn ask(caller: &mut Caller, mid: Mid, body: &[u8], what: &str) -> Verdict {
    let answer = caller.raw(mid, body)?;
    ensure!(
        answer.errno() != Some(Errno::EREMOTEIO),
        "{mid} with {what}: a handler has panicked"
    );
    Ok(())
}

fn ends(stage: &mut Stage) -> Verdict {
    for over_channel in [false, true] {
        let mut client = stage.client()?;
        let root = client.root.control_fd;
        let ids = objects(&mut client, root)?;
        let mut channel = client.channel()?;
        let caller = if over_channel {
            &mut channel
        } else {
            &mut *client
        };
        for message in messages().filter(|message| message.mid != Mid::CHANNEL) {
            for &id in &ids {
                // A closed one answers nothing but EBADF.
                if message.mid == CloseReq::MID {
                    continue;
                }
                for field in message.request {
                    for number in EXTREMES {
                        let members: Vec<Value> = match field.kind {
                            Kind::Record(members) => members
                                .iter()
                                .filter_map(|member| {
                                    let extreme = integer(member.kind, number)?;
                                    let other = |other: &schema::Field| {
                                        let same = other.name == member.name;
                                        let value = if same {
                                            extreme.clone()
                                        } else {
                                            plausible(other, id)
                                        };
                                        (Cow::Borrowed(other.name), value)
                                    };
                                    Some(Value::Record(members.iter().map(other).collect()))
                                })
                                .collect(),
                            kind => integer(kind, number).into_iter().collect(),
                        };
                        for value in members {
                            let what = format!("{} = {number:#x}", field.name);
                            let body = request_with(message, id, Some((field.name, value)))?;
                            ask(caller, message.mid, &body, &what)?;
                            stage.count_tries(1);
                        }
                    }
                    if is_id(field) {
                        ask(
                            caller,
                            message.mid,
                            &request_with(message, id, None)?,
                            "all well",
                        )?;
                    }
                }
            }
        }
        drop(channel);
        clear(&mut client, root)?;
    }
    Ok(())
}

/// Removes what the requests have made.
fn clear(caller: &mut Caller, root: FdId) -> Verdict {
    let dir = caller.find(root, b"objects")?.control_fd;
    for name in caller.names(dir)? {
        if caller.unlink(dir, &name).is_err() {
            caller.rmdir(dir, &name)?;
        }
    }
    Ok(caller.rmdir(root, b"objects")?)
}

/// One id many times is little work, and is closed once.
fn repeated(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let created = client.create(root, b"file", libc::O_RDWR.cast_unsigned())?;
    let many = vec![created.open; 65_535];
    let fds = Array::new(&many);
    let mut bytes = Vec::new();
    FSyncReq { fds }.encode(&mut bytes)?;
    for _ in 0..3 {
        let answer = client.raw(FSyncReq::MID, &bytes)?;
        ensure!(answer.errno().is_none(), "{:?}", answer.errno());
        client.stat(root)?;
    }
    client.close(&many)?;
    client.close(&many)?;
    match client.stat(created.open) {
        Err(error) if error.errno() == Errno::EBADF => Ok(()),
        other => Err(Stop::failed(format_args!("{other:?} after Close"))),
    }
}
