//! A back end that does nothing: what is left is the server. Also for `tests/fuzz`.

pub(crate) mod requests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use flipcall::SharedBytes;
use lisafs::Errno;
use lisafs::server::{
    BoundSocketFdImpl, ControlFdImpl, Creation, DirentRequest, Donation, Exclusive, FdExclusive,
    FdShared, Global, Mounted, NodeKind, OpenFdImpl, OpenFlags, RenameFlags, RenameOutcome,
    ServerImpl, ServerOpts, Shared, Unguarded,
};
use lisafs::wire::{
    Dirent64, DirentWriter, Gid, Mid, Name, SetStat, SetStatReq, SetStatResp, StatFs, Statx,
    StringArrayBuf, Uid, XattrName, messages,
};

/// Every name but `absent` exists, as a regular file; with a `d` in front as a directory, with an
/// `l` as a symlink, with an `s` as a socket. Whatever is asked for is done.
#[derive(Clone, Debug)]
pub(crate) struct NullFs;

/// A file, open or not.
#[derive(Debug)]
pub(crate) struct NullFile {
    stat: Statx,
}

impl NullFile {
    fn new(name: &[u8]) -> NullFile {
        let mode = match name.first() {
            None | Some(b'd') => 0o040_755,
            Some(b'l') => 0o120_777,
            Some(b's') => 0o140_644,
            _ => 0o100_644,
        };
        NullFile {
            stat: Statx {
                mask: 0x7ff,
                mode,
                nlink: 1,
                ..Statx::default()
            },
        }
    }

    fn made(name: Name<'_>) -> Result<(NullFile, Statx), Errno> {
        let file = NullFile::new(name.as_bytes());
        let stat = file.stat;
        Ok((file, stat))
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
        NullFile::made(name)
    }

    fn open(&self, _at: Shared<'_, NullFs>, _flags: OpenFlags) -> Result<NullFile, Errno> {
        Ok(NullFile { stat: self.stat })
    }

    fn open_create(
        &self,
        _at: Exclusive<'_, NullFs>,
        name: Name<'_>,
        _creation: Creation,
        _flags: OpenFlags,
    ) -> Result<(NullFile, Statx, NullFile), Errno> {
        let (file, stat) = NullFile::made(name)?;
        Ok((file, stat, NullFile { stat }))
    }

    fn mkdir(
        &self,
        _at: Exclusive<'_, NullFs>,
        name: Name<'_>,
        _creation: Creation,
    ) -> Result<(NullFile, Statx), Errno> {
        NullFile::made(name)
    }

    fn mknod(
        &self,
        _at: Exclusive<'_, NullFs>,
        name: Name<'_>,
        _creation: Creation,
        _kind: NodeKind,
    ) -> Result<(NullFile, Statx), Errno> {
        NullFile::made(name)
    }

    fn symlink(
        &self,
        _at: Exclusive<'_, NullFs>,
        name: Name<'_>,
        _target: &[u8],
        _uid: Uid,
        _gid: Gid,
    ) -> Result<(NullFile, Statx), Errno> {
        NullFile::made(name)
    }

    fn link(
        &self,
        _at: Exclusive<'_, NullFs>,
        name: Name<'_>,
        _target: &NullFile,
        _target_at: Shared<'_, NullFs>,
    ) -> Result<(NullFile, Statx), Errno> {
        NullFile::made(name)
    }

    fn stat_fs(&self, _at: Shared<'_, NullFs>) -> Result<StatFs, Errno> {
        Ok(StatFs::default())
    }

    fn readlink(&self, _at: Shared<'_, NullFs>, target: &mut Vec<u8>) -> Result<(), Errno> {
        target.extend_from_slice(b"file");
        Ok(())
    }

    fn connect(&self, _at: FdShared<'_, NullFs>, _sock_type: u32) -> Result<OwnedFd, Errno> {
        let (socket, _) = UnixStream::pair().map_err(Errno::from)?;
        Ok(socket.into())
    }

    fn bind_at(
        &self,
        _at: Exclusive<'_, NullFs>,
        name: Name<'_>,
        _creation: Creation,
        _sock_type: u32,
    ) -> Result<(NullFile, Statx, NullSocket), Errno> {
        let (socket, _) = UnixStream::pair().map_err(Errno::from)?;
        let (file, stat) = NullFile::made(name)?;
        Ok((file, stat, NullSocket(socket)))
    }

    fn unlink(
        &self,
        _at: Exclusive<'_, NullFs>,
        _name: Name<'_>,
        _directory: bool,
    ) -> Result<(), Errno> {
        Ok(())
    }

    fn rename_at(
        &self,
        _at: Global<'_, NullFs>,
        _old_name: Name<'_>,
        _new_dir: &NullFile,
        _new_name: Name<'_>,
    ) -> Result<RenameOutcome, Errno> {
        Ok(RenameOutcome::Renamed)
    }

    fn rename_at2(
        &self,
        _at: Global<'_, NullFs>,
        _old_name: Name<'_>,
        _new_dir: &NullFile,
        _new_name: Name<'_>,
        _flags: RenameFlags,
    ) -> Result<RenameOutcome, Errno> {
        Ok(RenameOutcome::Renamed)
    }

    fn get_xattr(
        &self,
        _at: FdShared<'_, NullFs>,
        name: XattrName<'_>,
        _limit: usize,
        value: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        value.extend_from_slice(name.as_bytes());
        Ok(())
    }

    fn set_xattr(
        &self,
        _at: FdExclusive<'_, NullFs>,
        _name: XattrName<'_>,
        _value: &[u8],
        _flags: u32,
    ) -> Result<(), Errno> {
        Ok(())
    }

    fn list_xattr(
        &self,
        _at: FdShared<'_, NullFs>,
        _limit: usize,
        names: &mut StringArrayBuf,
    ) -> Result<(), Errno> {
        names.push(b"user.null").map_err(|_| Errno::ERANGE)
    }

    fn remove_xattr(
        &self,
        _at: FdExclusive<'_, NullFs>,
        _name: XattrName<'_>,
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

    fn allocate(
        &self,
        _at: FdExclusive<'_, NullFs>,
        _mode: u64,
        _offset: u64,
        _length: u64,
    ) -> Result<(), Errno> {
        Ok(())
    }

    /// There is always one more.
    fn getdents64(
        &self,
        _at: FdShared<'_, NullFs>,
        _request: DirentRequest,
        entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        let entry = Dirent64 {
            ino: 1,
            dev_minor: 0,
            dev_major: 0,
            off: 1,
            d_type: libc::DT_REG,
            name: b"file",
        };
        while entries.push(&entry).is_ok() {}
        Ok(())
    }
}

/// Nobody ever connects to it.
#[derive(Debug)]
pub(crate) struct NullSocket(UnixStream);

impl BoundSocketFdImpl for NullSocket {
    type Server = NullFs;

    fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn listen(&self, _at: Shared<'_, NullFs>, _backlog: i32) -> Result<(), Errno> {
        Ok(())
    }

    fn accept(&self, _at: FdShared<'_, NullFs>) -> Result<(OwnedFd, Vec<u8>), Errno> {
        Err(Errno::EAGAIN)
    }
}
