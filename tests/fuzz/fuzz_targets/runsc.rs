//! What `runsc` says to its gofer: the command line, and the specification of the container.
//!
//! The input is words, each ended by a newline, and behind an empty one the specification. Nothing
//! panics; descriptors have one owner each; and what is planned serves as many sockets as there are.
#![no_main]
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;
use lisafs_gofer::fuzzing;

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    let mut words = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (word, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        if word.is_empty() {
            break;
        }
        words.push(OsString::from_vec(word.to_vec()));
    }
    fuzzing::argv(words.clone());
    for sockets in 0..4 {
        fuzzing::spec(rest, words.clone(), sockets);
    }
});
