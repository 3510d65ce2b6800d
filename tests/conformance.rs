//! The conformance suite against the host back end, in this process.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use lisafs::host::{HostFifo, HostFs, HostOptions, HostUds};
use lisafs::server::{ConnectionOpts, Server};
use lisafs_conformance::harness::{self, Subject};
use lisafs_conformance::{Need, Target};
use tempfile::TempDir;

struct InProcess {
    server: Server<HostFs>,
    dir: TempDir,
}

impl Target for InProcess {
    fn name(&self) -> &str {
        "in_process"
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        let options = HostOptions {
            host_uds: HostUds::All,
            host_fifo: HostFifo::Open,
            ..HostOptions::default()
        };
        let host = HostFs::open(self.dir.path(), options).map_err(io::Error::other)?;
        let opts = ConnectionOpts {
            readonly,
            ..ConnectionOpts::default()
        };
        let (ours, theirs) = UnixStream::pair()?;
        self.server.start_connection(theirs, host, opts)?;
        Ok(ours)
    }

    fn host_dir(&self) -> Option<&Path> {
        Some(self.dir.path())
    }

    fn offers(&self, need: Need) -> bool {
        need != Need::Privileged || nix::unistd::geteuid().is_root()
    }
}

fn main() -> io::Result<ExitCode> {
    // Not in memory as a rule, where older kernels have no extended attributes.
    let dir = TempDir::new_in("/var/tmp")?;
    // Without a limit: the connections of earlier cases may still be ending.
    let server = Server::new(usize::MAX);
    Ok(harness::main(vec![Subject::new(Arc::new(InProcess {
        server,
        dir,
    }))]))
}
