//! Follows a file of a server as `tail -F` does: prints what is there and then what comes.
//!
//! ```text
//! cargo run --example watch_file -- SOCKET PATH [INTERVAL_MS]
//! ```
//!
//! The protocol has no notifications, so it asks: for the file and for the name once in each interval
//! (250 ms if nothing else is said), and for the bytes when there are more. A file that was truncated is read from its start again; one
//! that another file has replaced is read to its end, and then the new one from its start. Ends when the
//! server does, with status 0.
#![forbid(unsafe_code)]

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use lisafs::Errno;
use lisafs::client::{Client, File};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (socket, path, interval) = match arguments.as_slice() {
        [socket, path] => (socket, path, 250),
        [socket, path, interval] => (socket, path, interval.to_string_lossy().parse()?),
        _ => return Err("usage: watch_file SOCKET PATH [INTERVAL_MS]".into()),
    };
    let client = Client::connect(socket)?;
    match follow(&client, Path::new(path), Duration::from_millis(interval)) {
        // There is nothing more to be told.
        Err(why) if client.ping().is_err() => {
            eprintln!("watch_file: the server has gone: {why}");
            Ok(())
        }
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(why) => Err(why.into()),
        Ok(never) => match never {},
    }
}

fn follow(
    client: &Client,
    path: &Path,
    interval: Duration,
) -> io::Result<std::convert::Infallible> {
    let mut watched = Watched::new(client.open(path)?)?;
    loop {
        watched.print()?;
        std::thread::sleep(interval);
        match client.open(path) {
            Ok(file) => {
                let named = Watched::new(file)?;
                if named.identity != watched.identity {
                    watched.print()?;
                    eprintln!("watch_file: {}: another file now", path.display());
                    watched = named;
                }
            }
            // Between two files that have the name, or for good: what is open is followed.
            Err(why) if why.errno() == Errno::ENOENT => {}
            Err(why) => return Err(why.into()),
        }
    }
}

/// An open file, and how much of it has been printed.
struct Watched {
    file: File,
    identity: (u32, u32, u64),
    printed: u64,
}

impl Watched {
    fn new(file: File) -> io::Result<Watched> {
        let stat = file.metadata()?;
        Ok(Watched {
            file,
            identity: (stat.dev_major, stat.dev_minor, stat.ino),
            printed: 0,
        })
    }

    /// Prints what has come.
    fn print(&mut self) -> io::Result<()> {
        let size = self.file.metadata()?.size;
        if size < self.printed {
            eprintln!("watch_file: the file was truncated");
            self.printed = 0;
        }
        let mut out = io::stdout().lock();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self.file.read_at(&mut buffer, self.printed)?;
            let data = buffer.get(..read).unwrap_or_default();
            if data.is_empty() {
                return out.flush();
            }
            out.write_all(data)?;
            self.printed += read as u64;
        }
    }
}
