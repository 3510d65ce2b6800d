//! What a transfer came to, and how far it is.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use crate::console::Console;
use crate::failure::Stop;
use crate::json::Object;

/// Counts what is transferred, and shows it on a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
}

impl Progress {
    /// `size` is how many bytes there will be, if that is known.
    pub(crate) fn new(size: Option<u64>) -> Progress {
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        let template = match size {
            Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta}",
            None => "{spinner} {msg}{bytes}, {bytes_per_sec}",
        };
        if let Some(size) = size {
            bar.set_length(size);
        }
        // The templates are known to be good, and the default would do.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress {
            bar,
            files: 0,
            directories: 0,
            others: 0,
            bytes: 0,
        }
    }

    pub(crate) fn add_bytes(&mut self, count: u64) {
        self.bytes += count;
        self.bar.inc(count);
    }

    pub(crate) fn add_file(&mut self) {
        self.files += 1;
        if !self.bar.is_hidden() && self.bar.length().is_none() {
            self.bar.set_message(format!("{} files, ", self.files));
        }
    }

    pub(crate) fn add_directory(&mut self) {
        self.directories += 1;
    }

    pub(crate) fn add_other(&mut self) {
        self.others += 1;
    }

    /// Runs `talk` with the line out of the way.
    pub(crate) fn suspend<T>(&self, talk: impl FnOnce() -> T) -> T {
        self.bar.suspend(talk)
    }

    /// Takes the line away, and says what it came to if a program asks.
    pub(crate) fn finish(self, console: &mut Console) -> Result<(), Stop> {
        self.bar.finish_and_clear();
        if !console.is_json() {
            return Ok(());
        }
        let object = Object::new()
            .set("files", self.files)
            .set("directories", self.directories)
            .set("others", self.others)
            .set("bytes", self.bytes);
        console.object(object)
    }
}
