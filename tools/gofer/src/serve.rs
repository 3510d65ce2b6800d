//! Accepting clients, serving them, and the end of it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lisafs::host::HostFs;
use lisafs::observe::Observer;
use lisafs::server::{ConnectionOpts, Server};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tracing::{info, warn};

use crate::args::{Sandbox, ServeOptions};
use crate::failure::{Failure, cannot};
use crate::listener::Listener;
use crate::metrics::{Exporter, Exposition, Metrics};
use crate::signals::{Event, Signals};
use crate::trace::Trace;
use crate::{inherited, process};

/// How long requests that are running get when the process is told to end.
const DRAIN: Duration = Duration::from_secs(10);

/// How long to leave a connection waiting that there are no resources for, in milliseconds.
const PAUSE: u16 = 100;

/// Serves until the client is done or a signal comes. Returns whether no request was abandoned.
pub(crate) fn run(options: &ServeOptions) -> Result<bool, Failure> {
    // Before anything is opened: that could be given the number.
    let client = options
        .fd
        .map(|number| inherited::take(number).map_err(|why| Failure::Fd { number, why }))
        .transpose()?;
    let passed = match (&client, &options.listen) {
        (None, None) => inherited::take_listener().map_err(Failure::Passed)?,
        _ => None,
    };
    let descriptors = process::prepare()?;
    let Sandbox::Off = options.sandbox;
    warn!("there is no sandbox: clients are kept from other files by the checks of this process");
    let limits = options.connection(descriptors);
    if limits.max_fds > descriptors {
        warn!(
            descriptors,
            "--max-fds is more than this process may have: raise its limit of open files"
        );
    }
    let signals = Signals::block().map_err(cannot("cannot take over the signals"))?;
    // After the signals, as its thread is not to get them.
    let trace = options.trace.then(Trace::to_stderr).transpose()?;
    let metrics = options
        .metrics
        .as_deref()
        .map(|path| (path, Metrics::new()));
    let mut observers: Vec<Arc<dyn Observer>> = Vec::new();
    observers.extend(trace.as_ref().map(Trace::observer));
    observers.extend(metrics.as_ref().map(|(_, metrics)| metrics.observer()));
    let gofer = Gofer::new(options, limits, observers)?;
    let _exporter = metrics
        .map(|(path, metrics)| gofer.export(path, metrics))
        .transpose()?;
    match (client, &options.listen) {
        (Some(client), _) => gofer.serve_one(client, signals),
        (None, Some(path)) => gofer.serve_all(Listener::bind(path)?, signals),
        (None, None) => {
            let socket = passed.ok_or(Failure::NoSocket)?;
            let listener = Listener::adopt(socket).map_err(cannot("cannot use the socket"))?;
            gofer.serve_all(listener, signals)
        }
    }
}

/// What a sandbox can be made of, as the metrics call it.
const SANDBOX_LAYERS: [&str; 6] = [
    "namespaces",
    "pivot_root",
    "capabilities",
    "no_new_privs",
    "seccomp",
    "landlock",
];

struct Gofer<'o> {
    options: &'o ServeOptions,
    limits: ConnectionOpts,
    root: OwnedFd,
    server: Server<HostFs>,
}

