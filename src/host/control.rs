//! Positions in the tree: each operation's door to the file that does it.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;

use super::handle::place::NodeFiles;
use super::handle::{self, Handle};
use super::names::Known;
use super::{BoundSocketFd, HostFs, OpenFd};
use crate::Errno;
use crate::server::{
    Below, ControlFdImpl, Creation, Exclusive, FdExclusive, FdShared, Global, NodeKind, OpenFlags,
    RenameFlags, RenameOutcome, Shared,
};
use crate::wire::{
    FileType, Gid, Name, SetStat, SetStatReq, SetStatResp, StatFs, Statx, StringArrayBuf, Uid,
    XattrName,
};

/// A file of the host directory, of any type that is served.
#[derive(Debug)]
pub struct ControlFd {
    handle: Handle,
    /// It is the connection's root, of which the client has a descriptor.
    is_donated: bool,
}

impl ControlFd {
    pub(super) fn new(handle: Handle) -> ControlFd {
        ControlFd {
            handle,
            is_donated: false,
        }
    }

    /// The root of a connection, of which the client gets a descriptor or not.
    pub(super) fn root(handle: Handle, is_donated: bool) -> ControlFd {
        ControlFd { handle, is_donated }
    }

    #[cfg(test)]
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Tells `record` the attributes of the files along `path`, see [`ControlFdImpl::walk_stat`].
pub(super) fn walk_stat<'n>(
    start: &Handle,
    at: Option<Shared<'_, HostFs>>,
    path: &mut dyn Iterator<Item = Name<'n>>,
    record: &mut dyn FnMut(Statx),
) -> Result<(), Errno> {
    let mut path = path.peekable();
    let mut below: Option<Handle> = None;
    let mut node = at.map(Shared::below);
    while let Some(name) = path.next() {
        let directory = below.as_ref().unwrap_or(start);
        let known = node.as_ref().map(|node| node.child(name)).transpose()?;
        node = known.flatten();
        // What nothing is looked up in need not be opened.
        let looked_at = if path.peek().is_some() {
            let walked = directory.walk_through(name, node.as_ref().map(Below::data));
            walked.map(|(child, stat)| (Some(child), stat))
        } else {
            let stat = directory.with_fd(|fd| handle::stat_name(fd, name));
            stat.and_then(|stat| handle::served(&stat).map(|_| (None, stat)))
        };
        let (child, stat) = match looked_at {
            Err(Errno::ENOENT) => return Ok(()),
            looked_at => looked_at?,
        };
        record(stat);
        if stat.file_type() == FileType::Symlink {
            return Ok(());
        }
        below = child;
    }
    Ok(())
}

impl ControlFdImpl for ControlFd {
    type Server = HostFs;

    fn placed(&mut self, node: &NodeFiles) {
        node.add(&mut self.handle);
    }

    fn stat(&self, _at: FdShared<'_, HostFs>) -> Result<Statx, Errno> {
        self.handle.stat()
    }

    fn set_stat(
        &self,
        at: Exclusive<'_, HostFs>,
        mask: SetStat,
        request: &SetStatReq,
    ) -> SetStatResp {
        at.server().set_stat(&self.handle, mask, request)
    }

    fn walk(&self, _at: Shared<'_, HostFs>, name: Name<'_>) -> Result<(Self, Statx), Errno> {
        let (child, stat) = self.handle.walk(name)?;
        Ok((ControlFd::new(child), stat))
    }

    fn walk_through(&self, at: Shared<'_, HostFs>, name: Name<'_>) -> Result<(Self, Statx), Errno> {
        let node = at.below().child(name)?;
        let (child, stat) = self
            .handle
            .walk_through(name, node.as_ref().map(Below::data))?;
        Ok((ControlFd::new(child), stat))
    }

