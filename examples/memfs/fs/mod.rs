//! A file system in memory: the back end.
//!
//! | | |
//! |---|---|
//! | `budget` | how much there may be: bytes and files |
//! | `inode` | a file, its attributes and its lock |
//! | `contents`, `entries`, `xattrs` | what is in a file |
//! | `position` | what a client can do at a place in the tree: [`ControlFdImpl`](lisafs::server::ControlFdImpl) |
//! | `handle` | what it can do with an open file: [`OpenFdImpl`](lisafs::server::OpenFdImpl) |
#![forbid(unsafe_code)]

mod budget;
mod contents;
mod entries;
mod handle;
mod inode;
mod position;
mod xattrs;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use lisafs::Errno;
use lisafs::server::{Guarded, Mounted, NoSockets, ServerImpl, ServerOpts, Shared};
use lisafs::wire::{Mid, Name, StatFs, messages};

use budget::Budget;
use contents::BLOCK;
use entries::{Entries, MAX_NAME};
use handle::Handle;
use inode::{Access, Body, Inode};
use position::Position;

/// The number by which statfs(2) knows the file system: "memf".
const MAGIC: u64 = 0x6d65_6d66;

/// What the messages about sockets are called. A bound socket needs a name on the host, and memory has
/// none.
const SOCKETS: [Mid; 5] = [
    Mid::BIND_AT,
    Mid::LISTEN,
    Mid::ACCEPT,
    Mid::CONNECT,
    Mid::CONNECT_WITH_CREDS,
];

/// How much a file system may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes: contents in blocks of 4096, and 512 to 1024 for each name and each file.
    pub(crate) bytes: u64,
    /// Files, whatever their type.
    pub(crate) files: u64,
}

/// A file system. Clones are the same one, each for a connection; all of them belong to one
/// [`Server`](lisafs::server::Server), whose locks order what concerns more than one file.
#[derive(Clone, Debug)]
pub(crate) struct MemFs {
    volume: Arc<Volume>,
    root: Arc<Inode>,
}

/// What all files of a file system share.
#[derive(Debug)]
pub(crate) struct Volume {
    bytes: Arc<Budget>,
    files: Arc<Budget>,
    device: u32,
    last_inode: AtomicU64,
    /// Whose files are that nobody is named for: user and group.
    owner: (u32, u32),
}

impl Volume {
    fn next_inode(&self) -> u64 {
        self.last_inode.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn stat_fs(&self) -> StatFs {
        let blocks_free = self.bytes.free() / BLOCK;
        StatFs {
            kind: MAGIC,
            block_size: BLOCK.cast_signed(),
            blocks: self.bytes.limit() / BLOCK,
            blocks_free,
            blocks_available: blocks_free,
            files: self.files.limit(),
            files_free: self.files.free(),
            name_length: MAX_NAME as u64,
        }
    }
}

impl MemFs {
    /// An empty directory, owned by root with mode 0755.
    ///
    /// # Errors
    /// ENOSPC if `limits` are too low even for that.
    pub(crate) fn new(limits: Limits) -> Result<MemFs, Errno> {
        static DEVICES: AtomicU32 = AtomicU32::new(1);
        let volume = Volume {
            bytes: Budget::new(limits.bytes),
            files: Budget::new(limits.files),
            device: DEVICES.fetch_add(1, Ordering::Relaxed),
            last_inode: AtomicU64::new(0),
            owner: (0, 0),
        };
        let access = Access {
            permissions: 0o755,
            uid: volume.owner.0,
            gid: volume.owner.1,
        };
        let root = Inode::new(&volume, access, Body::Directory(Entries::default()))?;
        Ok(MemFs {
            volume: Arc::new(volume),
            root,
        })
    }
}

impl ServerImpl for MemFs {
    type ControlFd = Position;
    type OpenFd = Handle;
    type BoundSocketFd = NoSockets<MemFs>;
    type NodeData = ();
    type FdLocks = Guarded;

    /// A file is its inode and not its name, so that one without a name does all that others do.
    fn opts(&self) -> ServerOpts {
        ServerOpts {
            walk_stat_supported: false,
            set_attr_on_deleted: true,
            allocate_on_deleted: true,
            open_on_deleted: true,
        }
    }

    fn supported_messages(&self) -> Vec<Mid> {
        messages()
            .map(|message| message.mid)
            .filter(|mid| *mid != Mid::FLUSH && !SOCKETS.contains(mid))
            .collect()
    }

    fn mount(&self, at: Shared<'_, MemFs>) -> Result<Mounted<MemFs>, Errno> {
        let mut inode = Arc::clone(&self.root);
        for name in at.path().split(|byte| *byte == b'/') {
            if !name.is_empty() {
                let name = Name::new(name)?;
                inode = inode.look_in(|entries| entries.get(name))?;
            }
        }
        let stat = inode.stat();
        Ok(Mounted {
            control: Position::new(inode),
            stat,
            donation: None,
        })
    }
}
