//! What is said when something panics, and what becomes of it.
#![forbid(unsafe_code)]

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use lisafs::observe::Occurrences;
use tracing::error;

use crate::failure::Failure;

/// Has panics logged, the first and every one whose number is a power of two.
///
/// By default each is written to stderr: a client that finds one could fill a disk with them.
pub(crate) fn log() {
    let panics = Occurrences::new();
    panic::set_hook(Box::new(move |what| {
        let Some(count) = panics.happened() else {
            return;
        };
        // In quotes, as it may hold what a client has sent.
        let message = what.payload_as_str().unwrap_or("no message");
        match what.location() {
            Some(at) => error!(count, %at, ?message, "this is a bug, please report it"),
            None => error!(count, ?message, "this is a bug, please report it"),
        }
    }));
}

/// Does `work`, after whose panic nothing is used any more that it has used.
///
/// # Errors
/// [`Failure::Bug`] if it has panicked.
pub(crate) fn caught<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Failure::Bug {
        message: message(payload.as_ref()).escape_debug().to_string(),
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::panic::catch_unwind;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn many_panics_are_few_lines_that_say_where() {
        let lines = Log::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();
        let before = panic::take_hook();
        log();
        tracing::subscriber::with_default(subscriber, || {
            for number in 1..=100 {
                catch_unwind(|| panic!("number {number}\nand more")).unwrap_err();
            }
        });
        panic::set_hook(before);
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let numbers: Vec<u32> = lines
            .lines()
            .map(|line| {
                assert!(line.contains("panics.rs:"), "{line}");
                let (_, number) = line.split_once("number ").unwrap();
                number.split_once('\\').unwrap().0.parse().unwrap()
            })
            .collect();
        assert_eq!(numbers, [1, 2, 4, 8, 16, 32, 64]);
    }
}
