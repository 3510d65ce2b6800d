//! A server of either kind over a directory of its own.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lisafs::client::{Client, ClientOptions};
use lisafs::host::{HostFifo, HostFs, HostOptions, HostUds};
use lisafs::server::ConnectionOpts;
use tempfile::TempDir;

use crate::gvisor::Release;

/// Whose server.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    Ours,
    Gvisors(&'static Release),
}

/// A server over a directory of its own.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) running: Running,
    stream: Option<UnixStream>,
}

pub(crate) enum Running {
    /// Dropping it ends its connections.
    Ours {
        _server: lisafs::server::Server<HostFs>,
    },
    Gvisors(Child),
}

impl Server {
    pub(crate) fn start(which: Which) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let running = match which {
            Which::Ours => Running::Ours {
                _server: start_ours(dir.path(), theirs),
            },
            Which::Gvisors(release) => Running::Gvisors(start_gvisors(release, dir.path(), theirs)),
        };
        Server {
            dir,
            running,
            stream: Some(ours),
        }
    }

    pub(crate) fn client(&mut self, options: &ClientOptions) -> Client {
        options.from_stream(self.stream.take().unwrap()).unwrap()
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Running::Gvisors(process) = &mut self.running {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn start_ours(dir: &Path, stream: UnixStream) -> lisafs::server::Server<HostFs> {
    let options = HostOptions {
        host_uds: HostUds::All,
        host_fifo: HostFifo::Open,
        ..HostOptions::default()
    };
    let backend = HostFs::open(dir, options).unwrap();
    let server = lisafs::server::Server::new(1);
    let opts = ConnectionOpts::default();
    server.start_connection(stream, backend, opts).unwrap();
    server
}

fn start_gvisors(release: &Release, dir: &Path, stream: UnixStream) -> Child {
    let options = ["--host-uds", "all", "--host-fifo", "open"];
    let command = release
        .server_command(dir, &options)
        .expect("its tests run only if it is built");
    Command::new(&command[0])
        .args(&command[1..])
        .stdin(OwnedFd::from(stream))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
