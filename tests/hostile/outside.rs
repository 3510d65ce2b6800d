//! What lies next to the served directory, and must never be reached.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lisafs::wire::Statx;
use lisafs_conformance::Stop;
use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;

/// What the marker holds.
pub(crate) const SECRET: &[u8] = b"nobody may read this";

/// The attribute that the marker and its directory have, with the same value.
pub(crate) const ATTRIBUTE: &str = "user.secret";

/// The name of every file that somebody could reach, outside and inside.
pub(crate) const FILE: &str = "file";
/// Likewise the name of every socket.
pub(crate) const SOCKET: &str = "socket";

/// Everything about an entry that an operation could change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    id: (u64, u64),
    mode: u32,
    links: u64,
    owner: (u32, u32),
    size: u64,
    modified: (i64, i64),
    /// Changes with attributes and links, too.
    changed: (i64, i64),
    content: Option<Vec<u8>>,
}

/// A directory outside the served one.
#[derive(Debug)]
pub(crate) struct Outside {
    dir: PathBuf,
    listener: UnixListener,
    /// Whether the file system has extended attributes.
    pub(crate) has_attributes: bool,
    /// What attempts have seen of it.
    seen: Mutex<Vec<String>>,
    before: BTreeMap<PathBuf, Entry>,
}

impl Outside {
    /// Fills `dir`.
    pub(crate) fn make(dir: &Path) -> io::Result<Outside> {
        fs::create_dir_all(dir.join("empty"))?;
        fs::write(dir.join(FILE), SECRET)?;
        symlink(FILE, dir.join("link"))?;
        let mark = |path: &Path| setxattr(path, ATTRIBUTE, SECRET, XattrFlags::empty());
        let has_attributes = match mark(dir).and_then(|()| mark(&dir.join(FILE))) {
            Ok(()) => true,
            Err(Errno::OPNOTSUPP) => false,
            Err(why) => return Err(why.into()),
        };
        let listener = listen(&dir.join(SOCKET))?;
        listener.set_nonblocking(true)?;
        Ok(Outside {
            dir: dir.to_owned(),
            listener,
            has_attributes,
            seen: Mutex::default(),
            before: look(dir)?,
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the attributes are those of something in here.
    pub(crate) fn holds(&self, stat: &Statx) -> bool {
        let device = nix::libc::makedev(stat.dev_major, stat.dev_minor);
        self.before
            .values()
            .any(|entry| entry.id == (device, stat.ino))
    }

    /// Whether it is this file that is open.
    pub(crate) fn is_open_as(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|file| {
            let id = (file.dev(), file.ino());
            self.before.values().any(|entry| entry.id == id)
        })
    }

    /// Notes that something of it was seen through the server, and fails the case.
    pub(crate) fn seen(&self, what: &str) -> Stop {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(format!("{what} was seen"));
        Stop::failed(what)
    }

    /// What has been seen of it, and done to it: a line for each entry.
    pub(crate) fn traces(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut traces = seen.clone();
        let after = look(&self.dir).unwrap_or_default();
        for (path, entry) in &self.before {
            match after.get(path) {
                None => traces.push(format!("{} is gone", path.display())),
                Some(now) if now != entry => {
                    traces.push(format!("{} was {entry:?}, is {now:?}", path.display()));
                }
                Some(_) => {}
            }
        }
        let new = after.keys().filter(|path| !self.before.contains_key(*path));
        traces.extend(new.map(|path| format!("{} is new", path.display())));
        if self.listener.accept().is_ok() {
            traces.push("somebody has connected to the socket".to_owned());
        }
        traces
    }
}

/// A socket at a path that may be longer than the 107 bytes of an address.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let dir = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
    UnixListener::bind(Path::new(&format!("/proc/self/fd/{number}")).join(name))
}

fn look(dir: &Path) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let mut all = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let about = fs::symlink_metadata(&path)?;
        let content = match about.file_type() {
            kind if kind.is_dir() => {
                for entry in fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
                None
            }
            kind if kind.is_file() => Some(fs::read(&path)?),
            _ => None,
        };
        let entry = Entry {
            id: (about.dev(), about.ino()),
            mode: about.mode(),
            links: about.nlink(),
            owner: (about.uid(), about.gid()),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
            content,
        };
        all.insert(path, entry);
    }
    Ok(all)
}
