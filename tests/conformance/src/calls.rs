//! Shorthands: one message each, with what cases usually say in it.

use std::os::fd::OwnedFd;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{
    AcceptReq, Array, BindAtReq, CloseReq, ConnectReq, CreateCommon, FGetXattrReq, FListXattrReq,
    FRemoveXattrReq, FSetXattrReq, FSyncReq, FdId, Getdents64Req, Gid, Inode, LinkAtReq, ListenReq,
    MkdirAtReq, MknodAtReq, OpenAtReq, OpenCreateAtReq, ReadLinkAtReq, RenameAt2Req, RenameAtReq,
    SetStatReq, SetStatResp, StatReq, Statx, StringArrayBuf, SymlinkAtReq, Uid, UnlinkAtReq,
    WalkReq, WalkStatReq,
};

use crate::caller::Caller;

pub(crate) const O_RDONLY: u32 = libc::O_RDONLY.cast_unsigned();
pub(crate) const O_WRONLY: u32 = libc::O_WRONLY.cast_unsigned();
pub(crate) const O_RDWR: u32 = libc::O_RDWR.cast_unsigned();
pub(crate) const O_TRUNC: u32 = libc::O_TRUNC.cast_unsigned();
pub(crate) const STREAM: u32 = libc::SOCK_STREAM.cast_unsigned();
pub(crate) const DGRAM: u32 = libc::SOCK_DGRAM.cast_unsigned();
pub(crate) const SEQPACKET: u32 = libc::SOCK_SEQPACKET.cast_unsigned();
pub(crate) const REMOVE_DIRECTORY: u32 = libc::AT_REMOVEDIR.cast_unsigned();

/// A count of host bytes that holds many entries.
pub(crate) const MANY: i32 = 64 << 10;

/// How far a walk came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// 0 to the end, 1 a name does not exist, 2 a symlink.
    pub status: u8,
    /// What was walked to.
    pub inodes: Vec<Inode>,
}

/// A file that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Its OpenFd.
    pub id: FdId,
    /// The descriptors that came along.
    pub donated: Vec<OwnedFd>,
}

/// A file that was created and opened.
#[derive(Debug)]
pub struct Created {
    /// The new file.
    pub inode: Inode,
    /// Its OpenFd.
    pub open: FdId,
    /// The descriptors that came along.
    pub donated: Vec<OwnedFd>,
}

/// A socket that was bound.
#[derive(Debug)]
pub struct Bound {
    /// The new file.
    pub inode: Inode,
    /// Its BoundSocketFd.
    pub id: FdId,
    /// The socket itself.
    pub socket: OwnedFd,
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Vec<u8>,
    /// The inode number.
    pub ino: u64,
    /// The type, as readdir(3) has it.
    pub d_type: u8,
    /// The device, major and minor.
    pub dev: (u32, u32),
}

/// Where and how, with the owner left alone.
#[must_use]
pub fn at(dir_fd: FdId, mode: u16) -> CreateCommon {
    CreateCommon {
        dir_fd,
        uid: Uid::NONE,
        gid: Gid::NONE,
        mode,
    }
}

fn only(mut fds: Vec<OwnedFd>) -> Result<OwnedFd, Error> {
    match (fds.pop(), fds.is_empty()) {
        (Some(fd), true) => Ok(fd),
        // As the client library calls it.
        _ => Err(Error::Local(Errno::EBADF)),
    }
}

/// All of these fail as [`Communicator::call`](lisafs::client::Communicator::call) does.
#[allow(clippy::missing_errors_doc)] // said once, above
impl Caller {
    /// FStat.
    pub fn stat(&mut self, fd: FdId) -> Result<Statx, Error> {
        self.call(&StatReq { fd })
    }

    /// Walk.
    pub fn walk(&mut self, dir_fd: FdId, path: &[&[u8]]) -> Result<Walked, Error> {
        let path = StringArrayBuf::collect(path.iter().copied())?;
        let reply = self.call(&WalkReq {
            dir_fd,
            path: path.as_array(),
        })?;
        Ok(Walked {
            status: reply.status,
            inodes: reply.inodes.iter().collect(),
        })
    }

    /// Walks to one name, which must exist.
    pub fn find(&mut self, dir_fd: FdId, name: &[u8]) -> Result<Inode, Error> {
        let walked = self.walk(dir_fd, &[name])?;
        match walked.inodes.as_slice() {
            [inode] => Ok(*inode),
            _ => Err(Error::Local(Errno::ENOENT)),
        }
    }

    /// Whether the name exists.
    pub fn exists(&mut self, dir_fd: FdId, name: &[u8]) -> Result<bool, Error> {
        Ok(self.walk_stat(dir_fd, &[name])?.len() == 1)
    }

