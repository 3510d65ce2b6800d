//! The two servers that a sequence is played to, each with a directory of its own and as many
//! connections to it as are asked for.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lisafs::host::HostFs;
use lisafs::server::Server;
use tempfile::TempDir;

use super::player::SEATS;
use crate::gvisor::Release;
use crate::{POLICY, our_connection, our_host, scratch};

/// A server and what it serves.
pub(super) trait Served {
    /// A new connection to the one tree.
    fn connect(&self) -> Result<UnixStream, String>;

    /// The directory that is served.
    fn dir(&self) -> &Path;
}

/// Ours, in this process.
pub(super) struct Ours {
    dir: TempDir,
    host: HostFs,
    server: Server<HostFs>,
}

impl Ours {
    pub(super) fn start() -> Result<Ours, String> {
        let dir = served()?;
        Ok(Ours {
            host: our_host(dir.path())?,
            server: Server::new(SEATS),
            dir,
        })
    }
}

impl Served for Ours {
    fn connect(&self) -> Result<UnixStream, String> {
        our_connection(&self.server, self.host.clone(), false)
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// gVisor's, in a process of its own.
pub(super) struct Theirs {
    dir: TempDir,
    socket: TempDir,
    process: Child,
}

impl Theirs {
    pub(super) fn start(release: &Release) -> Result<Theirs, String> {
        let (dir, socket) = (served()?, scratch(Path::new("/dev/shm"))?);
        let mut process = Command::new(release.programs()?.join("goserver"))
            .arg("--listen")
            .arg(socket.path().join("s"))
            .args(POLICY)
            .arg(dir.path())
            // It allows a connection as many channels as it believes to have CPUs, from two to four.
            // Ours allows four.
            .env("GOMAXPROCS", "4")
            // It ends when this is closed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("goserver: {error}"))?;
        let stdout = process.stdout.take();
        let theirs = Theirs {
            dir,
            socket,
            process,
        };
        let mut line = String::new();
        let read = stdout.map(|stdout| BufReader::new(stdout).read_line(&mut line));
        match line.as_str() {
            "ready\n" => Ok(theirs),
            _ => Err(format!("goserver did not start: {read:?}, {line:?}")),
        }
    }
}

impl Served for Theirs {
    fn connect(&self) -> Result<UnixStream, String> {
        UnixStream::connect(self.socket.path().join("s")).map_err(|error| error.to_string())
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// It has no drain, and may hang in a call.
impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A directory to serve, in memory. Whoever a socket is connected to as has to get there: gVisor's
/// server goes by host path.
fn served() -> Result<TempDir, String> {
    let dir = scratch(Path::new("/dev/shm"))?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    Ok(dir)
}
