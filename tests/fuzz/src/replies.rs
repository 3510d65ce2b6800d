//! What a reply has to look like, whatever was asked.

use lisafs::wire::schema::decode;
use lisafs::wire::{Decode, ErrorResp, Mid, Reader};

/// The highest number that the kernel takes for an errno.
const MAX_ERRNO: u32 = 4095;

/// Judges the reply `got` with `payload` to the request `asked`, and returns whether it is a success.
///
/// # Panics
/// If it is neither an error with an errno, nor the whole reply that belongs to the request and
/// nothing more.
pub fn judge(asked: Mid, got: Mid, payload: &[u8]) -> bool {
    let mut reader = Reader::new(payload);
    if got == Mid::ERROR {
        let error = ErrorResp::decode(&mut reader).expect("an error reply is cut short");
        assert!(
            (1..=MAX_ERRNO).contains(&error.errno),
            "{asked}: {} is no errno",
            error.errno
        );
    } else {
        assert_eq!(got, asked, "the reply belongs to another request");
        let message = asked.message().expect("what is answered has a row");
        let decoded = decode(message.reply, &mut reader);
        assert!(decoded.is_ok(), "{asked}: the reply is cut short");
    }
    assert!(reader.rest().is_empty(), "{asked}: bytes behind the reply");
    got != Mid::ERROR
}
