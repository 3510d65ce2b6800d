//! Files that the kernel reads and writes without asking.
//!
//! A descriptor that the server has donated can be registered with the kernel, which then does the
//! I/O of a file on it (FUSE passthrough, Linux 6.9). All that have a file open at a time have to
//! have it open in one and the same way, and on one and the same registration.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fuser::BackingId;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::fstat;
use parking_lot::Mutex;

use super::refusal::Refusal;

/// How the files that are open are read and written.
#[derive(Debug, Default)]
pub(super) struct Backings {
    open: Mutex<HashMap<u64, Usage>>,
}

#[derive(Debug)]
struct Usage {
    users: u64,
    backing: Option<Backing>,
}

#[derive(Debug)]
struct Backing {
    id: Arc<BackingId>,
    grant: Grant,
}

/// What a descriptor is good for.
///
/// The kernel opens the file of a registered descriptor again, with the flags of each open(2) and
/// with the rights of this process. A server must not get at more than it had itself by donating
/// what it could only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grant {
    /// The file, as (device, inode).
    file: (u64, u64),
    /// O_RDONLY, O_WRONLY or O_RDWR.
    mode: i32,
}

impl Backings {
    /// Counts another user of a file, with the `flags` of its open(2) and the descriptor that it got,
    /// if that may be used. Returns what is registered, if the kernel is to do the I/O.
    ///
    /// # Errors
    /// EIO if there is a registration already, and the descriptor is another file's; or if neither
    /// grants what the flags ask for.
    pub(super) fn open(
        &self,
        number: u64,
        flags: i32,
        donated: Option<BorrowedFd<'_>>,
        register: impl FnOnce(BorrowedFd<'_>) -> io::Result<BackingId>,
    ) -> Result<Option<Arc<BackingId>>, Refusal> {
        let donated = donated.and_then(|fd| Some((fd, Grant::of(fd)?)));
        let donated = donated.filter(|(_, grant)| grant.covers(flags));
        let mut open = self.open.lock();
        let usage = match open.entry(number) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                // This may not be permitted, or the host's file system be a stack of others.
                let backing = donated.and_then(|(fd, grant)| {
                    let id = Arc::new(register(fd).ok()?);
                    Some(Backing { id, grant })
                });
                entry.insert(Usage { users: 0, backing })
            }
        };
        let id = match (&usage.backing, donated) {
            (None, _) => None,
            (Some(backing), Some((_, grant))) if backing.grant.file == grant.file => {
                Some(&backing.id)
            }
            (Some(backing), None) if backing.grant.covers(flags) => Some(&backing.id),
            (Some(_), _) => return Err(Refusal::IO),
        };
        usage.users += 1;
        Ok(id.map(Arc::clone))
    }

    /// Counts a user less.
    pub(super) fn close(&self, number: u64) {
        if let Entry::Occupied(mut entry) = self.open.lock().entry(number) {
            entry.get_mut().users -= 1;
            if entry.get().users == 0 {
                entry.remove();
            }
        }
    }
}

impl Grant {
    fn of(fd: BorrowedFd<'_>) -> Option<Grant> {
        let mode = fcntl(fd, FcntlArg::F_GETFL).ok()? & libc::O_ACCMODE;
        let stat = fstat(fd).ok()?;
        Some(Grant {
            file: (stat.st_dev, stat.st_ino),
            mode,
        })
    }

    fn covers(self, flags: i32) -> bool {
        self.mode == libc::O_RDWR || self.mode == flags & libc::O_ACCMODE
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_descriptor_grants_what_it_was_opened_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let read = File::open(&path).unwrap();
        let write = File::options().write(true).open(&path).unwrap();
        let both = File::options().read(true).write(true).open(&path).unwrap();
        for (file, granted) in [
            (&read, [true, false, false]),
            (&write, [false, true, false]),
            (&both, [true, true, true]),
        ] {
            let asked = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR];
            let grant = Grant::of(file.as_fd()).unwrap();
            let covered = asked.map(|flags| grant.covers(flags | libc::O_APPEND));
            assert_eq!(covered, granted);
        }
    }
}