    /// WalkStat.
    pub fn walk_stat(&mut self, dir_fd: FdId, path: &[&[u8]]) -> Result<Vec<Statx>, Error> {
        let path = StringArrayBuf::collect(path.iter().copied())?;
        let reply = self.call(&WalkStatReq {
            dir_fd,
            path: path.as_array(),
        })?;
        Ok(reply.stats.iter().collect())
    }

    /// MkdirAt with mode 0755.
    pub fn mkdir(&mut self, dir_fd: FdId, name: &[u8]) -> Result<Inode, Error> {
        let create = at(dir_fd, 0o755);
        Ok(self.call(&MkdirAtReq { create, name })?.child)
    }

    /// MknodAt of device 0:0.
    pub fn mknod(&mut self, dir_fd: FdId, name: &[u8], mode: u32) -> Result<Inode, Error> {
        let mode = u16::try_from(mode).map_err(|_| Error::Local(Errno::EINVAL))?;
        let request = MknodAtReq {
            create: at(dir_fd, mode),
            minor: 0,
            major: 0,
            name,
        };
        Ok(self.call(&request)?.child)
    }

    /// Creates a file with mode 0644.
    pub fn create(&mut self, dir_fd: FdId, name: &[u8], flags: u32) -> Result<Created, Error> {
        self.create_as(at(dir_fd, 0o644), name, flags)
    }

    /// OpenCreateAt.
    pub fn create_as(
        &mut self,
        create: CreateCommon,
        name: &[u8],
        flags: u32,
    ) -> Result<Created, Error> {
        let reply = self.call(&OpenCreateAtReq {
            create,
            flags,
            name,
        })?;
        Ok(Created {
            inode: reply.child,
            open: reply.new_fd,
            donated: self.take_fds(),
        })
    }

    /// Creates a file with `content` and returns its ControlFd.
    pub fn file(&mut self, dir_fd: FdId, name: &[u8], content: &[u8]) -> Result<FdId, Error> {
        let created = self.create(dir_fd, name, O_RDWR)?;
        if !content.is_empty() {
            self.write(created.open, 0, content)?;
        }
        self.close(&[created.open])?;
        Ok(created.inode.control_fd)
    }

    /// OpenAt.
    pub fn open(&mut self, fd: FdId, flags: u32) -> Result<Opened, Error> {
        let reply = self.call(&OpenAtReq { fd, flags })?;
        Ok(Opened {
            id: reply.open_fd,
            donated: self.take_fds(),
        })
    }

    /// SymlinkAt.
    pub fn symlink(&mut self, dir_fd: FdId, name: &[u8], target: &[u8]) -> Result<Inode, Error> {
        let request = SymlinkAtReq {
            dir_fd,
            uid: Uid::NONE,
            gid: Gid::NONE,
            name,
            target,
        };
        Ok(self.call(&request)?.child)
    }

    /// ReadLinkAt.
    pub fn readlink(&mut self, fd: FdId) -> Result<Vec<u8>, Error> {
        Ok(self.call(&ReadLinkAtReq { fd })?.target.to_vec())
    }

    /// LinkAt.
    pub fn link(&mut self, dir_fd: FdId, target_fd: FdId, name: &[u8]) -> Result<Inode, Error> {
        let request = LinkAtReq {
            dir_fd,
            target_fd,
            name,
        };
        Ok(self.call(&request)?.child)
    }

    /// UnlinkAt of what is no directory.
    pub fn unlink(&mut self, dir_fd: FdId, name: &[u8]) -> Result<(), Error> {
        self.unlink_with(dir_fd, name, 0)
    }

    /// UnlinkAt of a directory.
    pub fn rmdir(&mut self, dir_fd: FdId, name: &[u8]) -> Result<(), Error> {
        self.unlink_with(dir_fd, name, REMOVE_DIRECTORY)
    }

    /// UnlinkAt.
    pub fn unlink_with(&mut self, dir_fd: FdId, name: &[u8], flags: u32) -> Result<(), Error> {
        self.call(&UnlinkAtReq {
            dir_fd,
            flags,
            name,
        })
    }

    /// RenameAt.
    pub fn rename(&mut self, old: (FdId, &[u8]), new: (FdId, &[u8])) -> Result<(), Error> {
        self.call(&RenameAtReq {
            old_dir: old.0,
            new_dir: new.0,
            old_name: old.1,
            new_name: new.1,
        })
    }

    /// RenameAt2.
    pub fn rename_with(
        &mut self,
        old: (FdId, &[u8]),
        new: (FdId, &[u8]),
        flags: u32,
    ) -> Result<(), Error> {
        self.call(&RenameAt2Req {
            old_dir: old.0,
            new_dir: new.0,
            old_name: old.1,
            new_name: new.1,
            flags,
        })
    }

