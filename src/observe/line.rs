//! A line of a trace, whose length no peer decides.

use core::fmt::{self, Write};

/// A line of text of at most [`SIZE`](Line::SIZE) bytes, in place.
///
/// A sink that keeps the last line:
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use lisafs::client::ClientOptions;
/// use lisafs::observe::{Line, Sink, Tracer};
///
/// #[derive(Debug, Default)]
/// struct Last(Mutex<Option<Line>>);
///
/// impl Sink for Last {
///     fn line(&self, line: &Line) {
///         *self.0.lock().unwrap() = Some(line.clone());
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let served = lisafs_served::directory()?;
/// # let stream = served.connect()?;
/// let last = Arc::new(Last::default());
/// let client = ClientOptions::new()
///     .observer(Arc::new(Tracer::new(last.clone())))
///     .from_stream(stream)?;
/// client.create_dir("a")?;
/// let line = last.0.lock().unwrap().take().ok_or("no line")?;
/// assert!(line.as_str().ends_with(">\n"));
/// assert!(line.as_str().len() <= Line::SIZE);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Line {
    bytes: [u8; Line::SIZE],
    len: usize,
}

impl Line {
    /// The most that a line has, in bytes, its end included.
    pub const SIZE: usize = 512;

    pub(super) fn new() -> Line {
        Line {
            bytes: [0; Line::SIZE],
            len: 0,
        }
    }

    /// Appends what fits below `limit` bytes, and `...` if that is not all.
    pub(super) fn push(&mut self, limit: usize, text: fmt::Arguments<'_>) {
        const MORE: &str = "...";
        let limit = limit.min(Line::SIZE);
        let mut room = Room {
            limit: limit.saturating_sub(MORE.len()),
            line: self,
        };
        if room.write_fmt(text).is_err() {
            room.limit = limit;
            // There is room for it.
            let _ = room.write_str(MORE);
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.len).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A line up to a limit. What does not fit is cut off at the end of a character.
struct Room<'l> {
    line: &'l mut Line,
    limit: usize,
}

impl Write for Room<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let line = &mut *self.line;
        let room = self.limit.saturating_sub(line.len);
        let fitting = text.floor_char_boundary(room);
        let (fits, rest) = text.split_at_checked(fitting).ok_or(fmt::Error)?;
        let end = line.len + fits.len();
        let place = line.bytes.get_mut(line.len..end).ok_or(fmt::Error)?;
        place.copy_from_slice(fits.as_bytes());
        line.len = end;
        if rest.is_empty() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_off_and_the_rest_follows() {
        let mut line = Line::new();
        line.push(10, format_args!("{}", "0123456789"));
        assert_eq!(line.as_str(), "0123456...");
        line.push(Line::SIZE, format_args!(" = {}", 5));
        assert_eq!(line.as_str(), "0123456... = 5");
        line.push(Line::SIZE, format_args!("{}", "ä".repeat(Line::SIZE)));
        assert!(line.as_str().ends_with("ä..."));
        assert!(line.as_str().len() <= Line::SIZE);
        let full = line.as_str().len();
        line.push(Line::SIZE, format_args!("more"));
        assert!(line.as_str().len() <= full + 4);
    }

    #[test]
    fn what_fits_is_not_cut_off() {
        let mut line = Line::new();
        line.push(Line::SIZE, format_args!("{} <{:.6}>", "a", 0.5));
        assert_eq!(line.as_str(), "a <0.500000>");
    }
}
