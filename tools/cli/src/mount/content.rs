//! What is done with open files.

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use fuser::{BackingId, FileHandle, FopenFlags};
use lisafs::client::{ControlFile, OpenFile};
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};

use super::policy::Io;
use super::refusal::Refusal;
use super::tree::Tree;

/// The most that is copied at once: what an answer can say, in whole pages.
const LARGEST_COPY: u64 = 0x7fff_f000;

thread_local! {
    /// Where what was read waits for the kernel to copy it.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A regular file that is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) number: u64,
    pub(super) open: OpenFile,
    writable: bool,
    /// Not to be given up before.
    _file: Arc<ControlFile>,
    /// Registered for as long as the file is open.
    _backing: Option<Arc<BackingId>>,
}

impl Opened {
    /// The descriptor that was donated, if it is to be used.
    fn donated(&self, io: Io) -> Option<BorrowedFd<'_>> {
        self.open.donated_fd().filter(|_| io != Io::Server)
    }

    pub(super) fn donated_for_writing(&self, io: Io) -> Option<BorrowedFd<'_>> {
        self.donated(io).filter(|_| self.writable)
    }
}

/// What the kernel is told of a file that was opened.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) handle: FileHandle,
    pub(super) flags: FopenFlags,
    /// What to do its I/O on.
    pub(super) backing: Option<Arc<BackingId>>,
}

impl Tree {
    /// How a file is opened at the server. A kernel that writes pages back reads them first if it
    /// has only parts of them.
    pub(super) fn access(&self, flags: i32) -> i32 {
        match flags & libc::O_ACCMODE {
            libc::O_WRONLY if self.policy.writeback => libc::O_RDWR,
            access => access,
        }
    }

    /// Opens a regular file. `flags` are those of open(2).
    pub(super) fn open(&self, number: u64, flags: i32) -> Result<OpenFile, Refusal> {
        Ok(self.inodes.file(number)?.open(self.access(flags))?)
    }

    /// Takes an open file in.
    pub(super) fn admit(
        &self,
        number: u64,
        flags: i32,
        open: OpenFile,
        register: impl FnOnce(BorrowedFd<'_>) -> io::Result<BackingId>,
    ) -> Result<Opening, Refusal> {
        let open = match self.policy.io {
            Io::Server => open.without_donation(),
            Io::Passthrough | Io::Donated => open,
        };
        let file = self.with_room(|| self.inodes.file(number))?;
        let donated = open.donated_fd().filter(|_| self.passes_through());
        let backing = self.backings.open(number, flags, donated, register)?;
        let mut how = FopenFlags::empty();
        if backing.is_none() && self.policy.caching.keeps_contents() {
            how |= FopenFlags::FOPEN_KEEP_CACHE;
        }
        let handle = self.files.insert(Opened {
            number,
            open,
            _file: file,
            writable: flags & libc::O_ACCMODE != libc::O_RDONLY,
            _backing: backing.clone(),
        });
        Ok(Opening {
            handle,
            flags: how,
            backing,
        })
    }

    /// Gives an open file up.
    pub(super) fn close(&self, handle: FileHandle) -> Result<(), Refusal> {
        let opened = self.files.remove(handle)?;
        self.backings.close(opened.number);
        Ok(())
    }

    /// Reads, and hands what was read to `give`.
    pub(super) fn read(
        &self,
        handle: FileHandle,
        offset: u64,
        size: u32,
        give: impl FnOnce(Result<&[u8], Refusal>),
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let room = buffer.get_mut(..size).unwrap_or_default();
            let read = self.files.get(handle).and_then(|opened| {
                let count = opened.open.read_at(room, offset)?;
                Ok(room.get(..count).unwrap_or_default())
            });
            give(read);
        });
    }

    pub(super) fn write(
        &self,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
    ) -> Result<u32, Refusal> {
        let count = self.files.get(handle)?.open.write_at(data, offset)?;
        u32::try_from(count).map_err(|_| Refusal::IO)
    }

    /// Where the next data, or the next hole, begins at or behind `offset`.
    pub(super) fn seek(
        &self,
        handle: FileHandle,
        offset: i64,
        whence: i32,
    ) -> Result<i64, Refusal> {
        let opened = self.files.get(handle)?;
        let to = match whence {
            libc::SEEK_DATA => Whence::SeekData,
            libc::SEEK_HOLE => Whence::SeekHole,
            _ => return Err(Refusal::INVALID),
        };
        if let Some(donated) = opened.donated(self.policy.io) {
            // This moves a position that is the server's too. Neither side reads or writes at it.
            return Ok(lseek(donated, offset, to)?);
        }
        // A server cannot be asked, so there are no holes but the one behind the end.
        let size = i64::try_from(opened.open.stat()?.size).map_err(|_| Refusal::IO)?;
        match to {
            _ if !(0..size).contains(&offset) => Err(Refusal::NO_DATA),
            Whence::SeekHole => Ok(size),
            _ => Ok(offset),
        }
    }

    /// Has the host copy from one file to another.
    ///
    /// # Errors
    /// EOPNOTSUPP where it cannot be asked to: the kernel reads and writes then.
    pub(super) fn copy(
        &self,
        (from, offset_from): (FileHandle, u64),
        (to, offset_to): (FileHandle, u64),
        length: u64,
    ) -> Result<u32, Refusal> {
        let (from, to) = (self.files.get(from)?, self.files.get(to)?);
        let io = self.policy.io;
        let (Some(from), Some(to)) = (from.donated(io), to.donated(io)) else {
            return Err(Refusal::UNSUPPORTED);
        };
        let mut offset_from = i64::try_from(offset_from).map_err(|_| Refusal::INVALID)?;
        let mut offset_to = i64::try_from(offset_to).map_err(|_| Refusal::INVALID)?;
        let length = usize::try_from(length.min(LARGEST_COPY)).map_err(|_| Refusal::INVALID)?;
        let offsets = (Some(&mut offset_from), Some(&mut offset_to));
        let count = copy_file_range(from, offsets.0, to, offsets.1, length)?;
        u32::try_from(count).map_err(|_| Refusal::IO)
    }
}
