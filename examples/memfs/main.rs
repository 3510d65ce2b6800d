//! A file system in memory behind a socket: a whole back end.
//!
//! ```text
//! cargo run --example memfs -- --listen /tmp/mem.sock &
//! cargo run -p lisafs-cli -- --connect /tmp/mem.sock put -r src .
//! ```
//!
//! Files, directories, symlinks, hard links, holes, extended attributes, renames of all kinds; bounded
//! in bytes and in files. It has no sockets, FIFOs and devices, and no descriptors to give away: all that
//! would need a host. `docs/backends.md` tells how to write one, with a smaller example.
#![forbid(unsafe_code)]

mod fs;

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use lisafs::server::{ConnectionOpts, Server};

use fs::{Limits, MemFs};

/// Serves a file system in memory, which is empty at first and gone at the end.
#[derive(Debug, Parser)]
struct Args {
    /// The Unix socket to listen on; one that nobody listens on any more is replaced.
    #[arg(long, value_name = "SOCKET")]
    listen: PathBuf,
    /// How many MiB may be stored; ENOSPC above. Names and files cost something as well.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    size: u32,
    /// How many files there may be; ENOSPC above.
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    files: u32,
    /// How many connections there may be at a time; more are hung up on.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_connections: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("memfs: {}: {why}", args.listen.display());
            ExitCode::from(2)
        }
    }
}

fn serve(args: &Args) -> io::Result<()> {
    let memory = MemFs::new(Limits {
        bytes: u64::from(args.size) << 20,
        files: args.files.into(),
    })?;
    let server = Server::new(args.max_connections);
    let listener = listen(&args.listen)?;
    eprintln!("memfs: listening on {}", args.listen.display());
    for stream in listener.incoming() {
        let started = server.start_connection(stream?, memory.clone(), ConnectionOpts::default());
        if let Err(why) = started {
            eprintln!("memfs: a connection was refused: {why}");
        }
    }
    Ok(())
}

/// Listens at `path`, also where a server that is gone has left its socket.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(why) if why.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {}
                _ => return Err(why),
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        done => done,
    }
}
