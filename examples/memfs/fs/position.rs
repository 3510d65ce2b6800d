//! A place in the tree.

use std::sync::Arc;

use lisafs::Errno;
use lisafs::server::{
    ControlFdImpl, Creation, Exclusive, Global, NodeKind, OpenFlags, RenameFlags, RenameOutcome,
    Shared,
};
use lisafs::wire::{
    Gid, Name, SetStat, SetStatReq, SetStatResp, StatFs, Statx, StringArrayBuf, Uid, XattrName,
};

use super::budget::Charge;
use super::contents::Contents;
use super::entries::{Entries, Entry};
use super::handle::Handle;
use super::inode::{Access, Body, Inode};
use super::{MemFs, Volume};

/// The longest target of a symlink in bytes, as for the kernel.
const MAX_TARGET: usize = 4095;

/// A file that a client has walked to. It stays on the file, whatever becomes of the name.
#[derive(Debug)]
pub(crate) struct Position {
    inode: Arc<Inode>,
}

impl Position {
    pub(crate) fn new(inode: Arc<Inode>) -> Position {
        Position { inode }
    }

    fn seen(inode: Arc<Inode>) -> (Position, Statx) {
        let stat = inode.stat();
        (Position { inode }, stat)
    }

    fn get(&self, name: Name<'_>) -> Result<Arc<Inode>, Errno> {
        self.inode.look_in(|entries| entries.get(name))
    }

    /// Makes `name` in this directory. The write guarantee keeps the name vacant in between.
    fn make(
        &self,
        volume: &Volume,
        name: Name<'_>,
        access: Access,
        body: impl FnOnce() -> Result<Body, Errno>,
    ) -> Result<Arc<Inode>, Errno> {
        self.inode.look_in(|entries| entries.check_vacant(name))?;
        let inode = Inode::new(volume, access, body()?)?;
        let entry = Entry::new(&volume.bytes, Arc::clone(&inode))?;
        self.inode
            .change_in(|entries| entries.insert(name, entry))?;
        Ok(inode)
    }

    fn make_file(
        &self,
        volume: &Volume,
        name: Name<'_>,
        creation: Creation,
        body: impl FnOnce() -> Result<Body, Errno>,
    ) -> Result<Arc<Inode>, Errno> {
        let Creation {
            permissions,
            uid,
            gid,
        } = creation;
        let access = self.inode.access_for(volume, permissions, uid, gid, false);
        self.make(volume, name, access, body)
    }

    /// Puts the file called `old_name` here into the place of `new_name` in `new_dir`.
    fn replace(
        &self,
        old_name: Name<'_>,
        new_dir: &Position,
        new_name: Name<'_>,
    ) -> Result<(), Errno> {
        let moved = self.inode.change_in(|entries| entries.remove(old_name))?;
        let moved = moved.ok_or(Errno::ENOENT)?;
        moved.inode().touch_status();
        let replaced = new_dir.inode.change_in(|entries| {
            let replaced = entries.remove(new_name);
            entries.insert(new_name, moved);
            replaced
        })?;
        if let Some(replaced) = replaced {
            replaced.inode().drop_name();
        }
        Ok(())
    }

    fn exchange(
        &self,
        old_name: Name<'_>,
        new_dir: &Position,
        new_name: Name<'_>,
    ) -> Result<(), Errno> {
        let one = self.inode.change_in(|entries| entries.remove(old_name))?;
        let other = new_dir
            .inode
            .change_in(|entries| entries.remove(new_name))?;
        for (directory, name, entry) in [(new_dir, new_name, one), (self, old_name, other)] {
            let entry = entry.ok_or(Errno::ENOENT)?;
            entry.inode().touch_status();
            directory
                .inode
                .change_in(|entries| entries.insert(name, entry))?;
        }
        Ok(())
    }
}

/// Whether a file may take the place of another, see rename(2).
fn check_replaceable(moved: &Inode, replaced: &Inode) -> Result<(), Errno> {
    match (moved.is_directory(), replaced.is_directory()) {
        (false, false) => Ok(()),
        (false, true) => Err(Errno::EISDIR),
        (true, false) => Err(Errno::ENOTDIR),
        (true, true) => replaced.look_in(check_empty),
    }
}