    /// SetStat.
    pub fn set_stat(&mut self, request: &SetStatReq) -> Result<SetStatResp, Error> {
        self.call(request)
    }

    /// One PRead of up to `count` bytes.
    pub fn read(&mut self, fd: FdId, offset: u64, count: usize) -> Result<Vec<u8>, Error> {
        let mut buffer = vec![0; count];
        let read = self.pread(fd, offset, &mut buffer)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    /// One PWrite, which must be complete.
    pub fn write(&mut self, fd: FdId, offset: u64, data: &[u8]) -> Result<(), Error> {
        match self.pwrite(fd, offset, data)? {
            written if written == data.len() => Ok(()),
            _ => Err(Error::Local(Errno::EIO)),
        }
    }

    /// Close.
    pub fn close(&mut self, fds: &[FdId]) -> Result<(), Error> {
        let fds = Array::new(fds);
        self.call(&CloseReq { fds })
    }

    /// FSync.
    pub fn sync(&mut self, fds: &[FdId]) -> Result<(), Error> {
        let fds = Array::new(fds);
        self.call(&FSyncReq { fds })
    }

    /// One Getdents64.
    pub fn entries(&mut self, dir_fd: FdId, count: i32) -> Result<Vec<Entry>, Error> {
        let reply = self.call(&Getdents64Req { dir_fd, count })?;
        let entries = reply.dirents.iter().map(|entry| Entry {
            name: entry.name.to_vec(),
            ino: entry.ino,
            d_type: entry.d_type,
            dev: (entry.dev_major, entry.dev_minor),
        });
        Ok(entries.collect())
    }

    /// All entries of an open directory, from the first.
    pub fn list(&mut self, dir_fd: FdId, count: i32) -> Result<Vec<Entry>, Error> {
        let mut all = self.entries(dir_fd, count.saturating_neg())?;
        if all.is_empty() {
            return Ok(all);
        }
        loop {
            let more = self.entries(dir_fd, count)?;
            if more.is_empty() {
                return Ok(all);
            }
            all.extend(more);
        }
    }

    /// The names in a directory, sorted.
    pub fn names(&mut self, directory: FdId) -> Result<Vec<Vec<u8>>, Error> {
        let open = self.open(directory, O_RDONLY)?;
        let entries = self.list(open.id, MANY)?;
        self.close(&[open.id])?;
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// BindAt with mode 0755.
    pub fn bind(&mut self, dir_fd: FdId, name: &[u8], sock_type: u32) -> Result<Bound, Error> {
        self.bind_as(at(dir_fd, 0o755), name, sock_type)
    }

    /// BindAt.
    pub fn bind_as(
        &mut self,
        create: CreateCommon,
        name: &[u8],
        sock_type: u32,
    ) -> Result<Bound, Error> {
        let reply = self.call(&BindAtReq {
            create,
            sock_type,
            name,
        })?;
        Ok(Bound {
            inode: reply.child,
            id: reply.bound_socket_fd,
            socket: only(self.take_fds())?,
        })
    }

    /// Listen.
    pub fn listen(&mut self, fd: FdId, backlog: i32) -> Result<(), Error> {
        self.call(&ListenReq { fd, backlog })
    }

    /// Accept.
    pub fn accept(&mut self, fd: FdId) -> Result<OwnedFd, Error> {
        self.call(&AcceptReq { fd })?;
        only(self.take_fds())
    }

    /// Connect.
    pub fn connect(&mut self, fd: FdId, sock_type: u32) -> Result<OwnedFd, Error> {
        self.call(&ConnectReq { fd, sock_type })?;
        only(self.take_fds())
    }

    /// FGetXattr.
    pub fn get_xattr(&mut self, fd: FdId, name: &[u8], buf_size: u32) -> Result<Vec<u8>, Error> {
        let reply = self.call(&FGetXattrReq { fd, buf_size, name })?;
        Ok(reply.value.to_vec())
    }

    /// FSetXattr.
    pub fn set_xattr(
        &mut self,
        fd: FdId,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<(), Error> {
        self.call(&FSetXattrReq {
            fd,
            flags,
            name,
            value,
        })
    }

    /// The names of the attributes, sorted.
    pub fn list_xattr(&mut self, fd: FdId, size: u64) -> Result<Vec<Vec<u8>>, Error> {
        let reply = self.call(&FListXattrReq { fd, size })?;
        let mut names: Vec<_> = reply.names.iter().map(<[u8]>::to_vec).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// FRemoveXattr.
    pub fn remove_xattr(&mut self, fd: FdId, name: &[u8]) -> Result<(), Error> {
        self.call(&FRemoveXattrReq { fd, name })
    }
}
