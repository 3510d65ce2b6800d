//! Making files. What is made has the owner and mode that were asked for, or is removed again.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{SFlag, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::HostFs;
use super::attributes::{chown, permissions};
use super::handle::{Handle, open_path, stat_name};
use super::identity::Inode;
use super::procfd::FdPath;
use crate::Errno;
use crate::observe::rarely;
use crate::server::{Creation, NodeKind, Share};
use crate::wire::{FileType, Gid, Name, Statx, Uid};

const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

impl HostFs {
    /// Creates a regular file and opens it with `access`, which a new file always grants, whatever
    /// its mode and owner.
    ///
    /// # Errors
    /// EEXIST, and as open(2).
    pub(super) fn create_file(
        &self,
        parent: &Handle,
        name: Name<'_>,
        creation: Creation,
        access: OFlag,
    ) -> Result<(Handle, Statx, OwnedFd), Errno> {
        parent.may_change()?;
        let share = parent.reserve()?;
        parent.with_fd(|directory| {
            // O_NONBLOCK as for every file that is opened; a new one makes nobody wait.
            let flags = OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_NONBLOCK
                | OFlag::O_CLOEXEC;
            // Set-id bits come when the owner is right.
            let mode = permissions(creation.permissions & !SET_ID);
            let file = openat(directory, name.as_bytes(), flags | access, mode)?;
            let mut fresh = Fresh::new(directory, name, FileType::Regular);
            let identify = |stat: &Statx| fresh.identify(stat);
            let reopen = || self.procfd.path_of(file.as_fd());
            let made = parent.created(name, file.as_fd(), share, identify, reopen)?;
            let (handle, stat) = self.finish(fresh, made, creation)?;
            Ok((handle, stat, file))
        })
    }

    /// mkdirat(2). Where the directory is set-group-id, the new one is too.
    ///
    /// # Errors
    /// As the system call.
    pub(super) fn mkdir(
        &self,
        parent: &Handle,
        name: Name<'_>,
        creation: Creation,
    ) -> Result<(Handle, Statx), Errno> {
        parent.may_change()?;
        let share = parent.reserve()?;
        parent.with_fd(|directory| {
            mkdirat(
                directory,
                name.as_bytes(),
                permissions(creation.permissions),
            )?;
            let fresh = Fresh::new(directory, name, FileType::Directory);
            let path = open_path(directory, name, OFlag::O_DIRECTORY)?;
            self.settle(fresh, parent, (path, share), creation)
        })
    }

    /// Makes a regular file or a whiteout, the character device 0:0.
    ///
    /// # Errors
    /// EPERM for anything else; EEXIST, and as mknod(2).
    pub(super) fn mknod(
        &self,
        parent: &Handle,
        name: Name<'_>,
        creation: Creation,
        kind: NodeKind,
    ) -> Result<(Handle, Statx), Errno> {
        match (kind.file_type, kind.major, kind.minor) {
            (libc::S_IFREG, _, _) => {
                let (handle, stat, _file) =
                    self.create_file(parent, name, creation, OFlag::O_RDONLY)?;
                Ok((handle, stat))
            }
            (libc::S_IFCHR, 0, 0) => {
                parent.may_change()?;
                let share = parent.reserve()?;
                parent.with_fd(|directory| {
                    let mode = permissions(creation.permissions & !SET_ID);
                    mknodat(directory, name.as_bytes(), SFlag::S_IFCHR, mode, 0)?;
                    let fresh = Fresh::new(directory, name, FileType::CharacterDevice);
                    let path = open_path(directory, name, OFlag::empty())?;
                    self.settle(fresh, parent, (path, share), creation)
                })
            }
            _ => Err(Errno::EPERM),
        }
    }

    /// symlinkat(2).
    ///
    /// # Errors
    /// As the system call; EINVAL for a NUL in `target`.
    pub(super) fn symlink(
        &self,
        parent: &Handle,
        name: Name<'_>,
        target: &[u8],
        uid: Uid,
        gid: Gid,
    ) -> Result<(Handle, Statx), Errno> {
        parent.may_change()?;
        let share = parent.reserve()?;
        parent.with_fd(|directory| {
            symlinkat(target, directory, name.as_bytes())?;
            let fresh = Fresh::new(directory, name, FileType::Symlink);
            let path = open_path(directory, name, OFlag::empty())?;
            self.settle(
                fresh,
                parent,
                (path, share),
                Creation {
                    permissions: 0o777,
                    uid,
                    gid,
                },
            )
        })
    }

