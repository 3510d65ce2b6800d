//! The signals that end a program, held back so that something can be done before.

use std::sync::{Arc, OnceLock};
use std::thread;

use nix::sys::signal::{SigSet, Signal, raise};

use crate::failure::Stop;

/// Keeps the signals from this thread and those that it starts from here on, and returns them.
///
/// To be called before there are other threads, which would get them otherwise.
pub(crate) fn hold_back() -> Result<SigSet, Stop> {
    let signals = lisafs_gofer::heeded([Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM])
        .map_err(no_signals)?;
    signals.thread_block().map_err(no_signals)?;
    Ok(signals)
}

pub(crate) fn no_signals(why: impl std::fmt::Display) -> Stop {
    Stop::Trouble(format!("cannot take over the signals: {why}"))
}

/// Says whether a signal wants this program to end, for work that is best left between two steps.
#[derive(Debug)]
pub(crate) struct Interrupt {
    signals: SigSet,
    first: Arc<OnceLock<Signal>>,
}

impl Interrupt {
    /// Holds the first signal back. The next one ends this program at once.
    ///
    /// To be called as [`hold_back`] is.
    pub(crate) fn watch() -> Result<Interrupt, Stop> {
        let signals = hold_back()?;
        let first = Arc::new(OnceLock::new());
        let interrupt = Interrupt {
            signals,
            first: Arc::clone(&first),
        };
        let wait = move || {
            let Ok(signal) = signals.wait() else { return };
            let _ = first.set(signal);
            // The next one needs a thread that it can come to.
            let _ = signals.thread_unblock();
            loop {
                thread::park();
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(wait).map_err(no_signals)?;
        Ok(interrupt)
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        self.first.get().is_some()
    }

    /// Ends this program as the signal would have done. Does nothing if none came.
    pub(crate) fn heed(&self) {
        if let Some(signal) = self.first.get() {
            // It stays alive if that fails, and ends a little later.
            let _ = self.signals.thread_unblock();
            let _ = raise(*signal);
        }
    }
}
