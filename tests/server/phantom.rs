//! A back end without files: every name exists, and its first letter says what it is. What the
//! runtime does to ids, nodes and locks can be seen without a host in the way.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use flipcall::SharedBytes;
use lisafs::Errno;
use lisafs::server::{
    BoundSocketFdImpl, ControlFdImpl, Creation, DirentRequest, Donation, Exclusive, FdShared,
    Global, Guarded, Mounted, OpenFdImpl, OpenFlags, RenameFlags, RenameOutcome, ServerImpl,
    ServerOpts, Shared,
};
use lisafs::wire::{DEFAULT_MAX_MESSAGE_SIZE, Dirent64, DirentWriter, Mid, Name, Statx, messages};

use crate::DEADLINE;

/// What gets a name like this takes its time, but less than a rename may have for itself.
const SLOW: &[u8] = b"d-slow";
const SLOWLY: Duration = Duration::from_millis(400);

/// What the back end shares with the test.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// What happened, in order.
    pub(crate) events: Mutex<Vec<String>>,
    /// Somebody else has put regular files where directories were.
    pub(crate) replaced: AtomicBool,
    /// How many nodes there are in memory, in the tree or not.
    pub(crate) nodes: AtomicUsize,
    stuck: Mutex<Stuck>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Stuck {
    inside: usize,
    /// All may go on.
    released: bool,
    /// Those that hang in a walk may.
    released_walks: bool,
}

impl Stage {
    fn note(&self, event: String) {
        self.events.lock().unwrap().push(event);
    }

    /// Waits until `count` requests hang in the back end.
    pub(crate) fn wait_until_stuck(&self, count: usize) {
        let stuck = self.stuck.lock().unwrap();
        let (stuck, outcome) = self
            .changed
            .wait_timeout_while(stuck, DEADLINE, |stuck| stuck.inside < count)
            .unwrap();
        let inside = stuck.inside;
        // Those who hang use it when they are let go on.
        drop(stuck);
        assert!(!outcome.timed_out(), "only {inside} of {count} hang");
    }

    /// Lets the requests that hang go on.
    pub(crate) fn release(&self) {
        self.stuck.lock().unwrap().released = true;
        self.changed.notify_all();
    }

    /// Lets the walks that hang go on.
    pub(crate) fn release_walks(&self) {
        self.stuck.lock().unwrap().released_walks = true;
        self.changed.notify_all();
    }

    fn hang(&self, released: impl Fn(&Stuck) -> bool) {
        let mut stuck = self.stuck.lock().unwrap();
        stuck.inside += 1;
        self.changed.notify_all();
        let mut stuck = self
            .changed
            .wait_while(stuck, |stuck| !released(stuck))
            .unwrap();
        stuck.inside -= 1;
    }
}

#[derive(Debug)]
pub(crate) struct PhantomFs {
    pub(crate) stage: Arc<Stage>,
    pub(crate) max_message_size: u32,
}

impl PhantomFs {
    pub(crate) fn on(stage: &Arc<Stage>) -> PhantomFs {
        PhantomFs {
            stage: Arc::clone(stage),
            max_message_size: DEFAULT_MAX_MESSAGE_SIZE,
        }
    }
}

#[derive(Debug)]
pub(crate) struct PhantomFile {
    stage: Arc<Stage>,
    mode: u32,
    name: Vec<u8>,
}

impl Drop for PhantomFile {
    fn drop(&mut self) {
        if self.name == b"f-hangs-at-its-end" {
            self.stage.hang(|stuck| stuck.released);
        }
    }
}

impl PhantomFile {
    fn new(stage: &Arc<Stage>, name: &[u8]) -> PhantomFile {
        let file_type = match name.first() {
            Some(b'f') => libc::S_IFREG,
            Some(b'l') => libc::S_IFLNK,
            Some(b's') => libc::S_IFSOCK,
            Some(_) if stage.replaced.load(SeqCst) => libc::S_IFREG,
            _ => libc::S_IFDIR,
        };
        PhantomFile {
            stage: Arc::clone(stage),
            mode: file_type | 0o644,
            name: name.to_vec(),
        }
    }