fn check_empty(entries: &Entries) -> Result<(), Errno> {
    if entries.is_empty() {
        Ok(())
    } else {
        Err(Errno::ENOTEMPTY)
    }
}

impl ControlFdImpl for Position {
    type Server = MemFs;

    fn stat(&self, _at: Shared<'_, MemFs>) -> Result<Statx, Errno> {
        Ok(self.inode.stat())
    }

    fn set_stat(
        &self,
        _at: Exclusive<'_, MemFs>,
        mask: SetStat,
        request: &SetStatReq,
    ) -> SetStatResp {
        self.inode.set_stat(mask, request)
    }

    fn walk(&self, _at: Shared<'_, MemFs>, name: Name<'_>) -> Result<(Position, Statx), Errno> {
        self.get(name).map(Position::seen)
    }

    fn open(&self, _at: Shared<'_, MemFs>, flags: OpenFlags) -> Result<Handle, Errno> {
        if !self.inode.is_regular() && !self.inode.is_directory() {
            return Err(Errno::EPERM);
        }
        if flags.truncates() {
            self.inode
                .change_contents(|contents| contents.set_size(0))?;
        }
        Ok(Handle::new(Arc::clone(&self.inode)))
    }

    fn open_create(
        &self,
        at: Exclusive<'_, MemFs>,
        name: Name<'_>,
        creation: Creation,
        _flags: OpenFlags,
    ) -> Result<(Position, Statx, Handle), Errno> {
        let volume = &at.server().volume;
        let empty = || Ok(Body::File(Contents::new(&volume.bytes)));
        let inode = self.make_file(volume, name, creation, empty)?;
        let handle = Handle::new(Arc::clone(&inode));
        let (position, stat) = Position::seen(inode);
        Ok((position, stat, handle))
    }

    fn mkdir(
        &self,
        at: Exclusive<'_, MemFs>,
        name: Name<'_>,
        creation: Creation,
    ) -> Result<(Position, Statx), Errno> {
        let volume = &at.server().volume;
        let Creation {
            permissions,
            uid,
            gid,
        } = creation;
        let access = self.inode.access_for(volume, permissions, uid, gid, true);
        let empty = || Ok(Body::Directory(Entries::default()));
        self.make(volume, name, access, empty).map(Position::seen)
    }

    fn mknod(
        &self,
        at: Exclusive<'_, MemFs>,
        name: Name<'_>,
        creation: Creation,
        kind: NodeKind,
    ) -> Result<(Position, Statx), Errno> {
        let volume = &at.server().volume;
        let body = || match (kind.file_type, kind.major, kind.minor) {
            (libc::S_IFREG, ..) => Ok(Body::File(Contents::new(&volume.bytes))),
            (libc::S_IFCHR, 0, 0) => Ok(Body::Whiteout),
            _ => Err(Errno::EPERM),
        };
        self.make_file(volume, name, creation, body)
            .map(Position::seen)
    }

    fn symlink(
        &self,
        at: Exclusive<'_, MemFs>,
        name: Name<'_>,
        target: &[u8],
        uid: Uid,
        gid: Gid,
    ) -> Result<(Position, Statx), Errno> {
        match target {
            [] => return Err(Errno::ENOENT),
            _ if target.len() > MAX_TARGET => return Err(Errno::ENAMETOOLONG),
            _ if target.contains(&0) => return Err(Errno::EINVAL),
            _ => {}
        }
        let volume = &at.server().volume;
        let creation = Creation {
            permissions: 0o777,
            uid,
            gid,
        };
        let body = || {
            Ok(Body::Symlink {
                target: target.into(),
                _charge: Charge::new(&volume.bytes, target.len() as u64)?,
            })
        };
        self.make_file(volume, name, creation, body)
            .map(Position::seen)
    }