impl<'o> Gofer<'o> {
    fn new(
        options: &'o ServeOptions,
        limits: ConnectionOpts,
        mut observers: Vec<Arc<dyn Observer>>,
    ) -> Result<Gofer<'o>, Failure> {
        // Opened once, so that all clients see one tree, whatever happens to the name.
        let root = open(
            &options.dir,
            OFlag::O_PATH | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|source| Failure::Root {
            dir: options.dir.clone(),
            source: source.into(),
        })?;
        let gofer = Gofer {
            options,
            limits,
            root,
            server: match (observers.pop(), observers.is_empty()) {
                (None, _) => Server::new(options.max_connections),
                (Some(only), true) => Server::observed(options.max_connections, only),
                (Some(last), false) => {
                    observers.push(last);
                    Server::observed(options.max_connections, Arc::new(observers))
                }
            },
        };
        // What is wrong with the directory is better said now than to the first client.
        gofer.backend()?;
        Ok(gofer)
    }

    fn backend(&self) -> Result<HostFs, Failure> {
        let root = self
            .root
            .try_clone()
            .map_err(cannot("cannot open the directory again"))?;
        HostFs::new(root, self.options.host()).map_err(|why| Failure::Setup {
            dir: self.options.dir.clone(),
            why,
        })
    }

    /// Lets the metrics be asked for at `path`.
    fn export(&self, path: &Path, metrics: Arc<Metrics>) -> Result<Exporter, Failure> {
        let Sandbox::Off = self.options.sandbox;
        let layers = SANDBOX_LAYERS.map(|layer| (layer, false)).to_vec();
        Exporter::start(path, Exposition::new(metrics, self.server.clone(), layers))
    }

    fn start(&self, client: UnixStream) -> Result<(), Failure> {
        let backend = self.backend()?;
        self.server
            .start_connection(client, backend, self.limits.clone())
            .map_err(Failure::Connection)
    }

    /// Serves one client.
    fn serve_one(&self, client: UnixStream, signals: Signals) -> Result<bool, Failure> {
        self.start(client)?;
        self.serve_rest(signals)
    }

    /// Serves those who are connected.
    fn serve_rest(&self, signals: Signals) -> Result<bool, Failure> {
        let failed = cannot("cannot watch the end of the connections");
        let (ended, end) = UnixStream::pair().map_err(&failed)?;
        let server = self.server.clone();
        thread::Builder::new()
            .name("end".to_owned())
            .spawn(move || {
                server.wait();
                drop(end);
            })
            .map_err(failed)?;
        loop {
            match signals
                .or_readable(ended.as_fd())
                .map_err(cannot("cannot wait for the end of the connections"))?
            {
                Event::End => return self.drain(signals),
                Event::Readable => return Ok(true),
                // There are no new clients anyway.
                Event::Retire | Event::Timeout => {}
            }
        }
    }

    /// Serves all clients that connect.
    fn serve_all(&self, listener: Listener, signals: Signals) -> Result<bool, Failure> {
        let failed = cannot("cannot wait for connections");
        loop {
            match signals.or_readable(listener.as_fd()).map_err(&failed)? {
                Event::End => break,
                Event::Retire => return self.retire(listener, signals),
                Event::Readable | Event::Timeout => {}
            }
            match listener.accept() {
                Ok(Some(client)) => match self.start(client) {
                    Ok(()) => {}
                    Err(why) => warn!(%why, "a client was turned away"),
                },
                Ok(None) => {}
                Err(why) => {
                    // It stays in the queue, so the socket stays readable.
                    warn!(%why, "a client has to wait");
                    match signals.or_timeout(PAUSE).map_err(&failed)? {
                        Event::End => break,
                        Event::Retire => return self.retire(listener, signals),
                        Event::Readable | Event::Timeout => {}
                    }
                }
            }
        }
        // New clients see at once that there is nobody.
        drop(listener);
        self.drain(signals)
    }

    /// Leaves new clients to whoever else accepts on the socket, and serves those who are here.
    fn retire(&self, listener: Listener, signals: Signals) -> Result<bool, Failure> {
        drop(listener);
        info!("a signal came: clients that are connected are served, then this ends");
        self.serve_rest(signals)
    }

    /// Ends all connections.
    fn drain(&self, signals: Signals) -> Result<bool, Failure> {
        info!("a signal came: requests that are running are answered, then this ends");
        signals
            .release()
            .map_err(cannot("cannot give the signals back"))?;
        let all_ended = self.server.shutdown(DRAIN);
        if !all_ended {
            // Whoever waits for what hangs in the host is told now: the kernel may keep this process
            // for as long as that hangs.
            self.server.abort();
        }
        Ok(all_ended)
    }
}
