//! Serves a directory and reads it, in one process: a server on a thread of its own at one end of a
//! socket pair, a client at the other.
//!
//! ```text
//! cargo run --example serve_in_process -- /usr/share/doc
//! ```
//!
//! The client has nothing but the socket, so it could as well be in a process that may not open the files
//! itself. Prints each file with its size and the number of its lines.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lisafs::client::Client;
use lisafs::host::{HostFs, HostOptions};
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::FileType;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.ok_or("usage: serve_in_process DIRECTORY")?;

    let (ours, theirs) = UnixStream::pair()?;
    let server = Server::new(1);
    let backend = HostFs::open(Path::new(&directory), HostOptions::default())?;
    let opts = ConnectionOpts {
        readonly: true,
        ..ConnectionOpts::default()
    };
    server.start_connection(theirs, backend, opts)?;

    // Connecting mounts: from here on there is a root.
    let client = Client::from_stream(ours)?;
    show(&client)?;

    // What was open is closed by now; the connection goes with its client.
    drop(client);
    if !server.shutdown(Duration::from_secs(5)) {
        return Err("the server does not end".into());
    }
    Ok(())
}

fn show(client: &Client) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let mut pending = vec![PathBuf::from("/")];
    while let Some(directory) = pending.pop() {
        for entry in client.read_dir(&directory)? {
            let entry = entry?;
            let path = directory.join(entry.name);
            match entry.file_type {
                FileType::Directory => pending.push(path),
                FileType::Regular => {
                    let file = client.open(&path)?;
                    let size = file.metadata()?.size;
                    let lines = BufReader::new(file).split(b'\n').count();
                    writeln!(out, "{size:>10} {lines:>8} {}", path.display())?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}
