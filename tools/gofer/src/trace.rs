//! `--trace`: a line for each request.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use lisafs::observe::{Observer, Queue, Tracer};
use tracing::info;

use crate::failure::{Failure, cannot};

/// How long the end of the process waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// A trace of all requests. What is left of it is written when it is dropped.
#[derive(Debug)]
pub(crate) struct Trace {
    queue: Arc<Queue>,
}

impl Trace {
    /// Writes the lines on stderr, as they are.
    pub(crate) fn to_stderr() -> Result<Trace, Failure> {
        // What cannot be written is lost: no request waits for whoever reads this.
        Trace::start(|lines| drop(io::stderr().write_all(lines.as_bytes())))
    }

    /// Writes the lines into the log, in its own format.
    pub(crate) fn to_log() -> Result<Trace, Failure> {
        Trace::start(|lines| lines.lines().for_each(|line| info!("{line}")))
    }

    fn start(write: impl FnMut(&str) + Send + 'static) -> Result<Trace, Failure> {
        let queue = Queue::start(write).map_err(cannot("cannot start the trace"))?;
        Ok(Trace {
            queue: Arc::new(queue),
        })
    }

    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        let queue = Arc::clone(&self.queue);
        Arc::new(Tracer::new(queue))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.queue.flush(PATIENCE);
    }
}
