//! A place in the tree.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::handle::Handle;
use super::{Client, Error, OpenFile, SetAttributes};
use crate::Errno;
use crate::wire::{
    FStatFsReq, FdId, FileType, Inode, Mid, OpenAtReq, ReadLinkAtReq, RenameAt2Req, RenameAtReq,
    StatFs, StatReq, Statx, StringArrayBuf, UnlinkAtReq, WalkReq, WalkResp, WalkStatReq,
};

/// A handle on a file of any type, open or not: a ControlFd of the server.
///
/// It stays on the file when the file is renamed. Names are single components. Nothing here
/// follows symbolic links; the methods of [`Client`] that take paths do.
///
/// Dropped handles are given up by the hundred, see [`Client::flush_closes`].
///
/// ```
/// use lisafs::client::Create;
///
/// # let client = lisafs_served::directory()?;
/// let (_, log) = client.root().create("log", Create::mode(0o644), libc::O_RDWR)?;
/// log.write_at(b"hello", 0)?;
/// let log = client.root().walk_one("log")?;
/// assert_eq!(log.stat()?.size, 5);
/// client.root().rename("log", &client.root(), "log.1", 0)?;
/// // It is the file that is held, and not its name.
/// assert_eq!(log.stat()?.size, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ControlFile {
    handle: Handle,
    attributes: Statx,
}

/// How far a walk came.
///
/// ```
/// use lisafs::client::WalkStatus;
///
/// # let client = lisafs_served::directory()?;
/// client.create_dir("a")?;
/// let walked = client.root().walk(&["a", "b", "c"])?;
/// assert_eq!(walked.files.len(), 1);
/// assert_eq!(walked.status, WalkStatus::Missing);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WalkOutcome {
    /// Handles on the files that exist along the path.
    pub files: Vec<ControlFile>,
    /// Why there are no more.
    pub status: WalkStatus,
}

/// Why a walk ended.
///
/// ```
/// use lisafs::client::WalkStatus;
///
/// # let client = lisafs_served::directory()?;
/// client.symlink("/etc", "link")?;
/// let outcome = |path: &[&str]| client.root().walk(path).map(|walked| walked.status);
/// assert_eq!(outcome(&["link"])?, WalkStatus::Complete);
/// assert_eq!(outcome(&["link", "passwd"])?, WalkStatus::Symlink);
/// assert_eq!(outcome(&["nothing"])?, WalkStatus::Missing);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkStatus {
    /// At the end of the path.
    Complete,
    /// Behind the last file the next component does not exist.
    Missing,
    /// The last file is a symbolic link, and components remain.
    Symlink,
}

impl ControlFile {
    pub(super) fn of_root(client: &Client) -> ControlFile {
        let root = client.root_inode();
        ControlFile {
            handle: Handle::borrowed(client, root.control_fd),
            attributes: root.stat,
        }
    }

    /// The root, after a look at what the server said about it.
    pub(super) fn root(client: &Client) -> Result<ControlFile, Error> {
        ControlFile::of_root(client).checked()
    }

    /// Takes over an id that the server has just made.
    pub(super) fn adopt(client: &Client, inode: &Inode) -> ControlFile {
        ControlFile {
            handle: Handle::batched(client, inode.control_fd),
            attributes: inode.stat,
        }
    }

    /// EIO unless the server says what a client has to know of a file.
    pub(super) fn checked(self) -> Result<ControlFile, Error> {
        let needed = match self.file_type() {
            FileType::Regular => libc::STATX_TYPE | libc::STATX_SIZE,
            _ => libc::STATX_TYPE,
        };
        if self.id() != FdId::INVALID && self.attributes.mask & needed == needed {
            Ok(self)
        } else {
            Err(Error::malformed())
        }
    }

    /// The server's id for it.
    #[must_use]
    pub fn id(&self) -> FdId {
        self.handle.id()
    }

