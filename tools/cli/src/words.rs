//! The words of a line.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A quote that does not end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no second {0}")]
pub(crate) struct Unfinished(char);

/// The words of a line that may end anywhere, and where the last one begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Those that are complete.
    pub(crate) words: Vec<OsString>,
    /// The one that the line ends in; empty behind a blank.
    pub(crate) last: OsString,
    /// Where that begins.
    pub(crate) start: usize,
    /// Whether the line ends in a comment, where there are no words.
    pub(crate) comment: bool,
    quote: Option<u8>,
    in_word: bool,
}

/// Takes a line apart.
pub(crate) fn split(line: &[u8]) -> Result<Vec<OsString>, Unfinished> {
    let mut begun = begun(line);
    if let Some(quote) = begun.quote {
        return Err(Unfinished(quote.into()));
    }
    if begun.in_word {
        begun.words.push(begun.last);
    }
    Ok(begun.words)
}

/// Takes the beginning of a line apart.
pub(crate) fn begun(line: &[u8]) -> Begun {
    let mut begun = Begun::default();
    let mut word = Vec::new();
    let mut rest = line;
    while let [byte, after @ ..] = rest {
        let at = line.len() - rest.len();
        rest = after;
        if !begun.in_word {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'#' => {
                    begun.comment = true;
                    break;
                }
                _ => {
                    begun.in_word = true;
                    begun.start = at;
                }
            }
        }
        match (begun.quote, byte) {
            (Some(quote), byte) if quote == *byte => begun.quote = None,
            (Some(b'\''), byte) => word.push(*byte),
            (_, b'\\') => {
                let (escaped, after) = escape(rest);
                word.extend(escaped);
                rest = after;
            }
            (Some(_), byte) => word.push(*byte),
            (None, b'\'' | b'"') => begun.quote = Some(*byte),
            (None, b' ' | b'\t' | b'\r' | b'\n') => {
                begun
                    .words
                    .push(OsString::from_vec(std::mem::take(&mut word)));
                begun.in_word = false;
            }
            (None, byte) => word.push(*byte),
        }
    }
    if !begun.in_word {
        begun.start = line.len();
    }
    begun.last = OsString::from_vec(word);
    begun
}

/// What a backslash before `rest` stands for, and what comes behind.
fn escape(rest: &[u8]) -> (Option<u8>, &[u8]) {
    if let [b'x', high, low, after @ ..] = rest {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        if let (Some(high), Some(low)) = (digit(high), digit(low)) {
            return (u8::try_from(high << 4 | low).ok(), after);
        }
    }
    match rest {
        [byte, after @ ..] => (Some(*byte), after),
        [] => (None, rest),
    }
}

/// A word as it can be typed.
pub(crate) fn quoted(word: &OsStr) -> String {
    let mut text = String::new();
    for chunk in word.as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                ' ' | '\\' | '\'' | '"' | '#' => text.extend(['\\', character]),
                character if character.is_control() => {
                    let mut buffer = [0; 4];
                    hex(&mut text, character.encode_utf8(&mut buffer).as_bytes());
                }
                character => text.push(character),
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

fn hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::escaped;

    #[test]
    fn lines_are_taken_apart_as_a_shell_does() {
        for (line, words) in [
            ("", ""),
            ("  # nothing", ""),
            ("ls  -l\tx\r\n", "<ls><-l><x>"),
            ("'a b' \"c d\" e\\ f", "<a b><c d><e f>"),
            ("a'b'\"c\"d", "<abcd>"),
            ("'' \"\"", "<><>"),
            ("'\\x41' \"\\x41\\\"\" \\x41", "<\\\\x41><A\"><A>"),
            ("\\xff\\\\ \\xfg", "<\\xff\\\\><xfg>"),
            ("a#b #c", "<a#b>"),
            ("größe", "<größe>"),
        ] {
            let split = split(line.as_bytes()).unwrap();
            let shown = split.iter().map(|word| format!("<{}>", escaped(word)));
            assert_eq!(shown.collect::<String>(), words, "{line}");
        }
        assert_eq!(split(b"a 'b"), Err(Unfinished('\'')));
        assert_eq!(split(b"a \"b\\\""), Err(Unfinished('"')));
    }

    #[test]
    fn what_is_quoted_is_one_word_again() {
        for word in [
            &b"plain"[..],
            b"a b\\c'd\"e#f",
            b"#",
            b"\x1b[2J\n\xff",
            "gr\u{f6}\u{df}e \u{9b}".as_bytes(),
        ] {
            let quoted = quoted(OsStr::from_bytes(word));
            assert!(!quoted.contains(char::is_control), "{quoted}");
            let again = split(quoted.as_bytes()).unwrap();
            assert_eq!(again, [OsStr::from_bytes(word)], "{quoted}");
        }
    }

    #[test]
    fn the_last_word_has_a_beginning() {
        let begun = |line: &str| {
            let begun = begun(line.as_bytes());
            (begun.words.len(), begun.last, begun.start)
        };
        assert_eq!(begun("ls a\\ b"), (1, "a b".into(), 3));
        assert_eq!(begun("ls \"a b"), (1, "a b".into(), 3));
        assert_eq!(begun("ls "), (1, "".into(), 3));
        assert_eq!(begun(""), (0, "".into(), 0));
        assert_eq!(begun("ls a\\"), (1, "a".into(), 3));
    }
}
