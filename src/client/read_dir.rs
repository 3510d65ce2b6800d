//! Directory entries.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Error, OpenFile};
use crate::wire::{Decode, Dirent64, FileType, Getdents64Req, Name, Reader};

/// How much to ask for at once, in bytes of the host's entries.
const BATCH: i32 = 64 << 10;

/// The longest entry: 24 bytes, a name of 255 and its NUL, rounded up.
const LONGEST: i32 = 280;

/// How many replies in a row may hold nothing but `.` and `..`: servers leave these out, and one that
/// does not may send each by itself.
const BARREN: usize = 2;

/// A directory entry.
///
/// ```
/// use lisafs::wire::FileType;
///
/// # let client = lisafs_served::directory()?;
/// client.create_dir("sub")?;
/// for entry in client.read_dir("/")? {
///     let entry = entry?;
///     assert_eq!(entry.file_type, FileType::Directory);
///     assert_eq!(entry.ino, client.metadata(entry.name)?.ino);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name: a single component, and never `.` or `..`.
    pub name: OsString,
    /// The inode number; at a mount point, of the directory below.
    pub ino: u64,
    /// The device as (major, minor).
    pub dev: (u32, u32),
    /// The type; `Unknown` where the host's file system does not tell.
    pub file_type: FileType,
}

/// The entries of a directory, in the host's order, without `.` and `..`.
///
/// Ends behind the first error; EIO among others for a server that goes on sending nothing else than
/// these two.
///
/// ```
/// # let client = lisafs_served::directory()?;
/// client.write("a", b"")?;
/// client.write("b", b"")?;
/// let mut names = Vec::new();
/// for entry in client.root().open(libc::O_RDONLY)?.read_dir() {
///     names.push(entry?.name);
/// }
/// names.sort();
/// assert_eq!(names, ["a", "b"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReadDir {
    dir: OpenFile,
    /// The last reply's entries as they came, and where the next of them begins. They are made
    /// [`DirEntry`]s one by one: memory for a name is cheap where that of the last one has just been
    /// given back.
    batch: Vec<u8>,
    next: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Start,
    Middle,
    End,
}

impl ReadDir {
    pub(super) fn new(dir: OpenFile) -> ReadDir {
        ReadDir {
            dir,
            batch: Vec::new(),
            next: 0,
            place: Place::Start,
        }
    }

    /// Goes back to the first entry.
    pub fn rewind(&mut self) {
        self.leave(Place::Start);
    }

    /// The open directory. Its position is that of these entries.
    #[must_use]
    pub fn get_ref(&self) -> &OpenFile {
        &self.dir
    }

    /// The open directory.
    #[must_use]
    pub fn into_inner(self) -> OpenFile {
        self.dir
    }

    /// Forgets what is left of the last reply.
    fn leave(&mut self, place: Place) {
        self.batch.clear();
        self.next = 0;
        self.place = place;
    }

    /// The next entry of the last reply.
    fn take(&mut self) -> Option<Result<DirEntry, Error>> {
        let mut rest = Reader::new(self.batch.get(self.next..).unwrap_or_default());
        let judged = core::iter::from_fn(|| Dirent64::decode(&mut rest).ok()).find_map(judge);
        self.next = self.batch.len() - rest.rest().len();
        judged
    }

    /// Asks for more entries; there are none at the end.
    fn refill(&mut self) -> Result<(), Error> {
        // An entry is at most a third longer on the wire than with the host, so that half of a
        // message is always enough.
        let room = i32::try_from(self.dir.client().max_message_size() / 2).unwrap_or(BATCH);
        let count = room.clamp(LONGEST, BATCH);
        let request = Getdents64Req {
            dir_fd: self.dir.id(),
            count: match self.place {
                Place::Start => -count,
                Place::Middle => count,
                Place::End => return Ok(()),
            },
        };
        self.leave(Place::End);
        let mut lease = self.dir.client().lease();
        let dirents = lease.call(&request)?.dirents;
        if !dirents.is_empty() {
            self.batch.extend_from_slice(dirents.as_bytes());
            self.place = Place::Middle;
        }
        Ok(())
    }
}

/// An entry as callers may use it: EIO for a name that would lead them somewhere else.
fn judge(entry: Dirent64<'_>) -> Option<Result<DirEntry, Error>> {
    if matches!(entry.name, b"." | b"..") {
        return None;
    }
    if Name::new(entry.name).is_err() {
        return Some(Err(Error::malformed()));
    }
    Some(Ok(DirEntry {
        name: OsString::from_vec(entry.name.to_vec()),
        ino: entry.ino,
        dev: (entry.dev_major, entry.dev_minor),
        file_type: FileType::from_d_type(entry.d_type),
    }))
}

impl Iterator for ReadDir {
    type Item = Result<DirEntry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut refills = 0;
        loop {
            if let Some(entry) = self.take() {
                if entry.is_err() {
                    self.leave(Place::End);
                }
                return Some(entry);
            }
            if matches!(self.place, Place::End) {
                return None;
            }
            if refills > BARREN {
                self.place = Place::End;
                return Some(Err(Error::malformed()));
            }
            if let Err(why) = self.refill() {
                return Some(Err(why));
            }
            refills += 1;
        }
    }
}