    /// The connection it belongs to.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.handle.client()
    }

    /// The attributes at the time the handle was made.
    #[must_use]
    pub fn attributes(&self) -> &Statx {
        &self.attributes
    }

    /// The type, which never changes.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        self.attributes.file_type()
    }

    /// statx(fd, "", AT_EMPTY_PATH): the attributes now.
    ///
    /// # Errors
    /// The server's.
    pub fn stat(&self) -> Result<Statx, Error> {
        self.client().lease().call(&StatReq { fd: self.id() })
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// The server's; if only some of the changes failed, the errno of one of them.
    pub fn set_stat(&self, changes: &SetAttributes) -> Result<(), Error> {
        let done = self.client().lease().call(&changes.request(self.id()))?;
        if done.failure_mask == 0 {
            Ok(())
        } else {
            let errno = Errno::new(done.failure_errno).unwrap_or(Errno::EIO);
            Err(Error::Remote(errno))
        }
    }

    /// Walks down `names`, as far as they exist and are no symbolic links.
    ///
    /// # Errors
    /// The server's, ENOTDIR below a file that is no directory among them; no handle is left
    /// then. EIO when the server returns more files than names, or fewer without a reason.
    pub fn walk<N: AsRef<OsStr>>(&self, names: &[N]) -> Result<WalkOutcome, Error> {
        let path = string_array(names)?;
        let request = WalkReq {
            dir_fd: self.id(),
            path: path.as_array(),
        };
        let (files, status) = {
            let mut lease = self.client().lease();
            let WalkResp { status, inodes } = lease.call(&request)?;
            let files: Vec<_> = inodes
                .iter()
                .map(|inode| ControlFile::adopt(self.client(), &inode))
                .collect();
            (files, status)
        };
        // From here on every id is in a handle, and is given up whatever happens.
        let status = match status {
            WalkResp::SUCCESS if files.len() == names.len() => WalkStatus::Complete,
            WalkResp::COMPONENT_DOES_NOT_EXIST if files.len() < names.len() => WalkStatus::Missing,
            WalkResp::COMPONENT_SYMLINK
                if files.len() < names.len()
                    && files.last().map(ControlFile::file_type) == Some(FileType::Symlink) =>
            {
                WalkStatus::Symlink
            }
            _ => return Err(Error::malformed()),
        };
        let files = files
            .into_iter()
            .map(ControlFile::checked)
            .collect::<Result<_, _>>()?;
        Ok(WalkOutcome { files, status })
    }

    /// The file called `name` in this directory, which may be a symbolic link.
    ///
    /// # Errors
    /// ENOENT if there is none; ENOTDIR if this is no directory; what else the server says.
    pub fn walk_one(&self, name: impl AsRef<OsStr>) -> Result<ControlFile, Error> {
        let mut walked = self.walk(&[name])?;
        match walked.status {
            WalkStatus::Complete => walked.files.pop().ok_or_else(Error::malformed),
            WalkStatus::Missing => Err(Error::Local(Errno::ENOENT)),
            WalkStatus::Symlink => Err(Error::Local(Errno::ENOTDIR)),
        }
    }

    /// The attributes of the files along `names`, as far as they exist and are no symbolic links;
    /// makes no handles. An empty first name stands for this file itself.
    ///
    /// # Errors
    /// The server's; EIO for more answers than names.
    pub fn walk_stat<N: AsRef<OsStr>>(&self, names: &[N]) -> Result<Vec<Statx>, Error> {
        let path = string_array(names)?;
        let request = WalkStatReq {
            dir_fd: self.id(),
            path: path.as_array(),
        };
        let mut lease = self.client().lease();
        let stats = lease.call(&request)?.stats;
        if stats.len() > names.len() {
            return Err(Error::malformed());
        }
        Ok(stats.iter().collect())
    }

    /// open(2) of the file itself; of `flags` the access mode and O_TRUNC count.
    ///
    /// # Errors
    /// The server's; EINVAL for a symbolic link.
    pub fn open(&self, flags: i32) -> Result<OpenFile, Error> {
        let request = OpenAtReq {
            fd: self.id(),
            flags: flags.cast_unsigned(),
        };
        let mut lease = self.client().lease();
        let id = lease.call(&request)?.open_fd;
        let donated = lease.take_fd();
        drop(lease);
        OpenFile::adopt(self.client(), id, donated, self.file_type())
    }

    /// readlinkat(2): what this symbolic link says.
    ///
    /// # Errors
    /// EINVAL if it is none; what else the server says.
    pub fn readlink(&self) -> Result<PathBuf, Error> {
        let mut lease = self.client().lease();
        let target = lease.call(&ReadLinkAtReq { fd: self.id() })?.target;
        Ok(OsString::from_vec(target.to_vec()).into())
    }

    /// fstatfs(2).
    ///
    /// # Errors
    /// The server's.
    pub fn stat_fs(&self) -> Result<StatFs, Error> {
        self.client().lease().call(&FStatFsReq { fd: self.id() })
    }

    /// unlinkat(2); `flags` is 0 or AT_REMOVEDIR.
    ///
    /// # Errors
    /// The server's.
    pub fn unlink(&self, name: impl AsRef<OsStr>, flags: i32) -> Result<(), Error> {
        let request = UnlinkAtReq {
            dir_fd: self.id(),
            flags: flags.cast_unsigned(),
            name: component(name.as_ref())?,
        };
        self.client().lease().call(&request)
    }

    /// renameat2(2): moves `name` of this directory to `new_name` in `new_dir`.
    ///
    /// # Errors
    /// The server's; EINVAL for flags with a server that does not know any.
    pub fn rename(
        &self,
        name: impl AsRef<OsStr>,
        new_dir: &ControlFile,
        new_name: impl AsRef<OsStr>,
        flags: u32,
    ) -> Result<(), Error> {
        let (old_dir, new_dir) = (self.id(), new_dir.id());
        let old_name = component(name.as_ref())?;
        let new_name = component(new_name.as_ref())?;
        let mut lease = self.client().lease();
        if flags == 0 {
            return lease.call(&RenameAtReq {
                old_dir,
                new_dir,
                old_name,
                new_name,
            });
        }
        if !self.client().supports(Mid::RENAME_AT2) {
            return Err(Error::Local(Errno::EINVAL));
        }
        lease.call(&RenameAt2Req {
            old_dir,
            new_dir,
            old_name,
            new_name,
            flags,
        })
    }
}

/// A name as it is sent. Only what cannot be sent is refused here; the server judges the rest.
pub(super) fn component(name: &OsStr) -> Result<&[u8], Error> {
    let bytes = name.as_bytes();
    if bytes.len() > usize::from(u16::MAX) {
        return Err(Error::Local(Errno::ENAMETOOLONG));
    }
    Ok(bytes)
}

fn string_array<N: AsRef<OsStr>>(names: &[N]) -> Result<StringArrayBuf, Error> {
    StringArrayBuf::collect(names.iter().map(|name| name.as_ref().as_bytes()))
        .map_err(|_| Error::Local(Errno::ENAMETOOLONG))
}
