//! What a reply has to look like, whatever was asked.

use lisafs::wire::schema::{Value, decode};
use lisafs::wire::{Decode, ErrorResp, Mid, Reader};

/// The highest number that the kernel takes for an errno.
const MAX_ERRNO: u32 = 4095;

/// Judges the reply `got` with `payload` to the request `asked`, and returns what a successful one
/// says.
///
/// # Panics
/// If it is neither an error with an errno, nor the whole reply that belongs to the request and
/// nothing more.
pub fn judge(asked: Mid, got: Mid, payload: &[u8]) -> Option<Value> {
    let mut reader = Reader::new(payload);
    let said = if got == Mid::ERROR {
        let error = ErrorResp::decode(&mut reader).expect("an error reply is cut short");
        assert!(
            (1..=MAX_ERRNO).contains(&error.errno),
            "{asked}: {} is no errno",
            error.errno
        );
        None
    } else {
        assert_eq!(got, asked, "the reply belongs to another request");
        let message = asked.message().expect("what is answered has a row");
        let said = decode(message.reply, &mut reader);
        Some(said.unwrap_or_else(|_| panic!("{asked}: the reply is cut short")))
    };
    assert!(reader.rest().is_empty(), "{asked}: bytes behind the reply");
    said
}
