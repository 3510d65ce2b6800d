//! What is done with the names in directories.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fuser::{FileAttr, Request};
use lisafs::Errno;
use lisafs::client::{ControlFile, Create, OpenFile};
use lisafs::wire::{Gid, Mid, Uid};

use super::attributes::{attributes, device};
use super::inodes::{Known, Place};
use super::refusal::Refusal;
use super::tree::Tree;

/// A file that was found or made, and is known to the kernel from now on.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) known: Known,
    pub(super) attributes: FileAttr,
}

/// A place in a directory, as a request says it.
pub(super) type At<'n> = (u64, &'n OsStr);

impl Tree {
    /// The file with a name.
    pub(super) fn look_up(&self, (parent, name): At<'_>) -> Result<Found, Refusal> {
        let dir = self.inodes.file(parent)?;
        let place = Place::new(parent, name);
        // One that is known needs no other handle. Whether it is still the same can be seen.
        if self.inodes.knows(&place) && self.supports(Mid::WALK_STAT) {
            let stats = dir.walk_stat(&[name])?;
            let stat = stats.first().ok_or(Refusal::MISSING)?;
            if let Some(known) = self.inodes.again(&place, stat) {
                let attributes = attributes(known.number, stat)?;
                return Ok(Found { known, attributes });
            }
        }
        self.enter(place, dir.walk_one(name)?)
    }

    /// Takes a file in that was found or made in a place.
    fn enter(&self, place: Place, file: ControlFile) -> Result<Found, Refusal> {
        let stat = *file.attributes();
        let known = self.inodes.enter(place, file);
        match attributes(known.number, &stat) {
            Ok(attributes) => Ok(Found { known, attributes }),
            Err(why) => {
                self.inodes.forget(known.number, 1);
                Err(why)
            }
        }
    }

    /// Mode and owner of something new. A directory that is set-group-id gives its own group.
    fn creation(&self, parent: u64, request: &Request, mode: u32) -> Create {
        let gid = if self.inodes.permissions(parent) & libc::S_ISGID == 0 {
            Gid(request.gid())
        } else {
            Gid::NONE
        };
        Create::mode(mode).owner(Uid(request.uid()), gid)
    }

    pub(super) fn make_dir(
        &self,
        (parent, name): At<'_>,
        request: &Request,
        mode: u32,
    ) -> Result<Found, Refusal> {
        let how = self.creation(parent, request, mode & 0o7777);
        let made = self.inodes.file(parent)?.mkdir(name, how)?;
        self.enter(Place::new(parent, name), made)
    }

    /// Makes a file that is not opened: a regular one, or a special one as far as the server makes
    /// these.
    pub(super) fn make_node(
        &self,
        (parent, name): At<'_>,
        request: &Request,
        mode: u32,
        number: u32,
    ) -> Result<Found, Refusal> {
        let dir = self.inodes.file(parent)?;
        let made = if mode & libc::S_IFMT == libc::S_IFSOCK {
            let how = self.creation(parent, request, mode & 0o7777);
            // What the kernel binds is a socket of its own. The server's has no other use than that
            // there is a file; of which type it is cannot be seen from outside.
            dir.bind(name, how, libc::SOCK_STREAM)?.0
        } else {
            dir.mknod(name, self.creation(parent, request, mode), device(number))?
        };
        self.enter(Place::new(parent, name), made)
    }

    /// Makes and opens a regular file. `flags` are those of open(2).
    pub(super) fn make_file(
        &self,
        (parent, name): At<'_>,
        request: &Request,
        mode: u32,
        flags: i32,
    ) -> Result<(Found, OpenFile), Refusal> {
        let how = self.creation(parent, request, mode & 0o7777);
        let access = self.access(flags);
        match self.inodes.file(parent)?.create(name, how, access) {
            Ok((file, open)) => Ok((self.enter(Place::new(parent, name), file)?, open)),
            // Somebody else was faster. The kernel looks again, and at who may open that file.
            Err(why) if why.errno() == Errno::EEXIST && flags & libc::O_EXCL == 0 => {
                Err(Refusal::STALE)
            }
            Err(why) => Err(why.into()),
        }
    }

    pub(super) fn make_symlink(
        &self,
        (parent, name): At<'_>,
        request: &Request,
        target: &Path,
    ) -> Result<Found, Refusal> {
        let how = self.creation(parent, request, 0);
        let made = self.inodes.file(parent)?.symlink(name, target, how)?;
        self.enter(Place::new(parent, name), made)
    }

    /// Gives a file another name.
    pub(super) fn link(&self, number: u64, (parent, name): At<'_>) -> Result<Found, Refusal> {
        let file = self.inodes.file(number)?;
        let linked = self.inodes.file(parent)?.link(name, &file)?;
        self.enter(Place::new(parent, name), linked)
    }

    /// Removes a name. `flags` are those of unlinkat(2).
    pub(super) fn unlink(&self, (parent, name): At<'_>, flags: i32) -> Result<(), Refusal> {
        self.inodes.file(parent)?.unlink(name, flags)?;
        self.inodes.gone(&Place::new(parent, name));
        Ok(())
    }

    /// Changes a name. `flags` are those of renameat2(2).
    pub(super) fn rename(
        &self,
        (parent, name): At<'_>,
        (new_parent, new_name): At<'_>,
        flags: u32,
    ) -> Result<(), Refusal> {
        let (dir, new_dir) = (self.inodes.file(parent)?, self.inodes.file(new_parent)?);
        dir.rename(name, &new_dir, new_name, flags)?;
        let (from, to) = (Place::new(parent, name), Place::new(new_parent, new_name));
        if flags & libc::RENAME_EXCHANGE == 0 {
            self.inodes.moved(&from, to);
        } else {
            self.inodes.exchanged(from, to);
        }
        Ok(())
    }

    /// What a symbolic link says, in bytes.
    pub(super) fn read_link(&self, number: u64) -> Result<Vec<u8>, Refusal> {
        let target = self.inodes.file(number)?.readlink()?;
        Ok(target.as_os_str().as_bytes().to_vec())
    }
}
