//! Whose turn it is to make and remove names of sockets in a directory.
//!
//! bind(2) gives a socket its name before listen(2) has it answer, and unlink(2) removes whatever has the
//! name by then. Two servers that start at once, or one that starts while another ends, could each take
//! the other's socket for one that was left behind. So the directory is locked over all of it.
//!
//! Whoever may read the directory can lock it for good, and whoever starts a server under flock(1) has it
//! inherit such a lock. A turn of a server takes microseconds; what lasts longer is none, and done without.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use tracing::warn;

/// How long others get: a turn takes microseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How often to look whether they are done.
const PAUSE: Duration = Duration::from_millis(5);

/// The lock, which goes when this is dropped, or the process ends. No file is made for it.
#[derive(Debug)]
pub(crate) struct Turn {
    /// `None` where there is no lock to be had: the directory may not be read, its file system has none,
    /// or somebody keeps it. That is no reason not to serve.
    _directory: Option<File>,
}

impl Turn {
    /// flock(2) on the directory that the name at `path` is in, or nothing once others have had their
    /// time.
    pub(crate) fn take(path: &Path) -> Turn {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let opened = OpenOptions::new()
            .read(true)
            // A FIFO would be waited for.
            .custom_flags(libc::O_DIRECTORY)
            .open(directory);
        Turn {
            _directory: opened.ok().and_then(|opened| lock(opened, directory)),
        }
    }
}

/// `None` if that does not work, or takes too long.
fn lock(opened: File, directory: &Path) -> Option<File> {
    let start = Instant::now();
    loop {
        match opened.try_lock() {
            Ok(()) => return Some(opened),
            Err(TryLockError::Error(_)) => return None,
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                warn!(
                    directory = %directory.display(),
                    "somebody keeps this directory locked, in which servers make and remove sockets one \
                     after the other: lslocks(8) says who; it is not waited for"
                );
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_turn_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Turn::take(&dir.path().join("a"));
        assert!(first._directory.is_some());
        assert!(Turn::take(&dir.path().join("b"))._directory.is_none());
        drop(first);
        assert!(Turn::take(&dir.path().join("b"))._directory.is_some());
    }

    #[test]
    fn what_cannot_be_locked_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [fifo.join("s"), dir.path().join("none/s")] {
            assert!(Turn::take(&path)._directory.is_none());
        }
        let here = Turn::take(Path::new("s"));
        assert!(here._directory.is_some());
    }
}
