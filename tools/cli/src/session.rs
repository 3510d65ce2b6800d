//! The server to talk to: how it is reached, and the private gofers of `--serve`.

use std::cell::{OnceCell, RefCell};
use std::env;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flipcall::WaitPolicy;
use lisafs::Errno;
use lisafs::client::{Client, ClientOptions, Socket};
use lisafs::observe::{Observer, Tracer};
use lisafs_gofer::Embedded;

use crate::args::{Args, Command};
use crate::failure::Stop;

/// A server to talk to.
pub(crate) struct Session {
    /// What it is called in messages.
    name: String,
    origin: Origin,
    channels: usize,
    wait: WaitPolicy,
    trace: Option<Arc<dyn Observer>>,
    client: OnceCell<Client>,
    /// Where paths begin that do not begin with a slash.
    cwd: RefCell<PathBuf>,
    // The last field: it waits for the gofers to end, which the end of the others makes them do.
    gofers: RefCell<Vec<Gofer>>,
}

/// How a server is reached.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Over this one connection.
    Inherited(RefCell<Option<UnixStream>>),
    /// It listens there.
    Listening(PathBuf),
    /// It is started for each connection.
    Private(Private),
}

/// A server of our own.
#[derive(Debug)]
pub(crate) struct Private {
    pub(crate) dir: PathBuf,
    wait: WaitPolicy,
    channels: usize,
    host_uds: &'static str,
}

impl Session {
    pub(crate) fn new(args: &Args, inherited: Option<UnixStream>) -> Result<Session, Stop> {
        let target = &args.target;
        let (name, origin) = match (inherited, &target.connect, &target.serve) {
            (Some(stream), ..) => {
                let stream = RefCell::new(Some(stream));
                ("--fd".to_owned(), Origin::Inherited(stream))
            }
            (None, Some(path), _) => {
                let name = path.display().to_string();
                (name, Origin::Listening(path.clone()))
            }
            (None, None, Some(dir)) => {
                let name = dir.display().to_string();
                let private = Private {
                    dir: dir.clone(),
                    wait: args.wait,
                    channels: args.channels,
                    // Programs that use a mount bind sockets there, and expect files.
                    host_uds: match args.command {
                        Command::Mount(_) => "create",
                        _ => "none",
                    },
                };
                (name, Origin::Private(private))
            }
            (None, None, None) => {
                let why = "which server? Use --connect SOCKET, --fd N or --serve DIR";
                return Err(Stop::Trouble(why.to_owned()));
            }
        };
        // Whoever reads the trace is whoever waits for this program, so it waits for them.
        let trace: Option<Arc<dyn Observer>> = args.trace.then(|| {
            let stderr = Arc::new(Mutex::new(io::stderr()));
            Arc::new(Tracer::new(stderr)) as _
        });
        Ok(Session {
            name,
            origin,
            channels: args.channels,
            trace,
            wait: args.wait,
            client: OnceCell::new(),
            cwd: RefCell::new(PathBuf::from("/")),
            gofers: RefCell::default(),
        })
    }

