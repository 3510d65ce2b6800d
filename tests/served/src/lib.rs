//! A served directory for the examples in the documentation of lisafs, which so need one hidden line each.
#![forbid(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use lisafs::client::Client;
use lisafs::host::{HostFs, HostOptions, HostUds};
use lisafs::server::{ConnectionOpts, Server};
use tempfile::TempDir;

/// A client of an empty directory that a server in this process serves. Dereferences to the [`Client`].
#[derive(Debug)]
pub struct Served {
    client: Client,
    export: Export,
    dir: TempDir,
}

/// What is served, and by whom.
#[derive(Clone, Debug)]
struct Export {
    server: Server<HostFs>,
    path: PathBuf,
}

/// Makes the directory and serves it.
///
/// # Errors
/// Whatever keeps it from being made or served.
pub fn directory() -> io::Result<Served> {
    let dir = TempDir::new()?;
    let path = dir.path().join("export");
    std::fs::create_dir(&path)?;
    let server = Server::new(8);
    let export = Export { server, path };
    Ok(Served {
        client: Client::from_stream(export.connect()?)?,
        export,
        dir,
    })
}

impl Export {
    fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.start(theirs)?;
        Ok(ours)
    }

    fn start(&self, stream: UnixStream) -> io::Result<()> {
        let host = HostFs::open(&self.path, options()).map_err(io::Error::other)?;
        let opts = ConnectionOpts::default();
        Ok(self.server.start_connection(stream, host, opts)?)
    }
}

fn options() -> HostOptions {
    HostOptions {
        host_uds: HostUds::All,
        ..HostOptions::default()
    }
}

impl Served {
    /// The directory as the host sees it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.export.path
    }

    /// Another connection, on which nothing has been said.
    ///
    /// # Errors
    /// As for [`directory`].
    pub fn connect(&self) -> io::Result<UnixStream> {
        self.export.connect()
    }

    /// A socket to connect to.
    ///
    /// # Errors
    /// As for [`directory`].
    pub fn listen(&self) -> io::Result<PathBuf> {
        let path = self.dir.path().join("socket");
        let listener = UnixListener::bind(&path)?;
        let export = self.export.clone();
        thread::spawn(move || {
            // It ends with the process, or with the first connection that cannot be had.
            for stream in listener.incoming() {
                stream.and_then(|stream| export.start(stream))?;
            }
            io::Result::Ok(())
        });
        Ok(path)
    }
}

impl Deref for Served {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