    fn link(
        &self,
        at: Exclusive<'_, MemFs>,
        name: Name<'_>,
        target: &Position,
        _target_at: Shared<'_, MemFs>,
    ) -> Result<(Position, Statx), Errno> {
        self.inode.look_in(|entries| entries.check_vacant(name))?;
        let bytes = &at.server().volume.bytes;
        let entry = Entry::new(bytes, Arc::clone(&target.inode))?;
        target.inode.add_name()?;
        self.inode
            .change_in(|entries| entries.insert(name, entry))?;
        Ok(Position::seen(Arc::clone(&target.inode)))
    }

    fn stat_fs(&self, at: Shared<'_, MemFs>) -> Result<StatFs, Errno> {
        Ok(at.server().volume.stat_fs())
    }

    fn readlink(&self, _at: Shared<'_, MemFs>, target: &mut Vec<u8>) -> Result<(), Errno> {
        self.inode.look(|state| match &state.body {
            Body::Symlink { target: own, .. } => {
                target.extend_from_slice(own);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        })
    }

    /// What is removed cannot be filled in between: the runtime holds the write guarantee on it as well,
    /// if anybody else is there at all.
    fn unlink(
        &self,
        _at: Exclusive<'_, MemFs>,
        name: Name<'_>,
        directory: bool,
    ) -> Result<(), Errno> {
        let inode = self.get(name)?;
        match (inode.is_directory(), directory) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (true, true) => inode.look_in(check_empty)?,
            (false, false) => {}
        }
        self.inode.change_in(|entries| entries.remove(name))?;
        inode.drop_name();
        Ok(())
    }

    /// That no directory gets below itself has been seen to.
    fn rename_at2(
        &self,
        _at: Global<'_, MemFs>,
        old_name: Name<'_>,
        new_dir: &Position,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<RenameOutcome, Errno> {
        if flags.contains(RenameFlags::WHITEOUT) {
            return Err(Errno::EINVAL);
        }
        let moved = self.get(old_name)?;
        let replaced = match new_dir.get(new_name) {
            Ok(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
            Ok(inode) => Some(inode),
            Err(Errno::ENOENT) if !flags.contains(RenameFlags::EXCHANGE) => None,
            Err(errno) => return Err(errno),
        };
        match replaced {
            Some(replaced) if Arc::ptr_eq(&moved, &replaced) => {
                return Ok(RenameOutcome::SameFile);
            }
            Some(_) if flags.contains(RenameFlags::EXCHANGE) => {
                self.exchange(old_name, new_dir, new_name)?;
            }
            Some(replaced) => {
                check_replaceable(&moved, &replaced)?;
                self.replace(old_name, new_dir, new_name)?;
            }
            None => self.replace(old_name, new_dir, new_name)?,
        }
        Ok(RenameOutcome::Renamed)
    }

    fn get_xattr(
        &self,
        _at: Shared<'_, MemFs>,
        name: XattrName<'_>,
        limit: usize,
        value: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.inode.look(|state| {
            value.extend_from_slice(state.xattrs.get(name, limit)?);
            Ok(())
        })
    }

    fn set_xattr(
        &self,
        _at: Exclusive<'_, MemFs>,
        name: XattrName<'_>,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.check_xattr(name)?;
        self.inode
            .change_xattrs(|xattrs| xattrs.set(name, value, flags))
    }

    fn list_xattr(
        &self,
        _at: Shared<'_, MemFs>,
        limit: usize,
        names: &mut StringArrayBuf,
    ) -> Result<(), Errno> {
        self.inode.look(|state| state.xattrs.list(limit, names))
    }

    fn remove_xattr(&self, _at: Exclusive<'_, MemFs>, name: XattrName<'_>) -> Result<(), Errno> {
        self.check_xattr(name)?;
        self.inode.change_xattrs(|xattrs| xattrs.remove(name))
    }
}

impl Position {
    /// The kernel keeps what users call something on files and directories only.
    ///
    /// # Errors
    /// EPERM.
    fn check_xattr(&self, name: XattrName<'_>) -> Result<(), Errno> {
        let servable = self.inode.is_regular() || self.inode.is_directory();
        if name.as_bytes().starts_with(b"user.") && !servable {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}
