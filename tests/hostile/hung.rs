//! A file system whose server stops answering.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyOpen, Request, Session, SessionACL, TimeOrNow,
};
use lisafs_conformance::Stop;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// A regular file, in its root and in each of its directories.
pub(crate) const NAME: &str = "file";

/// Its directories, besides. What changes something in a directory keeps others from it in the kernel.
pub(crate) const DIRECTORIES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The inode of what is `name` in `parent`. Directories are even, and the file in one is next to it.
fn find(parent: INodeNo, name: &OsStr) -> Option<INodeNo> {
    let directory = if parent == INodeNo::ROOT { 0 } else { parent.0 };
    if name == NAME {
        return Some(INodeNo(directory + 3));
    }
    let number = DIRECTORIES.iter().position(|known| name == *known)?;
    let is_root = parent == INodeNo::ROOT;
    is_root.then_some(INodeNo(10 + 2 * number as u64))
}

fn is_directory(inode: INodeNo) -> bool {
    inode == INodeNo::ROOT || inode.0.is_multiple_of(2)
}

/// Nothing is remembered by the kernel.
const NEVER: Duration = Duration::ZERO;

/// A request that is not answered. What drops it answers EIO.
enum Asked {
    Entry(ReplyEntry),
    Attr(ReplyAttr),
    Open(ReplyOpen),
    Data(ReplyData),
    Empty(ReplyEmpty),
}

#[derive(Default)]
struct State {
    hangs: bool,
    asked: Vec<Asked>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    one_more: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the request if it is not to be answered, and returns it otherwise.
    fn hang(&self, asked: Asked) -> Option<Asked> {
        let mut state = self.state();
        if !state.hangs {
            return Some(asked);
        }
        state.asked.push(asked);
        self.one_more.notify_all();
        None
    }
}

struct Served(Arc<Shared>);

fn attributes(inode: INodeNo) -> FileAttr {
    let time = SystemTime::UNIX_EPOCH;
    let (kind, perm) = if is_directory(inode) {
        (FileType::Directory, 0o755)
    } else {
        (FileType::RegularFile, 0o644)
    };
    FileAttr {
        ino: inode,
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink: 1,
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Served {
    /// Nothing changes here.
    fn refuse(&self, reply: ReplyEmpty) {
        if let Some(Asked::Empty(reply)) = self.0.hang(Asked::Empty(reply)) {
            reply.error(fuser::Errno::EPERM);
        }
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if let Some(Asked::Entry(reply)) = self.0.hang(Asked::Entry(reply)) {
            match find(parent, name) {
                Some(inode) => reply.entry(&NEVER, &attributes(inode), Generation(0)),
                None => reply.error(fuser::Errno::ENOENT),
            }
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(Asked::Attr(reply)) = self.0.hang(Asked::Attr(reply)) {
            reply.attr(&NEVER, &attributes(inode));
        }
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        self.refuse(reply);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.refuse(reply);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if let Some(Asked::Attr(reply)) = self.0.hang(Asked::Attr(reply)) {
            reply.attr(&NEVER, &attributes(inode));
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if let Some(Asked::Open(reply)) = self.0.hang(Asked::Open(reply)) {
            // Reads are not answered from the kernel's memory.
            reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if let Some(Asked::Data(reply)) = self.0.hang(Asked::Data(reply)) {
            reply.data(&[]);
        }
    }
}

/// Why this process has no mounts of its own, if it has none.
static NOT_ALONE: OnceLock<Errno> = OnceLock::new();

/// Leaves the mounts of this machine to others, so that none stays behind, however this process ends. To be
/// called before there is a second thread. Where that is refused, nothing is mounted: to who has not the
/// right, in a container whose profile forbids it, or below a root that is no mount.
pub(crate) fn leave_mounts_alone() -> io::Result<()> {
    const NONE: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let alone =
        unshare(CloneFlags::CLONE_NEWNS).and_then(|()| mount(NONE, "/", NONE, private, NONE));
    match alone {
        Err(errno @ (Errno::EPERM | Errno::EACCES | Errno::EINVAL)) => {
            NOT_ALONE.get_or_init(|| errno);
            Ok(())
        }
        result => Ok(result?),
    }
}

/// A directory on which it is mounted. Unmounted when dropped, and who waits for it is told EIO.
pub(crate) struct Hung {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Hung {
    /// Mounts it on a new directory.
    pub(crate) fn mount(path: &Path) -> Result<Hung, Stop> {
        if let Some(errno) = NOT_ALONE.get() {
            let why = format!("needs root, and mounts of its own: {}", errno.desc());
            return Err(Stop::skipped(why));
        }
        fs::create_dir(path)?;
        let refused = |why: io::Error| match why.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => {
                Stop::skipped("needs root and FUSE")
            }
            _ => why.into(),
        };
        let fuse = File::options().read(true).write(true).open("/dev/fuse");
        let fuse = fuse.map_err(refused)?;
        let data = format!(
            "fd={},rootmode={:o},user_id={},group_id={},allow_other",
            fuse.as_raw_fd(),
            libc::S_IFDIR,
            geteuid(),
            getegid(),
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("hung"), path, Some("fuse"), flags, Some(&data[..]))
            .map_err(|errno| refused(errno.into()))?;
        let shared = Arc::<Shared>::default();
        let hung = Hung {
            shared: Arc::clone(&shared),
            path: path.to_owned(),
        };
        let session = Session::from_fd(
            Served(shared),
            fuse.into(),
            SessionACL::All,
            Config::default(),
        )?;
        // It ends when it is unmounted.
        thread::spawn(move || session.run());
        Ok(hung)
    }

    /// It does not answer any more.
    pub(crate) fn hang(&self) {
        self.shared.state().hangs = true;
    }

    /// It answers again. Who waits for it is told EIO.
    pub(crate) fn recover(&self) {
        let asked = {
            let mut state = self.shared.state();
            state.hangs = false;
            std::mem::take(&mut state.asked)
        };
        drop(asked);
    }

    /// Waits until so many wait for an answer.
    pub(crate) fn wait_for(&self, count: usize) -> Result<(), Stop> {
        let state = self.shared.state();
        let few = |state: &mut State| state.asked.len() < count;
        let waited = self
            .shared
            .one_more
            .wait_timeout_while(state, Duration::from_secs(10), few);
        let (state, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        if outcome.timed_out() {
            let came = state.asked.len();
            return Err(Stop::failed(format_args!("only {came} of {count} came")));
        }
        Ok(())
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.recover();
        let flags = MntFlags::MNT_FORCE | MntFlags::MNT_DETACH;
        if let Err(why) = umount2(&self.path, flags) {
            eprintln!("hostile: {}: {why}", self.path.display());
        }
    }
}
