//! An open file.

use std::sync::Arc;

use flipcall::SharedBytes;
use lisafs::Errno;
use lisafs::server::{DirentRequest, Exclusive, OpenFdImpl, Shared};
use lisafs::wire::{Dirent64, DirentWriter, Statx};
use parking_lot::Mutex;

use super::MemFs;
use super::inode::{Body, Inode};

/// An open file or directory.
#[derive(Debug)]
pub(crate) struct Handle {
    inode: Arc<Inode>,
    /// The cookie of the last entry that was listed.
    listed: Mutex<u64>,
}

impl Handle {
    pub(crate) fn new(inode: Arc<Inode>) -> Handle {
        Handle {
            inode,
            listed: Mutex::new(0),
        }
    }
}

impl OpenFdImpl for Handle {
    type Server = MemFs;

    fn stat(&self, _at: Shared<'_, MemFs>) -> Result<Statx, Errno> {
        Ok(self.inode.stat())
    }

    fn read(
        &self,
        _at: Shared<'_, MemFs>,
        buffer: SharedBytes<'_>,
        offset: u64,
    ) -> Result<usize, Errno> {
        self.inode.look(|state| match &state.body {
            Body::File(contents) => contents.read(buffer, offset),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        })
    }

    fn write(
        &self,
        _at: Exclusive<'_, MemFs>,
        data: SharedBytes<'_>,
        offset: u64,
    ) -> Result<usize, Errno> {
        self.inode
            .change_contents(|contents| contents.write(data, offset))
    }

    fn allocate(
        &self,
        _at: Exclusive<'_, MemFs>,
        mode: u64,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        self.inode
            .change_contents(|contents| contents.allocate(mode, offset, length))
    }

    fn getdents64(
        &self,
        at: Shared<'_, MemFs>,
        request: DirentRequest,
        entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        let mut listed = self.listed.lock();
        if request.rewind {
            *listed = 0;
        }
        self.inode.look_in(|all| {
            for (cookie, name, inode) in all.behind(*listed) {
                let entry = Dirent64 {
                    ino: inode.number(),
                    dev_minor: at.server().volume.device,
                    dev_major: 0,
                    off: cookie,
                    d_type: inode.d_type(),
                    name,
                };
                if entries.push(&entry).is_err() {
                    break;
                }
                *listed = cookie;
            }
            Ok(())
        })
    }
}
