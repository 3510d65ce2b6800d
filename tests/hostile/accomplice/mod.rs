//! This program as a second process: one that changes the served directory meanwhile, and one that
//! is a client until it is killed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::Errno;
use lisafs::client::{Client, ClientOptions, Create, Error};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::signal::Signal;

/// The first argument of an accomplice.
const MARK: &str = "--accomplice";

/// How many bytes the file has that is read while servers are killed.
pub(crate) const KILLED_CONTENT: usize = 50_000;

/// Plays an accomplice if this process is to be one.
pub(crate) fn called() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != MARK {
        return None;
    }
    // It ends with the suite, however that ends.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let part = words.next().unwrap();
    let paths: Vec<PathBuf> = words.map(PathBuf::from).collect();
    match part.as_bytes() {
        b"exchange" => exchange(&paths),
        b"client" => client(&paths[0]),
        b"survivor" => survivor(),
        part => panic!("no such part: {part:?}"),
    }
    Some(ExitCode::SUCCESS)
}

/// Exchanges each two of the paths again and again, until its standard input ends; then says how
/// often.
fn exchange(paths: &[PathBuf]) {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    thread::spawn(move || {
        // It ends when the suite says so, or is gone.
        let _ = io::stdin().read(&mut [0]);
        told.store(true, Relaxed);
    });
    let mut count = 0_u64;
    println!("ready");
    while !over.load(Relaxed) {
        for pair in paths.chunks_exact(2) {
            let flags = RenameFlags::RENAME_EXCHANGE;
            // Either may be away for a moment.
            let exchanged = renameat2(AT_FDCWD, &pair[0], AT_FDCWD, &pair[1], flags);
            count += u64::from(exchanged.is_ok());
        }
    }
    // The suite may not care any more.
    let _ = writeln!(io::stdout(), "{count}");
}

/// Uses a server in every way, over channels and without, until it is killed.
fn client(socket: &Path) {
    let connect = |channels| {
        let stream = UnixStream::connect(socket).unwrap();
        let options = ClientOptions::new().channels(channels);
        options.from_stream(stream).unwrap()
    };
    let clients = [connect(2), connect(0)];
    println!("ready");
    let clients = &clients;
    thread::scope(|scope| {
        for number in 0..3 {
            scope.spawn(move || {
                loop {
                    // What others are at may be in the way.
                    let _ = work(&clients[number % 2], number);
                }
            });
        }
    });
}

fn work(client: &Client, number: usize) -> Result<(), lisafs::client::Error> {
    let root = client.root();
    let name = format!("of {} {number}", std::process::id());
    let dir = root.mkdir(&name, Create::mode(0o755))?;
    for round in 0..10 {
        let (_, open) = dir.create(format!("{round}"), Create::mode(0o644), libc::O_RDWR)?;
        open.write_at(&[7; 5000], 0)?;
        open.read_at(&mut [0; 9000], 0)?;
        dir.rename(format!("{round}"), &dir, "renamed", 0)?;
        dir.walk_stat(&["renamed"])?;
        dir.unlink("renamed", 0)?;
    }
    root.unlink(&name, libc::AT_REMOVEDIR)
}

/// Is a client of one server after the other, each until that is killed. Reads the path of a socket,
/// says that it is at work, and when it has lost the server what has come of it: how many requests were
/// answered, and how many descriptors it has more than before.
fn survivor() {
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

/// A second process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Accomplice {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Accomplice {
    fn start(part: &str, paths: &[&Path]) -> io::Result<Accomplice> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([MARK, part])
            .args(paths)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut accomplice = Accomplice {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        match accomplice.line()?.as_str() {
            "ready" => Ok(accomplice),
            other => Err(io::Error::other(format!("the accomplice says {other:?}"))),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Somebody who exchanges paths, pair by pair.
    pub(crate) fn exchanging(paths: &[&Path]) -> io::Result<Accomplice> {
        Accomplice::start("exchange", paths)
    }

    /// A client of the server that listens on `socket`.
    pub(crate) fn client_of(socket: &Path) -> io::Result<Accomplice> {
        Accomplice::start("client", &[socket])
    }

    /// Somebody who is a client of servers that are killed.
    pub(crate) fn surviving() -> io::Result<Accomplice> {
        Accomplice::start("survivor", &[])
    }

    /// Gives a survivor the next server, and returns when it is at work.
    pub(crate) fn meet(&mut self, socket: &Path) -> io::Result<()> {
        let mut stdin = self.stdin.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(stdin, "{}", socket.display())?;
        match self.line()?.as_str() {
            "at work" => Ok(()),
            other => Err(io::Error::other(other.to_owned())),
        }
    }

    /// What a survivor says now that its server is gone: how many requests were answered, and how
    /// many descriptors it has kept.
    pub(crate) fn report(&mut self) -> io::Result<(u64, u64)> {
        let line = self.line()?;
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(served)), Some(Ok(kept))) => Ok((served, kept)),
            _ => Err(io::Error::other(line)),
        }
    }

    /// Has the exchanges end, and returns how many there were.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        drop(self.stdin.take());
        let line = self.line()?;
        line.parse().map_err(io::Error::other)
    }
}

impl Drop for Accomplice {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
