//! Making files.

use std::ffi::OsStr;

use super::control_file::component;
use super::{ControlFile, Error, OpenFile};
use crate::Errno;
use crate::wire::{
    CreateCommon, Gid, InodeResp, LinkAtReq, MkdirAtReq, MknodAtReq, OpenCreateAtReq, Request,
    SymlinkAtReq, Uid,
};

/// Type and permission bits, and the owner, of something new.
///
/// ```
/// use lisafs::client::Create;
/// use lisafs::wire::{Gid, Uid};
///
/// let mine = Create::mode(0o755);
/// let theirs = Create::mode(0o700).owner(Uid(1000), Gid(1000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Create {
    mode: u32,
    uid: Uid,
    gid: Gid,
}

impl Create {
    /// With `mode`, exactly: no umask is applied. The owner is whoever the server runs as.
    #[must_use]
    pub fn mode(mode: u32) -> Create {
        Create {
            mode,
            uid: Uid::NONE,
            gid: Gid::NONE,
        }
    }

    /// With another mode and the same owner.
    #[must_use]
    pub fn permissions(self, mode: u32) -> Create {
        Create { mode, ..self }
    }

    /// Owned by `uid` and `gid`.
    #[must_use]
    pub fn owner(self, uid: Uid, gid: Gid) -> Create {
        Create { uid, gid, ..self }
    }

    pub(super) fn at(self, dir: &ControlFile) -> Result<CreateCommon, Error> {
        Ok(CreateCommon {
            dir_fd: dir.id(),
            uid: self.uid,
            gid: self.gid,
            mode: u16::try_from(self.mode).map_err(|_| Error::Local(Errno::EINVAL))?,
        })
    }
}

/// In this directory.
impl ControlFile {
    /// Has a file made that comes with nothing but its handle.
    fn made<R>(&self, request: &R) -> Result<ControlFile, Error>
    where
        R: for<'r> Request<Reply<'r> = InodeResp>,
    {
        let child = self.client().lease().call(request)?.child;
        ControlFile::adopt(self.client(), &child).checked()
    }

    /// Creates a regular file, which must not exist, and opens it.
    ///
    /// # Errors
    /// EEXIST if the name is taken; what else the server says.
    pub fn create(
        &self,
        name: impl AsRef<OsStr>,
        how: Create,
        flags: i32,
    ) -> Result<(ControlFile, OpenFile), Error> {
        let request = OpenCreateAtReq {
            create: how.at(self)?,
            flags: flags.cast_unsigned(),
            name: component(name.as_ref())?,
        };
        let mut lease = self.client().lease();
        let made = lease.call(&request)?;
        let donated = lease.take_fd();
        drop(lease);
        let child = ControlFile::adopt(self.client(), &made.child);
        let open = OpenFile::adopt(self.client(), made.new_fd, donated, child.file_type())?;
        Ok((child.checked()?, open))
    }

    /// mkdirat(2).
    ///
    /// # Errors
    /// The server's.
    pub fn mkdir(&self, name: impl AsRef<OsStr>, how: Create) -> Result<ControlFile, Error> {
        let request = MkdirAtReq {
            create: how.at(self)?,
            name: component(name.as_ref())?,
        };
        self.made(&request)
    }

    /// mknodat(2); the mode says which type. Servers make regular files and whiteouts (character
    /// device 0:0), and refuse the rest with EPERM.
    ///
    /// # Errors
    /// The server's.
    pub fn mknod(
        &self,
        name: impl AsRef<OsStr>,
        how: Create,
        (major, minor): (u32, u32),
    ) -> Result<ControlFile, Error> {
        let request = MknodAtReq {
            create: how.at(self)?,
            minor,
            major,
            name: component(name.as_ref())?,
        };
        self.made(&request)
    }

    /// symlinkat(2). Of `how` only the owner counts.
    ///
    /// # Errors
    /// The server's.
    pub fn symlink(
        &self,
        name: impl AsRef<OsStr>,
        target: impl AsRef<OsStr>,
        how: Create,
    ) -> Result<ControlFile, Error> {
        let request = SymlinkAtReq {
            dir_fd: self.id(),
            uid: how.uid,
            gid: how.gid,
            name: component(name.as_ref())?,
            target: component(target.as_ref())?,
        };
        self.made(&request)
    }

    /// linkat(2): gives `target` another name in this directory.
    ///
    /// # Errors
    /// The server's; EPERM for a directory.
    pub fn link(
        &self,
        name: impl AsRef<OsStr>,
        target: &ControlFile,
    ) -> Result<ControlFile, Error> {
        let request = LinkAtReq {
            dir_fd: self.id(),
            target_fd: target.id(),
            name: component(name.as_ref())?,
        };
        self.made(&request)
    }
}
