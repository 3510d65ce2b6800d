//! The typed codec of every message, picked by number at run time.

use lisafs::for_each_message;
use lisafs::wire::*;

/// The two ways of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Request,
    Reply,
}

/// A message that was decoded as its type and encoded again.
#[derive(Debug)]
pub(crate) struct Recoded {
    pub(crate) bytes: Vec<u8>,
    /// The decoded message as `Debug` prints it, which walks all arrays.
    pub(crate) debug: String,
}

fn recode<'a, T: Decode<'a> + Encode + std::fmt::Debug>(
    bytes: &'a [u8],
) -> Result<(T, Recoded), Malformed> {
    let mut from = Reader::new(bytes);
    let message = T::decode(&mut from)?;
    let read = bytes.len() - from.rest().len();
    let mut again = Vec::new();
    message.encode(&mut again).expect("what was decoded fits");
    assert_eq!(
        again.len(),
        read,
        "{message:?} is read in the length that it is written in"
    );
    let debug = format!("{message:?}");
    Ok((
        message,
        Recoded {
            bytes: again,
            debug,
        },
    ))
}

macro_rules! define {
    (
        <$q:lifetime $r:lifetime>
        $($number:literal $const:ident $name:literal ($request:ty) ($reply:ty) $access:ident $fds:literal;)*
    ) => {
        fn recode_request<$q>(mid: Mid, bytes: &$q [u8]) -> Result<Recoded, Malformed> {
            // The one message whose record is not all of it.
            if mid == Mid::PWRITE {
                let (request, mut recoded) = recode::<PWriteReq>(bytes)?;
                let data = request.data_range(bytes.len())?;
                recoded.bytes.extend_from_slice(&bytes[data]);
                return Ok(recoded);
            }
            match mid {
                $(Mid::$const => Ok(recode::<$request>(bytes)?.1),)*
                _ => panic!("{mid} is no message"),
            }
        }

        fn recode_reply<$r>(mid: Mid, bytes: &$r [u8]) -> Result<Recoded, Malformed> {
            match mid {
                Mid::ERROR => Ok(recode::<ErrorResp>(bytes)?.1),
                $(Mid::$const => Ok(recode::<$reply>(bytes)?.1),)*
                _ => panic!("{mid} is no message"),
            }
        }
    };
}

for_each_message!(define);

/// Decodes `bytes` as the type that the table names, and encodes what that gave.
pub(crate) fn recode_message(mid: Mid, way: Way, bytes: &[u8]) -> Result<Recoded, Malformed> {
    match way {
        Way::Request => recode_request(mid, bytes),
        Way::Reply => recode_reply(mid, bytes),
    }
}

/// The schema of a message.
pub(crate) fn fields(mid: Mid, way: Way) -> &'static [schema::Field] {
    match (mid.message(), way) {
        (Some(message), Way::Request) => message.request,
        (Some(message), Way::Reply) => message.reply,
        (None, Way::Reply) if mid == Mid::ERROR => <ErrorResp as schema::Record>::FIELDS,
        (None, _) => panic!("{mid} is no message"),
    }
}
