//! What is open.

use std::sync::Arc;

use flipcall::SharedBytes;
use lisafs::Errno;
use lisafs::server::{DirentRequest, Donation, FdExclusive, FdShared, OpenFdImpl, Shared};
use lisafs::wire::{DirentWriter, Statx};

use super::{BrittleFs, Trap, statx};

#[derive(Debug)]
pub(crate) struct BrittleOpen {
    pub(super) trap: Arc<Trap>,
    pub(super) mode: u32,
}

impl OpenFdImpl for BrittleOpen {
    type Server = BrittleFs;

    fn donation(&self) -> Donation<'_> {
        self.trap.pass("OpenFdImpl::donation");
        Donation::None
    }

    fn stat(&self, _at: FdShared<'_, BrittleFs>) -> Result<Statx, Errno> {
        self.trap.pass("OpenFdImpl::stat");
        Ok(statx(self.mode))
    }

    fn sync(&self, _at: FdShared<'_, BrittleFs>) -> Result<(), Errno> {
        self.trap.pass("OpenFdImpl::sync");
        Ok(())
    }

    fn write(
        &self,
        _at: FdExclusive<'_, BrittleFs>,
        data: SharedBytes<'_>,
        _offset: u64,
    ) -> Result<usize, Errno> {
        self.trap.pass("OpenFdImpl::write");
        Ok(data.len())
    }

    fn read(
        &self,
        _at: FdShared<'_, BrittleFs>,
        buffer: SharedBytes<'_>,
        _offset: u64,
    ) -> Result<usize, Errno> {
        self.trap.pass("OpenFdImpl::read");
        Ok(buffer.len())
    }

    fn allocate(
        &self,
        _at: FdExclusive<'_, BrittleFs>,
        _mode: u64,
        _offset: u64,
        _length: u64,
    ) -> Result<(), Errno> {
        self.trap.pass("OpenFdImpl::allocate");
        Ok(())
    }

    fn flush(&self, _at: FdShared<'_, BrittleFs>) -> Result<(), Errno> {
        self.trap.pass("OpenFdImpl::flush");
        Ok(())
    }

    fn getdents64(
        &self,
        _at: FdShared<'_, BrittleFs>,
        _request: DirentRequest,
        _entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        self.trap.pass("OpenFdImpl::getdents64");
        Ok(())
    }

    fn renamed(&self, _at: Shared<'_, BrittleFs>) {
        self.trap.pass("OpenFdImpl::renamed");
    }
}

impl Drop for BrittleOpen {
    fn drop(&mut self) {
        self.trap.pass("drop OpenFd");
    }
}
