//! The connection, and the private gofer of `--serve`.

use std::cell::{OnceCell, RefCell};
use std::env;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Child, Stdio};
use std::sync::{Arc, Mutex};

use flipcall::WaitPolicy;
use lisafs::Errno;
use lisafs::client::{Client, ClientOptions, Socket};
use lisafs::observe::{Observer, Tracer};

use crate::args::Args;
use crate::failure::Stop;

/// The verb under which this program is the gofer. Nobody is meant to type it.
pub(crate) const GOFER_VERB: &str = "internal-gofer";

/// A server to talk to.
pub(crate) struct Session {
    /// What it is called in messages.
    name: String,
    options: ClientOptions,
    wait: WaitPolicy,
    trace: Option<Arc<dyn Observer>>,
    stream: RefCell<Option<UnixStream>>,
    client: OnceCell<Client>,
    // The last field: it waits for the gofer to end, which the end of the others makes it do.
    gofer: Option<Gofer>,
}

impl Session {
    pub(crate) fn open(args: &Args, inherited: Option<UnixStream>) -> Result<Session, Stop> {
        let target = &args.target;
        let (name, stream, gofer) = match (inherited, &target.connect, &target.serve) {
            (Some(stream), ..) => ("--fd".to_owned(), stream, None),
            (None, Some(path), _) => {
                let name = path.display().to_string();
                let stream = UnixStream::connect(path)
                    .map_err(|why| Stop::Trouble(format!("{name}: {}", no_server(&why))))?;
                (name, stream, None)
            }
            (None, None, Some(dir)) => {
                let name = dir.display().to_string();
                let (stream, gofer) = Gofer::start(dir, args.wait, args.channels)
                    .map_err(|why| Stop::Trouble(format!("{name}: cannot serve it: {why}")))?;
                (name, stream, Some(gofer))
            }
            (None, None, None) => {
                let why =
                    "name a server: --connect SOCKET, --fd N, or --serve DIR for one of your own";
                return Err(Stop::Trouble(why.to_owned()));
            }
        };
        // Whoever reads the trace is whoever waits for this program, so it waits for them.
        let trace: Option<Arc<dyn Observer>> = args.trace.then(|| {
            let stderr = Arc::new(Mutex::new(io::stderr()));
            Arc::new(Tracer::new(stderr)) as _
        });
        let mut options = ClientOptions::new().channels(args.channels).wait(args.wait);
        if let Some(trace) = &trace {
            options = options.observer(Arc::clone(trace));
        }
        Ok(Session {
            name,
            options,
            trace,
            wait: args.wait,
            stream: RefCell::new(Some(stream)),
            client: OnceCell::new(),
            gofer,
        })
    }

    /// The connection, which is made when it is first asked for.
    pub(crate) fn client(&self) -> Result<&Client, Stop> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self
            .options
            .from_stream(self.stream()?)
            .map_err(|why| self.no_mount(why.errno()))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// How it waits for answers on channels.
    pub(crate) fn wait(&self) -> WaitPolicy {
        self.wait
    }

    /// The bare socket, for those who make no other use of the connection.
    pub(crate) fn socket(&self) -> Result<Socket, Stop> {
        let mut socket = Socket::from(self.stream()?);
        if let Some(trace) = &self.trace {
            socket.observe(&**trace);
        }
        Ok(socket)
    }

    fn stream(&self) -> Result<UnixStream, Stop> {
        let stream = self.stream.borrow_mut().take();
        stream.ok_or_else(|| Stop::Trouble("the connection is in use".to_owned()))
    }

    pub(crate) fn no_mount(&self, errno: Errno) -> Stop {
        let name = &self.name;
        Stop::Trouble(match errno {
            // It has said why.
            Errno::EIO if self.gofer.is_some() => format!("{name}: cannot serve it"),
            Errno::EIO => format!("{name}: the server has hung up, or is none"),
            _ => format!("{name}: cannot mount: {errno}"),
        })
    }
}

/// Why nobody answers at a path, and what to do.
fn no_server(why: &std::io::Error) -> String {
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

/// A gofer for this process alone. Ends when the connection does, and is waited for.
struct Gofer {
    child: Child,
}

impl Gofer {
    fn start(
        dir: &Path,
        wait: WaitPolicy,
        channels: usize,
    ) -> std::io::Result<(UnixStream, Gofer)> {
        let (ours, theirs) = UnixStream::pair()?;
        // Its socket is its stdin, which is the one descriptor that needs no unsafe code to pass
        // on. A group of its own keeps a ^C away from it, so that this process can still clean up.
        let child = process::Command::new("/proc/self/exe")
            .arg0(env::args_os().next().unwrap_or_default())
            .arg(GOFER_VERB)
            .args(["serve", "--fd", "0", "--log", "error", "--sandbox", "off"])
            .args(["--wait", &wait.to_string()])
            .args(["--max-channels", &channels.max(1).to_string()])
            .arg("--")
            .arg(dir)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok((ours, Gofer { child }))
    }
}

impl Drop for Gofer {
    fn drop(&mut self) {
        // How it ended shows in what became of the connection.
        let _ = self.child.wait();
    }
}
