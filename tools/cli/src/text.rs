//! Bytes of the server, for people.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// Shows bytes without control characters: those, and what is not UTF-8, as `\xff`, and a
/// backslash as two.
pub(crate) fn escaped(name: &OsStr) -> Escaped<'_> {
    Escaped(name.as_bytes())
}

pub(crate) struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; 4];
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    _ if character.is_control() => {
                        hex(f, character.encode_utf8(&mut buffer).as_bytes())?;
                    }
                    _ => fmt::Write::write_char(f, character)?,
                }
            }
            hex(f, chunk.invalid())?;
        }
        Ok(())
    }
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        escaped(OsStr::from_bytes(bytes)).to_string()
    }

    #[test]
    fn what_a_terminal_would_obey_or_garble_is_escaped() {
        assert_eq!(shown("größe 1".as_bytes()), "größe 1");
        assert_eq!(shown(b"\x1b[2J\n"), "\\x1b[2J\\x0a");
        assert_eq!(shown(b"a\xffb\xc3"), "a\\xffb\\xc3");
        assert_eq!(shown(b"a\\xff"), "a\\\\xff");
        // U+009B is what ESC [ is.
        assert_eq!(shown("\u{9b}2J".as_bytes()), "\\xc2\\x9b2J");
    }
}