    /// Gives `target` the name `name` in `parent` as well.
    ///
    /// # Errors
    /// As linkat(2).
    pub(super) fn link(
        &self,
        parent: &Handle,
        name: Name<'_>,
        target: &Handle,
    ) -> Result<(Handle, Statx), Errno> {
        parent.may_change()?;
        parent.with_fd(|directory| {
            target.with_fd(|file| {
                let path = FdPath::new(file);
                let flags = AtFlags::AT_SYMLINK_FOLLOW;
                linkat(
                    &self.procfd,
                    path.as_c_str(),
                    directory,
                    name.as_bytes(),
                    flags,
                )?;
                let mut fresh = Fresh::new(directory, name, target.file_type());
                let linked = parent.linked(name, file, |stat| fresh.identify(stat))?;
                fresh.keep();
                Ok(linked)
            })
        })
    }

    /// Takes over what `fresh` was made as and `path`, for which the share was taken, was then opened
    /// as: gives it its owner and mode.
    ///
    /// # Errors
    /// ESTALE if `path` is another kind of file; as chown(2) and chmod(2).
    pub(super) fn settle(
        &self,
        mut fresh: Fresh<'_>,
        parent: &Handle,
        (path, share): (OwnedFd, Share),
        creation: Creation,
    ) -> Result<(Handle, Statx), Errno> {
        let (handle, stat) = parent.child(fresh.name, path, share)?;
        if handle.file_type() != fresh.file_type {
            // Somebody has put something else there, which is not ours to change or remove.
            fresh.keep();
            return Err(Errno::ESTALE);
        }
        fresh.identify(&stat);
        self.finish(fresh, (handle, stat), creation)
    }

    /// Gives what `fresh` was made as, and what has been identified, its owner and mode.
    fn finish(
        &self,
        mut fresh: Fresh<'_>,
        (handle, stat): (Handle, Statx),
        creation: Creation,
    ) -> Result<(Handle, Statx), Errno> {
        let stat = self.adorn(&handle, stat, creation)?;
        fresh.keep();
        Ok((handle, stat))
    }

    /// Gives a new file, whose attributes are `stat`, owner and mode; in this order, since a change of
    /// owner strips set-id bits. Returns the attributes it then has.
    fn adorn(&self, handle: &Handle, stat: Statx, creation: Creation) -> Result<Statx, Errno> {
        let mut stat = stat;
        let mut asked = creation.permissions & 0o7777;
        if handle.file_type() == FileType::Directory {
            asked |= stat.permissions() & libc::S_ISGID;
        }
        let given_away = creation.uid.some().is_some_and(|uid| uid != stat.uid)
            || creation.gid.some().is_some_and(|gid| gid != stat.gid);
        if given_away {
            chown(handle, creation.uid, creation.gid)?;
            stat = handle.stat()?;
        }
        if handle.file_type() == FileType::Symlink || stat.permissions() == asked {
            return Ok(stat);
        }
        match self.chmod(handle, asked) {
            Ok(()) => handle.stat(),
            // Some file systems have the same mode for all files.
            Err(_) if !given_away && asked & SET_ID == 0 => Ok(stat),
            Err(errno) => Err(errno),
        }
    }
}

/// A name that has just been made. It is removed again unless it is kept.
pub(super) struct Fresh<'f> {
    directory: BorrowedFd<'f>,
    name: Name<'f>,
    file_type: FileType,
    inode: Option<Inode>,
    kept: bool,
}

impl<'f> Fresh<'f> {
    pub(super) fn new(directory: BorrowedFd<'f>, name: Name<'f>, file_type: FileType) -> Fresh<'f> {
        Fresh {
            directory,
            name,
            file_type,
            inode: None,
            kept: false,
        }
    }

    /// Tells which file was made, so that no other one is removed in its place.
    pub(super) fn identify(&mut self, stat: &Statx) {
        self.inode = Some(Inode::of(stat));
    }

    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// Whether the name is still that of what was made, as far as that is known.
    fn is_ours(&self) -> bool {
        stat_name(self.directory, self.name).is_ok_and(|stat| match self.inode {
            Some(inode) => Inode::of(&stat) == inode,
            None => stat.file_type() == self.file_type,
        })
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if self.kept || !self.is_ours() {
            return;
        }
        let flags = if self.file_type == FileType::Directory {
            UnlinkatFlags::RemoveDir
        } else {
            UnlinkatFlags::NoRemoveDir
        };
        if let Err(errno) = unlinkat(self.directory, self.name.as_bytes(), flags) {
            rarely!(warn, name = ?self.name, %errno, "what was half created stays");
        }
    }
}
