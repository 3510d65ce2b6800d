//! stdout and stderr.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::mem;
use std::os::unix::ffi::OsStrExt;

use crate::failure::{Stop, Why};
use crate::json::Object;
use crate::text;

/// Where results and messages go.
pub(crate) struct Console {
    out: BufWriter<Stdout>,
    json: bool,
    escapes: bool,
    complained: bool,
}

impl Console {
    pub(crate) fn new(json: bool) -> Console {
        let out = io::stdout();
        Console {
            escapes: out.is_terminal(),
            out: BufWriter::with_capacity(64 << 10, out),
            json,
            complained: false,
        }
    }

    /// Whether results are for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether any file was not dealt with.
    pub(crate) fn has_complained(&self) -> bool {
        self.complained
    }

    /// Whether any file was not dealt with since this was asked last.
    pub(crate) fn take_complaint(&mut self) -> bool {
        mem::take(&mut self.complained)
    }

    /// Has the answer be no. Why, is among the results.
    pub(crate) fn say_no(&mut self) {
        self.complained = true;
    }

    /// Where results go that are no text.
    pub(crate) fn out(&mut self) -> &mut impl Write {
        &mut self.out
    }

    /// Prints the beginning of a line.
    pub(crate) fn out_text(&mut self, text: &str) -> Result<(), Stop> {
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Stop> {
        Ok(writeln!(self.out, "{line}")?)
    }

    /// Prints a line that ends in bytes of the server.
    pub(crate) fn line_with(&mut self, text: &str, name: &OsStr) -> Result<(), Stop> {
        self.out.write_all(text.as_bytes())?;
        self.name(name)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Prints bytes of the server, as it is safe where they go.
    pub(crate) fn name(&mut self, name: &OsStr) -> Result<(), Stop> {
        if self.escapes {
            write!(self.out, "{}", text::escaped(name))?;
        } else {
            self.out.write_all(name.as_bytes())?;
        }
        Ok(())
    }

    /// Prints what is no line of text.
    pub(crate) fn data(&mut self, data: &[u8]) -> Result<(), Stop> {
        Ok(self.out.write_all(data)?)
    }

    /// Prints bytes of the server that are results by themselves: as they are, but on a terminal as it
    /// is safe there, and as a line.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if self.escapes {
            return self.line_with("", OsStr::from_bytes(bytes));
        }
        self.data(bytes)
    }

    /// Prints an object on a line.
    pub(crate) fn object(&mut self, object: Object) -> Result<(), Stop> {
        Ok(writeln!(self.out, "{object}")?)
    }

    /// Says that there is something about `path`. Ends the work if there is no server any more.
    pub(crate) fn complain(
        &mut self,
        path: impl AsRef<OsStr>,
        why: impl Into<Why>,
    ) -> Result<(), Stop> {
        let why = why.into();
        let path = path.as_ref();
        if why.is_final() {
            return Err(Stop::Trouble(format!("{}: {why}", text::escaped(path))));
        }
        // In the order that things happened in, if both go to the same place.
        self.flush()?;
        // The exit status says so as well, if nobody reads this.
        let _ = writeln!(io::stderr(), "lisafs: {}: {why}", text::escaped(path));
        self.complained = true;
        Ok(())
    }

    /// Says how something goes that takes its time.
    pub(crate) fn note(&self, message: &str) {
        // It goes on if nobody reads this.
        let _ = writeln!(io::stderr(), "lisafs: {message}");
    }

    /// Complains if `result` is an error; the value otherwise.
    pub(crate) fn or_complain<T>(
        &mut self,
        path: impl AsRef<OsStr>,
        result: Result<T, impl Into<Why>>,
    ) -> Result<Option<T>, Stop> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(why) => self.complain(path, why).map(|()| None),
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        Ok(self.out.flush()?)
    }
}
