//! The tree that is mounted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use fuser::{FileAttr, FileHandle, InitFlags, KernelConfig, TimeOrNow};
use lisafs::Errno;
use lisafs::client::{Client, SetAttributes};
use lisafs::wire::{Gid, Mid, StatFs, Statx, Uid};
use nix::unistd::{ftruncate, geteuid};
use parking_lot::Mutex;

use super::attributes::{attributes, time_to_set};
use super::backing::Backings;
use super::content::Opened;
use super::handles::Handles;
use super::inodes::Inodes;
use super::listing::Listing;
use super::policy::{Io, Policy};
use super::refusal::Refusal;

/// How much data a request carries at the most, in bytes.
const LARGEST: u32 = 1 << 20;

/// A server's tree, and what the kernel knows of it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) client: Client,
    pub(super) policy: Policy,
    pub(super) inodes: Inodes,
    pub(super) files: Handles<Opened>,
    pub(super) dirs: Handles<Mutex<Listing>>,
    pub(super) backings: Backings,
    /// Whether the kernel can do I/O by itself; known once it has said what it can do.
    passthrough: Arc<AtomicBool>,
}

/// What to change of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changes {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) atime: Option<TimeOrNow>,
    pub(super) mtime: Option<TimeOrNow>,
}

impl Tree {
    pub(super) fn new(client: &Client, policy: Policy) -> Tree {
        Tree {
            client: client.clone(),
            policy,
            inodes: Inodes::new(client.root()),
            files: Handles::new(),
            dirs: Handles::new(),
            backings: Backings::default(),
            passthrough: Arc::default(),
        }
    }

    /// Whether the kernel does I/O by itself, from the start of the session on.
    pub(super) fn passthrough(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.passthrough)
    }

    /// Agrees with the kernel on who does what.
    pub(super) fn agree(&self, config: &mut KernelConfig) {
        let mut wanted = InitFlags::FUSE_AUTO_INVAL_DATA
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_CACHE_SYMLINKS
            // Numbers are good for as long as the kernel keeps them, and NFS would for longer.
            | InitFlags::FUSE_NO_EXPORT_SUPPORT;
        if self.policy.writeback {
            wanted |= InitFlags::FUSE_WRITEBACK_CACHE;
        } else if self.policy.io == Io::Passthrough && geteuid().is_root() {
            // Nobody else can register a descriptor.
            wanted |= InitFlags::FUSE_PASSTHROUGH;
        }
        let offered = wanted & config.capabilities();
        // Nothing is refused of what is offered, nor these two sizes.
        let _ = config.add_capabilities(offered);
        let _ = config.set_max_write(LARGEST);
        if offered.contains(InitFlags::FUSE_PASSTHROUGH) {
            // Of what is no stack itself.
            self.passthrough
                .store(config.set_max_stack_depth(1).is_ok(), Relaxed);
        }
    }

    pub(super) fn passes_through(&self) -> bool {
        self.passthrough.load(Relaxed)
    }

    /// Does what may need another id or descriptor of the server. If it lets us have no more, it is
    /// done again with fewer in our hands.
    pub(super) fn with_room<T>(
        &self,
        mut what: impl FnMut() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        match what() {
            Err(why) if why.is(Errno::EMFILE) && self.inodes.shed() => {
                self.client.flush_closes();
                what()
            }
            done => done,
        }
    }

    /// The attributes of a file now.
    pub(super) fn stat(&self, number: u64) -> Result<FileAttr, Refusal> {
        let stat = match self.inodes.file(number)?.stat() {
            Ok(stat) => stat,
            // Somebody else has removed it. Who has it open still has it.
            Err(why) if why.errno() == Errno::ESTALE => {
                let open = self.files.find(|open| open.number == number);
                open.ok_or(Refusal::STALE)?.open.stat()?
            }
            Err(why) => return Err(why.into()),
        };
        self.seen(number, &stat)
    }

    /// What the kernel is told of attributes that were just found.
    fn seen(&self, number: u64, stat: &Statx) -> Result<FileAttr, Refusal> {
        self.inodes.saw(number, stat);
        attributes(self.inodes.shown(number), stat)
    }

    /// Changes attributes; of the file itself, or of one that is open.
    pub(super) fn change(
        &self,
        number: u64,
        handle: Option<FileHandle>,
        mut changes: Changes,
    ) -> Result<FileAttr, Refusal> {
        if let (Some(handle), Some(size)) = (handle, changes.size)
            && self.truncate_open(handle, size)?
        {
            changes.size = None;
        }
        let request = changes.request();
        if request != SetAttributes::new() {
            self.inodes.file(number)?.set_stat(&request)?;
        }
        self.stat(number)
    }

    /// Sets the length of an open file on the descriptor that was donated. That works whatever its
    /// mode is by now, for a server without privileges as well. Not done without such a descriptor.
    fn truncate_open(&self, handle: FileHandle, size: u64) -> Result<bool, Refusal> {
        let opened = self.files.get(handle)?;
        let Some(donated) = opened.donated_for_writing(self.policy.io) else {
            return Ok(false);
        };
        ftruncate(donated, i64::try_from(size).map_err(|_| Refusal::INVALID)?)?;
        Ok(true)
    }

    pub(super) fn stat_fs(&self, number: u64) -> Result<StatFs, Refusal> {
        Ok(self.inodes.file(number)?.stat_fs()?)
    }

    pub(super) fn supports(&self, mid: Mid) -> bool {
        self.client.supports(mid)
    }
}

impl Changes {
    fn request(self) -> SetAttributes {
        let mut request = SetAttributes::new();
        if let Some(mode) = self.mode {
            request = request.mode(mode);
        }
        if let Some(uid) = self.uid {
            request = request.uid(Uid(uid));
        }
        if let Some(gid) = self.gid {
            request = request.gid(Gid(gid));
        }
        if let Some(size) = self.size {
            request = request.size(size);
        }
        if let Some(atime) = self.atime {
            request = request.atime(time_to_set(atime));
        }
        if let Some(mtime) = self.mtime {
            request = request.mtime(time_to_set(mtime));
        }
        request
    }
}
