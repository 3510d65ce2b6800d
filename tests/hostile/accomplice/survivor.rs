//! A client whose servers are killed.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::Errno;
use lisafs::client::{Client, ClientOptions, Create, Error};

/// How many bytes the file has that is read while servers are killed.
pub(crate) const KILLED_CONTENT: usize = 50_000;

/// Is a client of one server after the other, each until that is killed. Reads the path of a socket,
/// says that it is at work, and when it has lost the server what has come of it: how many requests were
/// answered, and how many descriptors it has more than before.
pub(super) fn play() {
    println!("ready");
    for line in io::stdin().lines() {
        let socket = PathBuf::from(line.unwrap());
        let before = descriptors();
        match lose(&socket) {
            Ok(served) => {
                let start = Instant::now();
                while descriptors() > before && start.elapsed() < Duration::from_secs(10) {
                    thread::sleep(Duration::from_millis(1));
                }
                let more = descriptors().saturating_sub(before);
                println!("{served} {more}");
            }
            Err(why) => println!("{why}"),
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Makes requests of all sorts at once until the server is gone. Returns how many were answered.
fn lose(socket: &Path) -> Result<u64, String> {
    let connect = |channels| ClientOptions::new().channels(channels).connect(socket);
    let failed = |why: &dyn std::fmt::Display| format!("before the kill: {why}");
    let by_channels = connect(3).map_err(|why| failed(&why))?;
    let by_socket = connect(0).map_err(|why| failed(&why))?;
    let read = |client: &Client| -> Result<_, Error> {
        let file = client.root().walk_one("file")?.open(libc::O_RDONLY)?;
        let file = file.without_donation();
        let mut buffer = vec![0; KILLED_CONTENT];
        // What is worst is a read of nothing, which is the end of a file.
        Ok(move || match file.read_at(&mut buffer, 0)? {
            KILLED_CONTENT => Ok(()),
            short => panic!("a read of {short} bytes"),
        })
    };
    let rename = |client: &Client, number: usize| -> Result<(), Error> {
        let (root, name) = (client.root(), format!("{number}"));
        let (_, open) = root.create(&name, Create::mode(0o644), libc::O_RDWR)?;
        open.write_at(&[7; 5000], 0)?;
        root.rename(&name, &root, format!("{number} moved"), 0)?;
        root.unlink(format!("{number} moved"), 0)
    };
    let (mut first, mut second) = (
        read(&by_channels).map_err(|why| failed(&why))?,
        read(&by_socket).map_err(|why| failed(&why))?,
    );
    println!("at work");
    thread::scope(|scope| {
        let (by_channels, by_socket) = (&by_channels, &by_socket);
        let threads = [
            scope.spawn(move || until_lost(1, &mut first)),
            scope.spawn(move || until_lost(1, &mut second)),
            scope.spawn(move || until_lost(4, &mut || rename(by_channels, 0))),
            scope.spawn(move || until_lost(4, &mut || rename(by_socket, 1))),
            // Mount, Channel and its handshake.
            scope.spawn(move || {
                until_lost(3, &mut || match UnixStream::connect(socket) {
                    Ok(stream) => ClientOptions::new()
                        .channels(2)
                        .from_stream(stream)
                        .map(drop),
                    Err(_) => Err(Error::Local(Errno::EIO)),
                })
            }),
        ];
        let served = threads.map(|thread| thread.join().map_err(|_| "a panic".to_owned())?);
        served.into_iter().sum()
    })
}

/// How often a call was served, of `rpcs` requests each, until the server was gone.
fn until_lost(rpcs: u64, call: &mut dyn FnMut() -> Result<(), Error>) -> Result<u64, String> {
    for served in 0.. {
        match call() {
            Ok(()) => {}
            Err(error) if error.errno() == Errno::EIO => return Ok(served * rpcs),
            Err(error) => return Err(format!("a dead server's errno is {error:?}")),
        }
    }
    Err("it never ends".to_owned())
}