    fn walk_stat<'n>(
        &self,
        at: Shared<'_, HostFs>,
        path: &mut dyn Iterator<Item = Name<'n>>,
        record: &mut dyn FnMut(Statx),
    ) -> Result<(), Errno> {
        walk_stat(&self.handle, Some(at), path, record)
    }

    fn open(&self, at: Shared<'_, HostFs>, flags: OpenFlags) -> Result<OpenFd, Errno> {
        let open = at.server().open_file(&self.handle, flags)?;
        Ok(if self.is_donated {
            open.donated()
        } else {
            open
        })
    }

    fn open_create(
        &self,
        at: Exclusive<'_, HostFs>,
        name: Name<'_>,
        creation: Creation,
        flags: OpenFlags,
    ) -> Result<(Self, Statx, OpenFd), Errno> {
        let access = OFlag::from_bits_truncate(flags.bits()) & OFlag::O_ACCMODE;
        let share = self.handle.reserve()?;
        let (child, stat, file) = at
            .server()
            .create_file(&self.handle, name, creation, access)?;
        let file = OpenFd::regular(&child, file, share);
        Ok((ControlFd::new(child), stat, file))
    }

    fn mkdir(
        &self,
        at: Exclusive<'_, HostFs>,
        name: Name<'_>,
        creation: Creation,
    ) -> Result<(Self, Statx), Errno> {
        let (child, stat) = at.server().mkdir(&self.handle, name, creation)?;
        Ok((ControlFd::new(child), stat))
    }

    fn mknod(
        &self,
        at: Exclusive<'_, HostFs>,
        name: Name<'_>,
        creation: Creation,
        kind: NodeKind,
    ) -> Result<(Self, Statx), Errno> {
        let (child, stat) = at.server().mknod(&self.handle, name, creation, kind)?;
        Ok((ControlFd::new(child), stat))
    }

    fn symlink(
        &self,
        at: Exclusive<'_, HostFs>,
        name: Name<'_>,
        target: &[u8],
        uid: Uid,
        gid: Gid,
    ) -> Result<(Self, Statx), Errno> {
        let (child, stat) = at.server().symlink(&self.handle, name, target, uid, gid)?;
        Ok((ControlFd::new(child), stat))
    }

    fn link(
        &self,
        at: Exclusive<'_, HostFs>,
        name: Name<'_>,
        target: &Self,
        _target_at: Shared<'_, HostFs>,
    ) -> Result<(Self, Statx), Errno> {
        let (child, stat) = at.server().link(&self.handle, name, &target.handle)?;
        Ok((ControlFd::new(child), stat))
    }

    fn stat_fs(&self, _at: Shared<'_, HostFs>) -> Result<StatFs, Errno> {
        super::attributes::stat_fs(&self.handle)
    }

    fn readlink(&self, _at: Shared<'_, HostFs>, target: &mut Vec<u8>) -> Result<(), Errno> {
        super::names::readlink(&self.handle, target)
    }

    fn connect(&self, at: FdShared<'_, HostFs>, sock_type: u32) -> Result<OwnedFd, Errno> {
        at.server().connect(&self.handle, sock_type)
    }

    fn connect_with_creds(
        &self,
        at: FdShared<'_, HostFs>,
        sock_type: u32,
        uid: Uid,
        gid: Gid,
    ) -> Result<OwnedFd, Errno> {
        at.server()
            .connect_with_creds(&self.handle, sock_type, uid, gid)
    }

    fn bind_at(
        &self,
        at: Exclusive<'_, HostFs>,
        name: Name<'_>,
        creation: Creation,
        sock_type: u32,
    ) -> Result<(Self, Statx, BoundSocketFd), Errno> {
        let (child, stat, socket) = at
            .server()
            .bind_at(&self.handle, name, creation, sock_type)?;
        Ok((ControlFd::new(child), stat, socket))
    }

    fn unlink(
        &self,
        at: Exclusive<'_, HostFs>,
        name: Name<'_>,
        directory: bool,
    ) -> Result<(), Errno> {
        super::names::unlink(&self.handle, name, directory, at.child())
    }

    fn rename_at2(
        &self,
        at: Global<'_, HostFs>,
        old_name: Name<'_>,
        new_dir: &Self,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<RenameOutcome, Errno> {
        let known = Known {
            moved: at.moved(),
            replaced: at.replaced(),
        };
        let (old_dir, new_dir) = (&self.handle, &new_dir.handle);
        super::names::rename(old_dir, old_name, new_dir, new_name, flags, known)
    }

    fn get_xattr(
        &self,
        at: FdShared<'_, HostFs>,
        name: XattrName<'_>,
        limit: usize,
        value: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        at.server().get_xattr(&self.handle, name, limit, value)
    }

    fn set_xattr(
        &self,
        at: FdExclusive<'_, HostFs>,
        name: XattrName<'_>,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        at.server().set_xattr(&self.handle, name, value, flags)
    }

    fn list_xattr(
        &self,
        at: FdShared<'_, HostFs>,
        limit: usize,
        names: &mut StringArrayBuf,
    ) -> Result<(), Errno> {
        at.server().list_xattr(&self.handle, limit, names)
    }

    fn remove_xattr(&self, at: FdExclusive<'_, HostFs>, name: XattrName<'_>) -> Result<(), Errno> {
        at.server().remove_xattr(&self.handle, name)
    }
}
