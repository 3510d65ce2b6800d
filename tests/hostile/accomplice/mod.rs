//! This program as a second process: one that changes the served directory meanwhile, one that is a
//! client until it is killed, and one that is a client of servers that are.

mod survivor;
mod victim;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

pub(crate) use self::survivor::KILLED_CONTENT;
pub(crate) use self::victim::Step;

/// The first argument of an accomplice.
const MARK: &str = "--accomplice";

/// How many milliseconds anything may take that an accomplice is to say: three times what a survivor waits
/// for its descriptors.
const PATIENCE: u16 = 30_000;

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
        b"victim" => victim::play(&paths[0]),
        b"survivor" => survivor::play(),
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

    /// What it says next. One that says nothing is killed: it hangs.
    fn line(&mut self) -> io::Result<String> {
        if self.stdout.buffer().is_empty() {
            let mut readable = [PollFd::new(
                self.stdout.get_ref().as_fd(),
                PollFlags::POLLIN,
            )];
            if poll(&mut readable, PollTimeout::from(PATIENCE))? == 0 {
                self.child.kill()?;
                let hangs = format!("the accomplice hangs: nothing in {PATIENCE} ms");
                return Err(io::Error::new(io::ErrorKind::TimedOut, hangs));
            }
        }
        // Lines are written as a whole.
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Somebody who exchanges paths, pair by pair.
    pub(crate) fn exchanging(paths: &[&Path]) -> io::Result<Accomplice> {
        Accomplice::start("exchange", paths)
    }

    /// Somebody who is about to be a client of the server that listens on `socket`, and is there to be
    /// killed.
    pub(crate) fn victim_of(socket: &Path) -> io::Result<Accomplice> {
        Accomplice::start("victim", &[socket])
    }

    /// Kills a victim, and returns what each of its threads was at.
    ///
    /// # Errors
    /// When it had ended by itself, among others.
    pub(crate) fn kill(mut self) -> io::Result<Vec<Step>> {
        self.child.kill()?;
        let status = self.child.wait()?;
        if status.signal() != Some(Signal::SIGKILL as i32) {
            return Err(io::Error::other(format!("the victim has ended: {status}")));
        }
        let mut diary = Vec::new();
        self.stdout.read_to_end(&mut diary)?;
        Ok(victim::last_steps(&diary))
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
