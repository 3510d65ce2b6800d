//! A back end that does nothing: what is left is the server.

pub(crate) mod requests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use flipcall::SharedBytes;
use lisafs::Errno;
use lisafs::server::{
    BoundSocketFdImpl, ControlFdImpl, Creation, Donation, Exclusive, FdExclusive, FdShared,
    Mounted, OpenFdImpl, OpenFlags, ServerImpl, ServerOpts, Shared, Unguarded,
};
use lisafs::wire::{Mid, Name, SetStat, SetStatReq, SetStatResp, Statx, messages};

/// Every name but `absent` exists, as a regular file, and with a `d` in front as a directory.
#[derive(Clone, Debug)]
pub(crate) struct NullFs;

/// A file, open or not.
#[derive(Debug)]
pub(crate) struct NullFile {
    stat: Statx,
}

impl NullFile {
    fn new(name: &[u8]) -> NullFile {
        let directory = name.first().is_none_or(|first| *first == b'd');
        NullFile {
            stat: Statx {
                mask: 0x7ff,
                mode: if directory { 0o040_755 } else { 0o100_644 },
                nlink: 1,
                ..Statx::default()
            },
        }
    }
}

impl ServerImpl for NullFs {
    type ControlFd = NullFile;
    type OpenFd = NullFile;
    type BoundSocketFd = NullSocket;
    type FdLocks = Unguarded;
    type NodeData = ();

    fn opts(&self) -> ServerOpts {
        ServerOpts::default()
    }

    fn supported_messages(&self) -> Vec<Mid> {
        messages().map(|message| message.mid).collect()
    }

    fn mount(&self, _at: Shared<'_, NullFs>) -> Result<Mounted<NullFs>, Errno> {
        let control = NullFile::new(b"");
        Ok(Mounted {
            stat: control.stat,
            control,
            donation: None,
        })
    }
}

impl ControlFdImpl for NullFile {
    type Server = NullFs;

    fn stat(&self, _at: FdShared<'_, NullFs>) -> Result<Statx, Errno> {
        Ok(self.stat)
    }

    fn set_stat(
        &self,
        _at: Exclusive<'_, NullFs>,
        _mask: SetStat,
        _request: &SetStatReq,
    ) -> SetStatResp {
        SetStatResp {
            failure_mask: 0,
            failure_errno: 0,
        }
    }

    fn walk(&self, _at: Shared<'_, NullFs>, name: Name<'_>) -> Result<(NullFile, Statx), Errno> {
        if name.as_bytes() == b"absent" {
            return Err(Errno::ENOENT);
        }
        let file = NullFile::new(name.as_bytes());
        let stat = file.stat;
        Ok((file, stat))
    }

    fn open(&self, _at: Shared<'_, NullFs>, _flags: OpenFlags) -> Result<NullFile, Errno> {
        Ok(NullFile { stat: self.stat })
    }

    fn mkdir(
        &self,
        _at: Exclusive<'_, NullFs>,
        name: Name<'_>,
        _creation: Creation,
    ) -> Result<(NullFile, Statx), Errno> {
        let file = NullFile::new(name.as_bytes());
        let stat = file.stat;
        Ok((file, stat))
    }

    fn unlink(
        &self,
        _at: Exclusive<'_, NullFs>,
        _name: Name<'_>,
        _directory: bool,
    ) -> Result<(), Errno> {
        Ok(())
    }
}

impl OpenFdImpl for NullFile {
    type Server = NullFs;

    fn donation(&self) -> Donation<'_> {
        Donation::None
    }

    fn stat(&self, _at: FdShared<'_, NullFs>) -> Result<Statx, Errno> {
        Ok(self.stat)
    }

    fn read(
        &self,
        _at: FdShared<'_, NullFs>,
        buffer: SharedBytes<'_>,
        _offset: u64,
    ) -> Result<usize, Errno> {
        Ok(buffer.len())
    }

    fn write(
        &self,
        _at: FdExclusive<'_, NullFs>,
        data: SharedBytes<'_>,
        _offset: u64,
    ) -> Result<usize, Errno> {
        Ok(data.len())
    }
}

/// There are none.
#[derive(Debug)]
pub(crate) struct NullSocket(UnixStream);

impl BoundSocketFdImpl for NullSocket {
    type Server = NullFs;

    fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn listen(&self, _at: Shared<'_, NullFs>, _backlog: i32) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn accept(&self, _at: FdShared<'_, NullFs>) -> Result<(OwnedFd, Vec<u8>), Errno> {
        Err(Errno::EAGAIN)
    }
}
