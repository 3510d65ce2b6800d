//! Watching requests as they are answered, on either side.
//!
//! An [`Observer`] hands a [`Watch`] to each thread that serves, and to each communicator of a client.
//! Where there is none, a request pays one branch for it. [`Tracer`] is an observer that writes a
//! line for each request. [`Occurrences`] is for what a peer could fill a log with.
#![forbid(unsafe_code)]

mod line;
mod occurrences;
mod queue;
mod trace;

use core::fmt;
use std::sync::Arc;

use flipcall::SharedBytes;

pub use line::Line;
pub use occurrences::Occurrences;
#[cfg(feature = "server")]
pub(crate) use occurrences::rarely;
pub use queue::{Queue, Sink};
pub use trace::Tracer;

use crate::Errno;
use crate::wire::Mid;

/// Wants to see requests.
///
/// An observer that counts the requests of a client which were refused:
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// use lisafs::client::ClientOptions;
/// use lisafs::observe::{Exchange, Observer, Via, Watch};
/// use lisafs::wire::Mid;
///
/// #[derive(Clone, Debug, Default)]
/// struct Refused(Arc<AtomicU64>);
///
/// impl Observer for Refused {
///     fn watch(&self, _: Via) -> Box<dyn Watch> {
///         Box::new(self.clone())
///     }
/// }
///
/// impl Watch for Refused {
///     fn begin(&mut self, _: Mid) {}
///
///     fn end(&mut self, exchange: &Exchange<'_>) {
///         if exchange.outcome.is_err() {
///             self.0.fetch_add(1, Relaxed);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let served = lisafs_served::directory()?;
/// # let stream = served.connect()?;
/// let refused = Refused::default();
/// let client = ClientOptions::new()
///     .observer(Arc::new(refused.clone()))
///     .from_stream(stream)?;
/// client.create_dir("a")?;
/// assert!(client.create_dir("a").is_err());
/// assert_eq!(refused.0.load(Relaxed), 1);
/// # Ok(())
/// # }
/// ```
pub trait Observer: fmt::Debug + Send + Sync {
    /// Called when a thread begins to serve a client, or a client begins to use a communicator.
    /// What it returns sees all that happens there, and is dropped at the end.
    fn watch(&self, via: Via) -> Box<dyn Watch>;
}

/// Sees the requests of one communicator, one after the other.
///
/// What it does, the client waits for.
///
/// Which messages a client has sent:
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use lisafs::client::ClientOptions;
/// use lisafs::observe::{Exchange, Observer, Via, Watch};
/// use lisafs::wire::Mid;
///
/// #[derive(Clone, Debug, Default)]
/// struct Sent(Arc<Mutex<Vec<Mid>>>);
///
/// impl Observer for Sent {
///     fn watch(&self, _: Via) -> Box<dyn Watch> {
///         Box::new(self.clone())
///     }
/// }
///
/// impl Watch for Sent {
///     fn begin(&mut self, mid: Mid) {
///         self.0.lock().unwrap().push(mid);
///     }
///
///     fn end(&mut self, _: &Exchange<'_>) {}
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let served = lisafs_served::directory()?;
/// # let stream = served.connect()?;
/// let sent = Sent::default();
/// let client = ClientOptions::new().observer(Arc::new(sent.clone())).from_stream(stream)?;
/// client.create_dir("a")?;
/// assert!(sent.0.lock().unwrap().contains(&Mid::MKDIR_AT));
/// # Ok(())
/// # }
/// ```
pub trait Watch: fmt::Debug + Send {
    /// A request has come (on a server), or is about to leave (on a client).
    fn begin(&mut self, mid: Mid);

    /// The reply is written, but not sent (on a server), or has come (on a client).
    fn end(&mut self, exchange: &Exchange<'_>);
}

/// Which way a request took.
///
/// ```
/// use lisafs::observe::Via;
///
/// assert_eq!(Via::Channel(1, 0).to_string(), "channel 1.0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// The socket of the connection with this number, counted from 1.
    Socket(u64),
    /// A channel: the number of its connection, and its own, counted from 0.
    Channel(u64, u64),
}

/// `socket 1`, `channel 1.0`: what the threads of a server are called.
impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Via::Socket(connection) => write!(f, "socket {connection}"),
            Via::Channel(connection, number) => write!(f, "channel {connection}.{number}"),
        }
    }
}

/// A request and what became of it.
///
/// ```
/// use lisafs::observe::Exchange;
/// use lisafs::wire::describe;
///
/// /// What came of a request, for a log.
/// fn line(exchange: &Exchange<'_>) -> String {
///     let request = describe::request(exchange.mid, exchange.request, exchange.request_len);
///     match exchange.outcome {
///         Ok(()) => format!("{}({request}), {} descriptors", exchange.mid, exchange.descriptors),
///         Err(errno) => format!("{}({request}): {errno}", exchange.mid),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Exchange<'x> {
    /// The message.
    pub mid: Mid,
    /// The start of the request's payload, in private memory: at least
    /// [`PREFIX`](crate::wire::describe::PREFIX) bytes, if there are so many, without the data of
    /// a PWrite.
    pub request: &'x [u8],
    /// The length of the request's payload in bytes.
    pub request_len: usize,
    /// The payload of the reply. The peer may be changing it.
    pub reply: SharedBytes<'x>,
    /// The error, if there was one; the payload says nothing else then.
    pub outcome: Result<(), Errno>,
    /// How many descriptors come with the reply.
    pub descriptors: usize,
}

/// Several observers as one.
impl Observer for Vec<Arc<dyn Observer>> {
    fn watch(&self, via: Via) -> Box<dyn Watch> {
        Box::new(Watches(
            self.iter().map(|observer| observer.watch(via)).collect(),
        ))
    }
}

#[derive(Debug)]
struct Watches(Vec<Box<dyn Watch>>);

impl Watch for Watches {
    fn begin(&mut self, mid: Mid) {
        self.0.iter_mut().for_each(|watch| watch.begin(mid));
    }

    fn end(&mut self, exchange: &Exchange<'_>) {
        self.0.iter_mut().for_each(|watch| watch.end(exchange));
    }
}