    fn statx(&self) -> Statx {
        Statx {
            mask: 0x7ff,
            mode: u16::try_from(self.mode).unwrap(),
            nlink: 1,
            ..Statx::default()
        }
    }

    fn made(&self, name: Name<'_>) -> Result<(PhantomFile, Statx), Errno> {
        let file = PhantomFile::new(&self.stage, name.as_bytes());
        let stat = file.statx();
        Ok((file, stat))
    }
}

impl ServerImpl for PhantomFs {
    type ControlFd = PhantomFile;
    type OpenFd = PhantomFile;
    type BoundSocketFd = PhantomSocket;
    type NodeData = OnceLock<Alive>;
    type FdLocks = Guarded;

    const NOTIFY_RENAMED: bool = true;

    fn opts(&self) -> ServerOpts {
        ServerOpts {
            set_attr_on_deleted: true,
            ..ServerOpts::default()
        }
    }

    fn supported_messages(&self) -> Vec<Mid> {
        messages()
            .map(|message| message.mid)
            .filter(|mid| *mid != Mid::FLUSH)
            .collect()
    }

    fn max_message_size(&self) -> u32 {
        self.max_message_size
    }

    fn mount(&self, at: Shared<'_, Self>) -> Result<Mounted<Self>, Errno> {
        self.stage
            .note(format!("mount {}", at.path().escape_ascii()));
        let control = PhantomFile::new(&self.stage, b"");
        Ok(Mounted {
            stat: control.statx(),
            control,
            donation: None,
        })
    }
}

/// A node on which something was held.
#[derive(Debug)]
pub(crate) struct Alive(Arc<Stage>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.nodes.fetch_sub(1, SeqCst);
    }
}

impl ControlFdImpl for PhantomFile {
    type Server = PhantomFs;

    fn placed(&mut self, node: &OnceLock<Alive>) {
        node.get_or_init(|| {
            self.stage.nodes.fetch_add(1, SeqCst);
            Alive(Arc::clone(&self.stage))
        });
    }

    fn stat(&self, _at: FdShared<'_, PhantomFs>) -> Result<Statx, Errno> {
        if self.name == b"f-hangs" {
            self.stage.hang(|stuck| stuck.released);
        }
        Ok(self.statx())
    }

    fn walk(
        &self,
        _at: Shared<'_, PhantomFs>,
        name: Name<'_>,
    ) -> Result<(PhantomFile, Statx), Errno> {
        match name.as_bytes() {
            b"absent" => Err(Errno::ENOENT),
            b"denied" => Err(Errno::EACCES),
            b"hangs" => {
                self.stage.hang(|stuck| stuck.released_walks);
                self.made(name)
            }
            _ => self.made(name),
        }
    }

    fn open(&self, at: Shared<'_, PhantomFs>, _flags: OpenFlags) -> Result<PhantomFile, Errno> {
        self.stage
            .note(format!("open {}", at.path().escape_ascii()));
        Ok(PhantomFile::new(&self.stage, &self.name))
    }

    fn mkdir(
        &self,
        _at: Exclusive<'_, PhantomFs>,
        name: Name<'_>,
        _creation: Creation,
    ) -> Result<(PhantomFile, Statx), Errno> {
        if name.as_bytes().starts_with(SLOW) {
            thread::sleep(SLOWLY);
        }
        self.made(name)
    }

    fn bind_at(
        &self,
        at: Exclusive<'_, PhantomFs>,
        name: Name<'_>,
        _creation: Creation,
        _sock_type: u32,
    ) -> Result<(PhantomFile, Statx, PhantomSocket), Errno> {
        self.stage
            .note(format!("bind in {}", at.path().escape_ascii()));
        let (file, stat) = self.made(name)?;
        let (socket, peer) = UnixStream::pair().map_err(Errno::from)?;
        let waits = (name.as_bytes() == b"s-waits").then(|| (peer, Arc::clone(&self.stage)));
        Ok((file, stat, PhantomSocket { socket, waits }))
    }

