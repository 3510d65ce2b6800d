//! Whose turn it is to make and remove names of sockets in a directory.
//!
//! bind(2) gives a socket its name before listen(2) has it answer, and unlink(2) removes whatever has the
//! name by then. Two servers that start at once, or one that starts while another ends, could each take
//! the other's socket for one that was left behind. So the directory is locked over all of it.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;

/// How long others get: a turn takes microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often to look whether they are done.
const PAUSE: Duration = Duration::from_millis(5);

/// The lock, which goes when this is dropped, or the process ends. No file is made for it.
#[derive(Debug)]
pub(crate) struct Turn {
    /// `None` where there is no lock to be had: the directory may not be read, or its file system has
    /// none. That is no reason not to serve.
    _directory: Option<File>,
}

/// Somebody has locked the directory, and for longer than a turn takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    pub(crate) directory: PathBuf,
}

impl Turn {
    /// flock(2) on the directory that the name at `path` is in.
    ///
    /// # Errors
    /// If somebody keeps it locked.
    pub(crate) fn take(path: &Path) -> Result<Turn, Locked> {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let opened = OpenOptions::new()
            .read(true)
            // A FIFO would be waited for.
            .custom_flags(libc::O_DIRECTORY)
            .open(directory);
        let Ok(opened) = opened else {
            return Ok(Turn { _directory: None });
        };
        let start = Instant::now();
        loop {
            match opened.try_lock() {
                Ok(()) => {
                    return Ok(Turn {
                        _directory: Some(opened),
                    });
                }
                Err(TryLockError::Error(_)) => return Ok(Turn { _directory: None }),
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(Locked {
                        directory: directory.to_owned(),
                    });
                }
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
        let first = Turn::take(&dir.path().join("a")).unwrap();
        assert!(first._directory.is_some());
        let refused = Turn::take(&dir.path().join("b")).unwrap_err();
        assert_eq!(refused.directory, dir.path());
        drop(first);
        assert!(Turn::take(&dir.path().join("b")).is_ok());
    }

    #[test]
    fn what_cannot_be_locked_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [fifo.join("s"), dir.path().join("none/s")] {
            assert!(Turn::take(&path).unwrap()._directory.is_none());
        }
        let here = Turn::take(Path::new("s")).unwrap();
        assert!(here._directory.is_some());
    }
}
