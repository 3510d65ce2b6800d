//! The processes that are measured.

use std::env;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use flipcall::WaitPolicy;
use lisafs::client::{Client, ClientOptions};
use lisafs_gofer::Embedded;
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

use crate::cost::Waits;
use crate::exported;
use crate::failure::Stop;
use crate::place::Placement;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a server may take to end before it is made to.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often to look whether a server listens: its start is measured this exactly.
const LOOK: Duration = Duration::from_micros(100);

/// A server of `--versus`: `[LABEL[@PLACEMENT]: ]COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Versus {
    pub(crate) label: String,
    pub(crate) placement: Option<Placement>,
    pub(crate) command: String,
}

impl FromStr for Versus {
    type Err = String;

    fn from_str(text: &str) -> Result<Versus, String> {
        let (head, command) = match text.split_once(": ") {
            Some((head, command)) => (Some(head), command.trim()),
            None => (None, text.trim()),
        };
        if !command.contains("{socket}") {
            return Err("the command has to be told where to listen: use {socket}".to_owned());
        }
        let (label, placement) = match head.and_then(|head| head.rsplit_once('@')) {
            Some((label, place)) => {
                let placement = place.parse::<Placement>();
                (label, Some(placement.map_err(|why| why.to_string())?))
            }
            None => {
                let first = command.split_whitespace().next().unwrap_or_default();
                let name = first.rsplit('/').next().unwrap_or(first);
                (head.unwrap_or(name), None)
            }
        };
        Ok(Versus {
            label: label.to_owned(),
            placement,
            command: command.to_owned(),
        })
    }
}

/// How to reach a server.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A gofer of our own, on this directory.
    Private {
        dir: PathBuf,
        wait: WaitPolicy,
        channels: usize,
        /// Whether it is to count, and export what it counts.
        metrics: bool,
    },
    /// Whatever listens there.
    Listening(PathBuf),
    /// A command that is told a socket and a directory.
    Command { command: String, dir: PathBuf },
}

/// A server that listens, and ends with this unless it was there before.
#[derive(Debug)]
pub(crate) struct Server {
    socket: PathBuf,
    /// Where it exports its counters.
    metrics: Option<PathBuf>,
    child: Option<Child>,
    born: Instant,
}

impl Server {
    /// Starts it where the calling thread runs, with `socket` to listen on.
    pub(crate) fn start(origin: &Origin, socket: PathBuf) -> io::Result<Server> {
        let born = Instant::now();
        let mut metrics = None;
        let mut command = match origin {
            Origin::Listening(path) => {
                return Ok(Server {
                    socket: path.clone(),
                    metrics: None,
                    child: None,
                    born,
                });
            }
            Origin::Private {
                dir,
                wait,
                channels,
                metrics: exports,
            } => {
                metrics = exports.then(|| beside(&socket));
                private(dir, *wait, *channels, &socket, metrics.as_deref())?
            }
            Origin::Command { command, dir } => shell(command, &socket, dir),
        };
        // A group of its own keeps a ^C away from it, so that it is there until the end, and lets
        // all of it be ended. Its stdin tells it when this process is gone.
        let child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Server {
            socket,
            metrics,
            child: Some(child),
            born,
        })
    }

    /// Connects, waiting for the server to listen if it was started by us.
    pub(crate) fn stream(&mut self) -> Result<UnixStream, Stop> {
        loop {
            let why = match UnixStream::connect(&self.socket) {
                Ok(stream) => return Ok(stream),
                Err(why) => why,
            };
            let Some(child) = &mut self.child else {
                return Err(Stop::at(self.socket.display(), why));
            };
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Stop::Trouble(format!("the server ended: {status}")));
            }
            if self.born.elapsed() > PATIENCE {
                return Err(Stop::Trouble("the server does not listen".to_owned()));
            }
            thread::sleep(LOOK);
        }
    }

    /// Connects and mounts. Returns the process at the other end, if it can be seen from here.
    pub(crate) fn client(
        &mut self,
        options: &ClientOptions,
    ) -> Result<(Client, Option<Pid>), Stop> {
        let stream = self.stream()?;
        let peer = getsockopt(&stream, PeerCredentials).ok();
        let pid = peer.map(|peer| peer.pid()).filter(|pid| *pid > 0);
        let client = options
            .from_stream(stream)
            .map_err(|why| Stop::at("cannot mount", why))?;
        Ok((client, pid.map(Pid::from_raw)))
    }

    /// How it waited so far, if it exports that.
    pub(crate) fn waits(&self) -> io::Result<Option<Waits>> {
        self.metrics.as_deref().map(exported::waits).transpose()
    }

    /// How long it is since it was started, if it was started by us.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.child.as_ref().map(|_| self.born.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        let group = i32::try_from(child.id()).map(Pid::from_raw);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if let Ok(group) = group {
                // It may have ended by itself.
                let _ = killpg(group, signal);
            }
            let since = Instant::now();
            while since.elapsed() < FAREWELL {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Where a server that listens on `socket` exports its counters.
fn beside(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".metrics");
    PathBuf::from(path)
}

/// This program as a gofer.
fn private(
    dir: &Path,
    wait: WaitPolicy,
    channels: usize,
    socket: &Path,
    metrics: Option<&Path>,
) -> io::Result<Command> {
    // By its path and not as /proc/self/exe, so that what is asked of /proc shows its name.
    let mut command = Embedded::command(env::current_exe()?);
    command
        .args(["--host-uds", "all"])
        .args(["--wait", &wait.to_string()])
        .args(["--max-channels", &channels.max(1).to_string()]);
    if let Some(metrics) = metrics {
        command.arg("--metrics").arg(metrics);
    }
    command.arg("--listen").arg(socket).arg("--").arg(dir);
    Ok(command)
}

/// A command line with its placeholders. The shell gets the paths as parameters, so that none of
/// their characters means anything to it.
fn shell(command: &str, socket: &Path, dir: &Path) -> Command {
    let script = command
        .replace("{socket}", "\"$1\"")
        .replace("{dir}", "\"$2\"");
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &script, "lisafs-bench"])
        .arg(socket)
        .arg(dir);
    shell
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Private { dir, wait, .. } => {
                write!(f, "private gofer, --wait {wait}, {}", dir.display())
            }
            Origin::Listening(path) => write!(f, "{}", path.display()),
            Origin::Command { command, .. } => f.write_str(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_and_a_placement_are_optional() {
        let parsed = |text: &str| {
            text.parse::<Versus>()
                .map(|v| (v.label, v.placement, v.command))
        };
        let command = "/opt/goserver --listen {socket} {dir}";
        assert_eq!(
            parsed(command),
            Ok(("goserver".to_owned(), None, command.to_owned()))
        );
        assert_eq!(
            parsed(&format!("Go: {command}")),
            Ok(("Go".to_owned(), None, command.to_owned()))
        );
        assert_eq!(
            parsed(&format!("Go, same@same: {command}")),
            Ok((
                "Go, same".to_owned(),
                Some(Placement::Same),
                command.to_owned()
            ))
        );
        assert!(parsed("Go@elsewhere: x {socket}").is_err());
        assert!(parsed("goserver").unwrap_err().contains("{socket}"));
    }

    #[test]
    fn paths_reach_a_command_as_they_are() {
        let dir = Path::new("/a b/$(c)'\"");
        let done = shell("printf %s/%s {socket} {dir}", Path::new("so;cket"), dir)
            .output()
            .unwrap();
        assert_eq!(done.stdout, b"so;cket//a b/$(c)'\"");
    }
}
