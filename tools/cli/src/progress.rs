//! What a transfer came to, and how far it is.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

use crate::console::Console;
use crate::failure::Stop;
use crate::json::Object;

/// Counts to `most` on a terminal, with a message.
pub(crate) fn counter(most: u64) -> ProgressBar {
    let bar = on_terminal();
    bar.set_length(most);
    style(&bar, "{wide_bar} {pos} of {len}, {eta}: {msg}");
    bar
}

/// Shows how much there will be, now that this is known.
pub(crate) fn announce(bar: &ProgressBar, total: u64) {
    bar.set_length(total);
    style(bar, KNOWN);
}

/// What is shown when the size is known, and when it is not.
const KNOWN: &str = "{wide_bar} {msg}{bytes} of {total_bytes}, {bytes_per_sec}, {eta}";
const UNKNOWN: &str = "{spinner} {msg}{bytes}, {bytes_per_sec}";

/// A line on stderr, if that is a terminal.
fn on_terminal() -> ProgressBar {
    if io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    }
}

fn style(bar: &ProgressBar, template: &str) {
    // The templates are known to be good, and the default would do.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// Counts what is transferred, and shows it on a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Whether there is no more than one file, which need not be counted for anybody.
    single: bool,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
}

impl Progress {
    /// `size` is how many bytes there will be, if that is known.
    pub(crate) fn new(size: Option<u64>) -> Progress {
        let bar = on_terminal();
        match size {
            Some(size) => announce(&bar, size),
            None => style(&bar, UNKNOWN),
        }
        Progress {
            bar,
            single: size.is_some(),
            files: 0,
            directories: 0,
            others: 0,
            bytes: 0,
        }
    }

    /// The line, if there is one to be seen.
    pub(crate) fn bar(&self) -> Option<ProgressBar> {
        (!self.bar.is_hidden()).then(|| self.bar.clone())
    }

    pub(crate) fn add_bytes(&mut self, count: u64) {
        self.bytes += count;
        self.bar.inc(count);
    }

    pub(crate) fn add_file(&mut self) {
        self.files += 1;
        if !self.bar.is_hidden() && !self.single {
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