    /// The connection, which is made when it is first asked for.
    pub(crate) fn client(&self) -> Result<&Client, Stop> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => self.mount(self.stream()?),
        }
    }

    /// The same, of which nothing has been used yet, and its socket: to watch it, and to end it.
    pub(crate) fn client_and_socket(&self) -> Result<(&Client, UnixStream), Stop> {
        let stream = self.stream()?;
        let socket = stream
            .try_clone()
            .map_err(|why| Stop::Trouble(format!("{}: {}", self.name, Errno::from(why))))?;
        Ok((self.mount(stream)?, socket))
    }

    fn mount(&self, stream: UnixStream) -> Result<&Client, Stop> {
        let mut options = ClientOptions::new().channels(self.channels).wait(self.wait);
        if let Some(trace) = &self.trace {
            options = options.observer(Arc::clone(trace));
        }
        let client = options
            .from_stream(stream)
            .map_err(|why| self.no_mount(why.errno()))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// How many channels there can be.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// How it waits for answers on channels.
    pub(crate) fn wait(&self) -> WaitPolicy {
        self.wait
    }

    /// What it is called in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// `path` from where the user is.
    pub(crate) fn at(&self, path: &Path) -> PathBuf {
        let cwd = self.cwd.borrow();
        // At the root it says the same without it. What is empty stays so, and is refused.
        if *cwd == Path::new("/") || path.as_os_str().is_empty() {
            return path.to_owned();
        }
        cwd.join(path)
    }

    /// Where the user is.
    pub(crate) fn cwd(&self) -> PathBuf {
        self.cwd.borrow().clone()
    }

    /// Has paths begin at `dir`, which begins with a slash.
    pub(crate) fn set_cwd(&self, dir: PathBuf) {
        self.cwd.replace(dir);
    }

    /// A bare socket, for those who make no other use of the connection.
    pub(crate) fn socket(&self) -> Result<Socket, Stop> {
        let mut socket = Socket::from(self.stream()?);
        if let Some(trace) = &self.trace {
            socket.observe(&**trace);
        }
        Ok(socket)
    }

    /// A new connection.
    fn stream(&self) -> Result<UnixStream, Stop> {
        let name = &self.name;
        match &self.origin {
            Origin::Inherited(stream) => stream.borrow_mut().take().ok_or_else(|| {
                let why =
                    "there is this one connection, and it is in use: use --connect or --serve";
                Stop::Trouble(format!("{name}: {why}"))
            }),
            Origin::Listening(path) => UnixStream::connect(path)
                .map_err(|why| Stop::Trouble(format!("{name}: {}", no_server(&why)))),
            Origin::Private(private) => {
                let (stream, gofer) = private
                    .start()
                    .map_err(|why| Stop::Trouble(format!("{name}: cannot serve it: {why}")))?;
                self.gofers.borrow_mut().push(gofer);
                Ok(stream)
            }
        }
    }

    pub(crate) fn no_mount(&self, errno: Errno) -> Stop {
        let name = &self.name;
        Stop::Trouble(match (errno, &self.origin) {
            // It has said why.
            (Errno::EIO, Origin::Private(_)) => format!("{name}: cannot serve it"),
            (Errno::EIO, _) => format!("{name}: the server has hung up, or is none"),
            _ => format!("{name}: cannot mount: {errno}"),
        })
    }
}

/// Why nobody answers at a path, and what to do.
pub(crate) fn no_server(why: &io::Error) -> String {
    let advice = match why.kind() {
        ErrorKind::InvalidInput => {
            return "a socket path has at most 107 bytes: name it relative to the current directory"
                .to_owned();
        }
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            ": no server listens there, start one with `lisafs-gofer serve --listen`"
        }
        _ => "",
    };
    format!("cannot connect: {}{advice}", Errno::from(why))
}

/// How long a gofer whose connection has ended may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// A gofer for a connection of this process. Ends when that does, and is waited for: not for ever, as
/// somebody may have stopped it.
struct Gofer {
    child: Child,
}

impl Private {
    fn start(&self) -> io::Result<(UnixStream, Gofer)> {
        let (ours, theirs) = UnixStream::pair()?;
        // Its socket is its stdin, which is the one descriptor that needs no unsafe code to pass
        // on. A group of its own keeps a ^C away from it, so that this process can still clean up.
        let child = Embedded::command(THIS_PROGRAM)
            .arg0(env::args_os().next().unwrap_or_default())
            .args(["--fd", "0"])
            .args(["--wait", &self.wait.to_string()])
            .args(["--max-channels", &self.channels.max(1).to_string()])
            .args(["--host-uds", self.host_uds])
            .arg("--")
            .arg(&self.dir)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok((ours, Gofer { child }))
    }
}

/// What a process executes to be this program once more.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

impl Drop for Gofer {
    fn drop(&mut self) {
        // How it ended shows in what became of the connection.
        match lisafs_gofer::wait_for_child(&mut self.child, Some(ENDING)) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let _ = self.child.kill();
                // One that hangs in the kernel is left to it.
                let _ = lisafs_gofer::wait_for_child(&mut self.child, Some(ENDING));
            }
            // The kernel cannot wait for a time.
            Err(_) => {
                let _ = self.child.wait();
            }
        }
    }
}
