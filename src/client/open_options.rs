//! How to open a file.

use std::path::Path;

use super::resolve::{LastLink, Parent, Target};
use super::{Client, Create, Error, File, OpenFile};
use crate::Errno;
use crate::wire::{Gid, Uid};

/// The mode of files that are created without one.
const FILE_MODE: u32 = 0o644;

/// How often to begin again when others create and remove the file in between.
const ATTEMPTS: u32 = 8;

/// How to open a file, as [`std::fs::OpenOptions`].
///
/// ```
/// use lisafs::Errno;
/// use lisafs::client::OpenOptions;
///
/// # let client = lisafs_served::directory()?;
/// let new = OpenOptions::new().write(true).create_new(true).mode(0o600);
/// let lock = new.open(&client, "lock")?;
/// assert_eq!(lock.metadata()?.permissions(), 0o600);
/// let taken = new.open(&client, "lock").map(drop).map_err(|why| why.errno());
/// assert_eq!(taken, Err(Errno::EEXIST));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the flags of open(2)"
)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    how: Create,
}

impl OpenOptions {
    /// Neither read nor write.
    #[must_use]
    pub fn new() -> OpenOptions {
        OpenOptions {
            read: false,
            write: false,
            truncate: false,
            create: false,
            create_new: false,
            how: Create::mode(FILE_MODE),
        }
    }

    /// For reading.
    #[must_use]
    pub fn read(mut self, read: bool) -> OpenOptions {
        self.read = read;
        self
    }

    /// For writing.
    #[must_use]
    pub fn write(mut self, write: bool) -> OpenOptions {
        self.write = write;
        self
    }

    /// O_TRUNC: empties the file.
    #[must_use]
    pub fn truncate(mut self, truncate: bool) -> OpenOptions {
        self.truncate = truncate;
        self
    }

    /// O_CREAT: creates the file if it does not exist.
    #[must_use]
    pub fn create(mut self, create: bool) -> OpenOptions {
        self.create = create;
        self
    }

    /// O_CREAT|O_EXCL: creates the file, which must not exist, not even as a symbolic link.
    #[must_use]
    pub fn create_new(mut self, create_new: bool) -> OpenOptions {
        self.create_new = create_new;
        self
    }

    /// The mode of a file that is created; 0644 otherwise. No umask is applied.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> OpenOptions {
        self.how = self.how.permissions(mode);
        self
    }

    /// The owner of a file that is created; whoever the server runs as otherwise.
    #[must_use]
    pub fn owner(mut self, uid: Uid, gid: Gid) -> OpenOptions {
        self.how = self.how.owner(uid, gid);
        self
    }

    /// Opens the file at `path`.
    ///
    /// # Errors
    /// EINVAL for options that make no sense together; EEXIST with
    /// [`create_new`](Self::create_new); EISDIR for a directory; EAGAIN when others keep creating
    /// and removing the file; otherwise as for all paths.
    pub fn open(&self, client: &Client, path: impl AsRef<Path>) -> Result<File, Error> {
        let path = path.as_ref();
        let flags = self.flags()?;
        if self.create_new {
            let parent = client.resolve_parent(path, Errno::EEXIST)?;
            return self.make(&parent, flags).map(File::from);
        }
        for _ in 0..ATTEMPTS {
            let opened = match client.resolve_target(path, LastLink::Follow)? {
                Target::File(file) => file.open(flags),
                Target::Missing(parent) if self.create => match self.make(&parent, flags) {
                    // It exists by now.
                    Err(why) if why.errno() == Errno::EEXIST => continue,
                    made => made,
                },
                Target::Missing(_) => Err(Error::Local(Errno::ENOENT)),
            };
            return opened.map(File::from);
        }
        Err(Error::Local(Errno::EAGAIN))
    }

    fn make(&self, parent: &Parent, flags: i32) -> Result<OpenFile, Error> {
        if parent.slash {
            return Err(Error::Local(Errno::EISDIR));
        }
        let (_, open) = parent.dir.create(&parent.name, self.how, flags)?;
        Ok(open)
    }

    fn flags(&self) -> Result<i32, Error> {
        let access = match (self.read, self.write) {
            (true, false) => libc::O_RDONLY,
            (false, true) => libc::O_WRONLY,
            (true, true) => libc::O_RDWR,
            (false, false) => return Err(Error::Local(Errno::EINVAL)),
        };
        if !self.write && (self.truncate || self.create || self.create_new) {
            return Err(Error::Local(Errno::EINVAL));
        }
        let truncate = self.truncate && !self.create_new;
        Ok(access | if truncate { libc::O_TRUNC } else { 0 })
    }
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions::new()
    }
}
