//! Accepting clients, serving them, and the end of it.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use flipcall::Spinners;
use lisafs::host::HostFs;
use lisafs::observe::Observer;
use lisafs::server::{ConnectionOpts, Refusal, Server, Totals};
use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use tracing::{info, warn};

use crate::args::{Sandbox, ServeOptions};
use crate::closing::Closing;
use crate::failure::{Failure, cannot};
use crate::jail::entry::Jail;
use crate::jail::export::Served;
use crate::jail::layers::{Layer, Report};
use crate::jail::seccomp::{Policy, Violation};
use crate::listener::Listener;
use crate::metrics::{Exporter, Exposition, Metrics};
use crate::refusals::Refusals;
use crate::signals::{Event, Signals};
use crate::trace::Trace;
use crate::{inherited, process, sys};

/// How long requests that are running get when the process is told to end.
const DRAIN: Duration = Duration::from_secs(10);

/// How long to leave a connection waiting that there are no resources for, in milliseconds.
const PAUSE: u16 = 100;

/// How long to leave them waiting until somebody else is gone, in milliseconds.
const TURN: u16 = 10;

/// Serves until the client is done or a signal comes. Returns whether no request was abandoned.
pub(crate) fn run(options: &ServeOptions) -> Result<bool, Failure> {
    // First, as all that is left of what this process was started with is closed next.
    let client = options
        .fd
        .map(|number| inherited::take(number).map_err(|why| Failure::Fd { number, why }))
        .transpose()?;
    let passed = match (&client, &options.listen) {
        (None, None) => inherited::take_listener().map_err(Failure::Passed)?,
        _ => None,
    };
    let number = match (&client, &passed) {
        (Some(client), _) => Some(client.as_raw_fd()),
        (None, passed) => passed.as_ref().map(AsRawFd::as_raw_fd),
    };
    let descriptors = process::prepare(number)?;
    let (limits, totals) = limits(options, descriptors)?;
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
    let served = Served {
        dir: &options.dir,
        options: options.special.host(),
        readonly: options.readonly,
        client: client.as_ref().map(AsRawFd::as_raw_fd),
    };
    let mut jail = match options.sandbox {
        Sandbox::Strict => Some(Jail::new(false)),
        Sandbox::BestEffort => Some(Jail::new(true)),
        Sandbox::Off => {
            warn!(
                "there is no sandbox: clients are kept from other files by the checks of this process"
            );
            None
        }
    };
    // Before there is a name to remove, and before a client can take this for a gofer that heeds them.
    let signals = Signals::block().map_err(cannot("cannot take over the signals"))?;
    let mut sockets = Sockets::open(options, passed)?;
    // Counts the CPUs, while there are files that tell of a quota.
    let spinners = Spinners::new();
    let backend = match &mut jail {
        Some(jail) => {
            sockets.entrust_names()?;
            let backend = jail.enclose(&served, root)?;
            // Nobody waits for the process that removes a name: it ends before this one if a signal
            // has new clients left to others.
            sys::ignore(Signal::SIGCHLD).map_err(cannot("cannot ignore a signal"))?;
            backend
        }
        None => served.backend(root)?,
    };
    // After the signals, as its thread is not to get them.
    let trace = options.trace.then(Trace::to_stderr).transpose()?;
    let metrics = sockets.metrics.map(|listener| (listener, Metrics::new()));
    let mut observers: Vec<Arc<dyn Observer>> = Vec::new();
    observers.extend(trace.as_ref().map(Trace::observer));
    observers.extend(metrics.as_ref().map(|(_, metrics)| metrics.observer()));
    let gofer = Gofer::new(options, limits, totals, backend, spinners, observers);
    let report = match jail {
        Some(jail) => jail.filter(&gofer.policy())?,
        None => Report::default(),
    };
    report.log();
    let _exporter = metrics
        .map(|(listener, metrics)| gofer.export(listener, metrics, &report))
        .transpose()?;
    match (client, sockets.clients) {
        (Some(client), _) => gofer.serve_one(client, signals),
        (None, Some(listener)) => gofer.serve_all(listener, signals),
        (None, None) => Err(Failure::NoSocket),
    }
}

/// What one client and all together can hold in a process that may have so many descriptors.
fn limits(options: &ServeOptions, descriptors: usize) -> Result<(ConnectionOpts, Totals), Failure> {
    let one = options.connection(descriptors);
    let all = options.totals(descriptors);
    let (given, least) = (all.max_fds, one.sure_fds());
    if given < least {
        return Err(Failure::TotalFds { given, least });
    }
    let (given, least) = (all.max_ids, one.sure_ids());
    if given < least {
        return Err(Failure::TotalIds { given, least });
    }
    for (asked, option) in [
        (options.max_fds, "--max-fds"),
        (options.max_total_fds, "--max-total-fds"),
    ] {
        if asked > Some(descriptors) {
            warn!(
                descriptors,
                "{option} is more than this process may have: raise its limit of open files"
            );
        }
    }
    let derived = options.max_total_fds.is_none() && options.max_fds <= Some(descriptors);
    if derived && options.fd.is_none() && all.max_fds > descriptors {
        warn!(
            descriptors,
            "clients can hold more than this process may have: permit less with --max-fds, or raise \
             its limit of open files"
        );
    }
    for (clients, what) in [
        (all.max_fds.min(descriptors) / one.sure_fds(), "descriptors"),
        (all.max_ids / one.sure_ids(), "ids"),
    ] {
        if options.fd.is_none() && clients < options.max_connections {
            info!(
                clients,
                "there are {what} for fewer clients than --max-connections permits"
            );
        }
    }
    Ok((one, all))
}

