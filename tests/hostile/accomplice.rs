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

use lisafs::client::{Client, ClientOptions, Create};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::signal::Signal;

/// The first argument of an accomplice.
const MARK: &str = "--accomplice";

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
