//! ^C: the end comes soon, and what was made is removed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use nix::sys::signal::Signal;

/// Raised by the first SIGINT, SIGTERM or SIGHUP that is not ignored. Call it before there are other threads, which
/// would get the signals otherwise.
pub(crate) fn watch() -> io::Result<Arc<AtomicBool>> {
    let signals = lisafs_gofer::heeded([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
    signals.thread_block()?;
    let raised = Arc::new(AtomicBool::new(false));
    let raise = Arc::clone(&raised);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.wait().is_ok() {
                raise.store(true, Relaxed);
                // Whoever asks twice does not want to wait.
                let _ = signals.thread_unblock();
                loop {
                    thread::park();
                }
            }
        })?;
    Ok(raised)
}