/// The sockets that this process listens on.
struct Sockets {
    clients: Option<Listener>,
    metrics: Option<Listener>,
}

impl Sockets {
    /// Makes those that are to be made; `passed` is one that there is already.
    fn open(options: &ServeOptions, passed: Option<UnixListener>) -> Result<Sockets, Failure> {
        let metrics = options.metrics.as_deref().map(Listener::bind).transpose()?;
        let clients = match (&options.listen, passed) {
            (Some(path), _) if metrics.as_ref().is_some_and(|made| made.is_at(path)) => {
                return Err(Failure::SameSocket { path: path.clone() });
            }
            (Some(path), _) => Some(Listener::bind(path)?),
            (None, Some(socket)) => {
                Some(Listener::adopt(socket).map_err(cannot("cannot use the socket"))?)
            }
            (None, None) if options.fd.is_none() => return Err(Failure::NoSocket),
            (None, None) => None,
        };
        Ok(Sockets { clients, metrics })
    }

    fn entrust_names(&mut self) -> Result<(), Failure> {
        let mut all = self.clients.iter_mut().chain(&mut self.metrics);
        all.try_for_each(Listener::entrust_name)
    }
}

struct Gofer<'o> {
    options: &'o ServeOptions,
    limits: ConnectionOpts,
    /// The descriptors of all connections are its own: the system call filter knows of one directory of
    /// them.
    backend: HostFs,
    server: Server<HostFs>,
}

impl<'o> Gofer<'o> {
    fn new(
        options: &'o ServeOptions,
        limits: ConnectionOpts,
        totals: Totals,
        backend: HostFs,
        spinners: Spinners,
        mut observers: Vec<Arc<dyn Observer>>,
    ) -> Gofer<'o> {
        let observer = match observers.len() {
            0 | 1 => observers.pop(),
            _ => Some(Arc::new(observers) as Arc<dyn Observer>),
        };
        Gofer {
            options,
            limits,
            backend,
            server: Server::with_spinners(options.max_connections, spinners, observer)
                .with_totals(totals),
        }
    }

    /// What it is going to do, and nothing else.
    fn policy(&self) -> Policy<'_> {
        Policy {
            procfd: self.backend.procfd(),
            host_uds: self.options.special.host_uds,
            identities: self.backend.connects_with_creds(),
            accepts: self.options.fd.is_none() || self.options.metrics.is_some(),
            violation: Violation::chosen(),
        }
    }

    /// Lets the metrics be asked for.
    fn export(
        &self,
        listener: Listener,
        metrics: Arc<Metrics>,
        report: &Report,
    ) -> Result<Exporter, Failure> {
        let layers = Layer::ALL.map(|layer| (layer.name(), report.has(layer)));
        let exposition = Exposition::new(metrics, self.server.clone(), layers.to_vec());
        Exporter::start(listener, exposition)
    }

    fn start(&self, client: UnixStream) -> Result<(), Refusal> {
        self.server
            .start_connection(client, self.backend.clone(), self.limits.clone())
    }

    /// Serves one client.
    fn serve_one(&self, client: UnixStream, signals: Signals) -> Result<bool, Failure> {
        self.start(client).map_err(Failure::Connection)?;
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
        let refusals = Refusals::default();
        let closing = Closing::default();
        // Without resources, a client stays in the queue, so the socket stays readable, or is held here.
        let (mut held, mut pauses) = (None, false);
        let retires = loop {
            let event = if pauses {
                signals.or_timeout(PAUSE)
            } else if closing.has_room() {
                signals.or_readable(listener.as_fd())
            } else {
                refusals.closing_takes_long();
                signals.or_timeout(TURN)
            };
            match event.map_err(&failed)? {
                Event::End => break false,
                Event::Retire => break true,
                Event::Timeout if !pauses => continue,
                Event::Readable | Event::Timeout => pauses = false,
            }
            match accept(&listener, &mut held) {
                Ok(Some((client, kept))) => {
                    // Where it is served, that thread empties its socket before it is closed.
                    if let Err(why) = self.start(client) {
                        closing.hang_up(kept);
                        refusals.turned_away(why);
                    }
                }
                Ok(None) => {}
                Err(why) => {
                    refusals.has_to_wait(&why);
                    pauses = true;
                }
            }
        };
        if let Some(client) = held {
            closing.hang_up(client);
        }
        // New clients see at once that there is nobody, or whoever else accepts on the socket has them. Not behind
        // those that hang by now.
        let own = Closing::default();
        own.close(listener.into_socket());
        if retires {
            info!("a signal came: clients that are connected are served, then this ends");
            return self.serve_rest(signals);
        }
        self.drain(signals)
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

/// Takes a connection, the one that is `held` or the next, and a duplicate of its socket, to close that by.
///
/// # Errors
/// As accept(2), and as fcntl(2): then the connection is `held`.
fn accept(
    listener: &Listener,
    held: &mut Option<UnixStream>,
) -> io::Result<Option<(UnixStream, UnixStream)>> {
    let next = match held.take() {
        None => listener.accept()?,
        held => held,
    };
    let Some(client) = next else {
        return Ok(None);
    };
    match client.try_clone() {
        Ok(kept) => Ok(Some((client, kept))),
        Err(why) => {
            *held = Some(client);
            Err(why)
        }
    }
}
