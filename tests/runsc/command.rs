//! Running a program to its end, which comes in any case.

use std::convert::Infallible;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// How a program ended and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// What it printed, if it was content.
    pub(crate) fn success(self) -> Result<String, String> {
        if self.status.success() {
            Ok(self.stdout)
        } else {
            Err(format!("{}\n{}{}", self.status, self.stdout, self.stderr))
        }
    }
}

/// Runs the program in a process group of its own, which is killed after `limit`.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Finished, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let stdout = child.stdout.take().map(read);
    let stderr = child.stderr.take().map(read);
    let (status, in_time) = wait(&mut child, limit)?;
    let [stdout, stderr] = [stdout, stderr].map(|said| said.map_or_else(String::new, Said::text));
    if in_time {
        Ok(Finished {
            status,
            stdout,
            stderr,
        })
    } else {
        Err(format!(
            "{command:?} took longer than {limit:?}:\n{stdout}{stderr}"
        ))
    }
}

/// What a program says on a pipe.
struct Said {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Disconnected at the end of it.
    end: mpsc::Receiver<Infallible>,
}

impl Said {
    /// All of it; but a daemon that the program has left may hold the pipe open: what came until then
    /// has to do.
    fn text(self) -> String {
        let _ = self.end.recv_timeout(Duration::from_secs(5));
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn read(mut stream: impl Read + Send + 'static) -> Said {
    let bytes = Arc::<Mutex<Vec<u8>>>::default();
    let (reads, end) = mpsc::channel();
    let said = Said {
        bytes: Arc::clone(&bytes),
        end,
    };
    thread::spawn(move || {
        let _reads = reads;
        let mut piece = [0; 8192];
        loop {
            match stream.read(&mut piece) {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(len) => {
                    let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                    bytes.extend(piece.iter().take(len));
                }
            }
        }
    });
    said
}

/// Waits for a process that leads a group; after `limit`, kills the group. Says how it ended and
/// whether by itself.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<(ExitStatus, bool), String> {
    let leader = Pid::from_raw(i32::try_from(child.id()).map_err(|error| error.to_string())?);
    let (ended, watch) = mpsc::channel();
    let watchdog = thread::spawn(move || {
        let in_time = watch.recv_timeout(limit).is_ok();
        if !in_time {
            let _ = killpg(leader, Signal::SIGKILL);
        }
        in_time
    });
    // Not reaped before the watchdog is off: the id must not become that of another process.
    let _ = waitid(Id::Pid(leader), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
    let _ = ended.send(());
    let in_time = watchdog.join().unwrap_or(false);
    let status = child.wait().map_err(|error| error.to_string())?;
    Ok((status, in_time))
}
