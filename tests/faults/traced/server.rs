//! The server in a process of its own, so that this one can trace it, and what it holds.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::wire::Mid;
use nix::errno::Errno;
use nix::unistd::Pid;
use tempfile::TempDir;

use super::call::{Probed, is_certain};
use super::scenario::{MOUNT_POINT, Setting};
use super::serving::{MARK, MAY_NOT, argument};
use super::tracer::{Injection, Traced, Trail};

/// How long a server gets to give back what a connection held. Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server holds.
#[derive(Clone, Debug)]
pub(crate) struct Census {
    /// Connections, channels, ids, objects and nodes.
    pub(crate) counts: String,
    /// What its descriptors lead to, sorted.
    pub(crate) descriptors: Vec<String>,
    pub(crate) threads: usize,
    /// The first request that was served since the last census.
    pub(crate) first: Mid,
}

impl Census {
    /// Whether the same is held.
    fn is_as(&self, other: &Census) -> bool {
        let held = |census: &Census| {
            (
                census.counts.clone(),
                census.descriptors.clone(),
                census.threads,
            )
        };
        held(self) == held(other)
    }
}

/// A process that serves a directory. Killed when dropped.
pub(crate) struct Served {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    dir: TempDir,
    /// What it holds when nobody is connected.
    idle: Option<Census>,
}

impl Served {
    /// Starts it. It serves from [`begin`](Self::begin) on.
    pub(crate) fn start(setting: Setting) -> io::Result<Served> {
        // Not in memory as a rule, where older kernels have no extended attributes.
        let dir = tempfile::Builder::new()
            .prefix("faults")
            .tempdir_in("/var/tmp")?;
        let root = dir.path().join("root");
        fs::create_dir(&root)?;
        if setting == Setting::Mounted {
            fs::create_dir(root.join(MOUNT_POINT))?;
        }
        let mut child = Command::new(std::env::current_exe()?)
            .arg(MARK)
            .args([&root, &dir.path().join("socket")])
            .arg(argument(setting))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What is half created and stays is logged there, and is looked for in the tree.
            .stderr(Stdio::null())
            .spawn()?;
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let stdin = child.stdin.take().ok_or_else(broken)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(broken)?);
        Ok(Served {
            child,
            stdin,
            stdout,
            dir,
            idle: None,
        })
    }

    /// Has it begin to serve on a kernel that lacks these calls. It finds out about that now.
    ///
    /// # Errors
    /// PermissionDenied if it may not mount.
    pub(crate) fn begin(&mut self, lacks: &[Probed]) -> io::Result<()> {
        let injections: Vec<_> = lacks
            .iter()
            .map(|probed| Injection {
                number: probed.number,
                occurrence: None,
                errno: Errno::ENOSYS,
            })
            .collect();
        let trail = self.watch_begin(&injections)?;
        let is_asked_for = |probed: &&Probed| trail.calls.contains(&probed.number);
        if let Some(Probed { name, .. }) = lacks.iter().find(|probed| !is_asked_for(probed)) {
            return Err(io::Error::other(format!("{name} is not asked for")));
        }
        if let Some(number) = trail.calls.iter().find(|number| !is_certain(**number)) {
            return Err(io::Error::other(format!("call {number} may be missing")));
        }
        // What is only opened for the first client is no leak.
        drop(self.connect()?);
        let mut last = None;
        let alone = self.wait(|now| {
            // Main and who accepts, and the socket of that. The thread of a connection ends, and gives
            // back what it had, a moment after the connection is counted no more.
            let is_socket = |target: &&String| target.starts_with("socket:");
            let sockets = now.descriptors.iter().filter(is_socket).count();
            let same = last
                .replace(now.clone())
                .is_some_and(|last| last.is_as(now));
            same && now.counts.starts_with("0 ") && (now.threads, sockets) == (2, 1)
        })?;
        if !alone {
            return Err(io::Error::other("it does not come to rest"));
        }
        self.idle = last;
        Ok(())
    }

    /// Whether it asks this kernel for all of the calls when it begins to serve. Instead of
    /// [`begin`](Self::begin).
    pub(crate) fn asks_for(mut self, probed: &[Probed]) -> io::Result<bool> {
        let calls = self.watch_begin(&[])?.calls;
        Ok(probed.iter().all(|probed| calls.contains(&probed.number)))
    }

    fn watch_begin(&mut self, injections: &[Injection]) -> io::Result<Trail> {
        const STDOUT: u64 = 1;
        let traced = Traced::seize(self.pid(), Some(STDOUT))?;
        thread::scope(|scope| {
            let asking = scope.spawn(|| self.ask());
            let trail = traced.follow(injections)?;
            let said = asking.join();
            said.map_err(|_| io::Error::other("asking has panicked"))??;
            Ok(trail)
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.dir.path().join("socket"))
    }

    /// Whether it ends itself at once.
    pub(crate) fn aborts(&mut self) -> io::Result<bool> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.signal() == Some(libc::SIGABRT));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(false)
    }

    fn ask(&mut self) -> io::Result<String> {
        writeln!(self.stdin)?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        match line.trim_end() {
            "" => Err(io::Error::other("the server has ended")),
            MAY_NOT => Err(io::ErrorKind::PermissionDenied.into()),
            line => Ok(line.to_owned()),
        }
    }

    /// The threads that it has now.
    pub(crate) fn threads(&self) -> io::Result<Vec<Pid>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid()))?;
        let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
        Ok(ids.map(Pid::from_raw).collect())
    }

    /// Whether it is a thread of a connection, by its name, and not one that watches them all.
    pub(crate) fn is_for_a_client(&self, thread: Pid) -> bool {
        let name = fs::read_to_string(format!("/proc/{}/task/{thread}/comm", self.pid()));
        name.is_ok_and(|name| name.starts_with("connection"))
    }

    pub(crate) fn census(&mut self) -> io::Result<Census> {
        let answer = self.ask()?;
        let (counts, first) = answer.split_once(';').ok_or(io::ErrorKind::InvalidData)?;
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid()))?;
        let mut descriptors: Vec<_> = entries
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .map(|target| target.display().to_string())
            .collect();
        descriptors.sort();
        Ok(Census {
            counts: counts.to_owned(),
            descriptors,
            threads: self.threads()?.len(),
            first: Mid(first.parse().map_err(io::Error::other)?),
        })
    }

    fn wait(&mut self, mut reached: impl FnMut(&Census) -> bool) -> io::Result<bool> {
        let since = Instant::now();
        loop {
            if reached(&self.census()?) {
                return Ok(true);
            }
            if since.elapsed() > PATIENCE {
                return Ok(false);
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits until it holds no more than when nobody is connected, and says what it keeps otherwise.
    pub(crate) fn settle(&mut self) -> io::Result<Result<(), String>> {
        let idle = self.idle.clone();
        if self.wait(|now| idle.as_ref().is_some_and(|idle| idle.is_as(now)))? {
            return Ok(Ok(()));
        }
        let now = self.census()?;
        Ok(Err(format!("it holds {now:?} and not {idle:?}")))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