    fn unlink(
        &self,
        at: Exclusive<'_, PhantomFs>,
        name: Name<'_>,
        _directory: bool,
    ) -> Result<(), Errno> {
        self.stage
            .note(format!("unlink {name:?} in {}", at.path().escape_ascii()));
        Ok(())
    }

    fn rename_at(
        &self,
        _at: Global<'_, PhantomFs>,
        _old_name: Name<'_>,
        _new_dir: &PhantomFile,
        new_name: Name<'_>,
    ) -> Result<RenameOutcome, Errno> {
        match new_name.as_bytes() {
            b"f-other-link" => return Ok(RenameOutcome::SameFile),
            b"f-hangs-on-its-way" => self.stage.hang(|stuck| stuck.released),
            slow if slow.starts_with(SLOW) => thread::sleep(SLOWLY),
            _ => {}
        }
        Ok(RenameOutcome::Renamed)
    }

    fn rename_at2(
        &self,
        _at: Global<'_, PhantomFs>,
        _old_name: Name<'_>,
        _new_dir: &PhantomFile,
        _new_name: Name<'_>,
        _flags: RenameFlags,
    ) -> Result<RenameOutcome, Errno> {
        Ok(RenameOutcome::Renamed)
    }

    fn renamed(&self, at: Shared<'_, PhantomFs>) {
        self.stage
            .note(format!("control renamed {}", at.path().escape_ascii()));
    }
}

impl OpenFdImpl for PhantomFile {
    type Server = PhantomFs;

    fn donation(&self) -> Donation<'_> {
        assert!(self.name != b"f-panics", "injected by a test");
        Donation::None
    }

    fn stat(&self, _at: FdShared<'_, PhantomFs>) -> Result<Statx, Errno> {
        Ok(self.statx())
    }

    fn sync(&self, _at: FdShared<'_, PhantomFs>) -> Result<(), Errno> {
        let name = self.name.escape_ascii();
        self.stage.note(format!("sync {name}"));
        Ok(())
    }

    /// Claims to have filled whatever it got.
    fn read(
        &self,
        _at: FdShared<'_, PhantomFs>,
        buffer: SharedBytes<'_>,
        _offset: u64,
    ) -> Result<usize, Errno> {
        Ok(buffer.len())
    }

    /// Has no end: entries of its own name, as many as are taken.
    fn getdents64(
        &self,
        _at: FdShared<'_, PhantomFs>,
        request: DirentRequest,
        entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        self.stage.note(format!("list {request:?}"));
        let entry = Dirent64 {
            ino: 1,
            dev_minor: 0,
            dev_major: 0,
            off: 0,
            d_type: libc::DT_DIR,
            name: &self.name,
        };
        while entries.push(&entry).is_ok() {}
        Ok(())
    }

    fn renamed(&self, at: Shared<'_, PhantomFs>) {
        self.stage
            .note(format!("open renamed {}", at.path().escape_ascii()));
    }
}

#[derive(Debug)]
pub(crate) struct PhantomSocket {
    socket: UnixStream,
    /// Nobody comes, and an accept waits all the same: as one does of which the client has taken back
    /// O_NONBLOCK.
    waits: Option<(UnixStream, Arc<Stage>)>,
}

impl BoundSocketFdImpl for PhantomSocket {
    type Server = PhantomFs;

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn listen(&self, _at: Shared<'_, PhantomFs>, _backlog: i32) -> Result<(), Errno> {
        Ok(())
    }

    fn accept(&self, _at: FdShared<'_, PhantomFs>) -> Result<(OwnedFd, Vec<u8>), Errno> {
        let Some((_, stage)) = &self.waits else {
            return Err(Errno::EAGAIN);
        };
        stage.note("accept".to_owned());
        // Ends with a shutdown of the socket, as accept(2).
        let _ = (&self.socket).read(&mut [0]);
        Err(Errno::EINVAL)
    }
}
