//! A directory that is being read.

use std::ffi::OsStr;
use std::mem;
use std::time::Duration;

use fuser::{FileAttr, FileHandle, Generation, ReplyDirectory, ReplyDirectoryPlus};
use lisafs::Errno;
use lisafs::client::{DirEntry, OpenFile, ReadDir};
use lisafs::wire::FileType;
use parking_lot::Mutex;

use super::attributes::bare;
use super::inodes::out_of_reach;
use super::refusal::Refusal;
use super::tree::Tree;

/// The entries of an open directory, each at a place that it keeps.
///
/// A server lists a directory once, from the first entry to the last. Programs may go back to any
/// entry that they have seen, so what has been listed is kept while the directory is open.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) number: u64,
    entries: ReadDir,
    seen: Vec<DirEntry>,
    /// What came behind the last of them, if anything did.
    failure: Option<Refusal>,
}

impl Listing {
    pub(super) fn new(number: u64, dir: OpenFile) -> Listing {
        Listing {
            number,
            entries: dir.read_dir(),
            seen: Vec::new(),
            failure: None,
        }
    }

    pub(super) fn dir(&self) -> &OpenFile {
        self.entries.get_ref()
    }

    /// Lists the directory anew, as rewinddir(3) wants it.
    pub(super) fn rewind(&mut self) {
        if !self.seen.is_empty() || self.failure.is_some() {
            self.entries.rewind();
            // What it took is not needed twice, as a rule.
            drop(mem::take(&mut self.seen));
            self.failure = None;
        }
    }

    /// The entry at `place`, counted from 0; `None` behind the last.
    ///
    /// # Errors
    /// The server's.
    pub(super) fn entry(&mut self, place: usize) -> Result<Option<&DirEntry>, Refusal> {
        while self.seen.len() <= place {
            if let Some(why) = self.failure {
                return Err(why);
            }
            match self.entries.next() {
                Some(Ok(entry)) => self.seen.push(entry),
                Some(Err(why)) => self.failure = Some(why.into()),
                None => return Ok(None),
            }
        }
        Ok(self.seen.get(place))
    }
}

/// An entry as it goes to the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'e> {
    /// The number that programs see.
    shown: u64,
    /// Where the next one is.
    next: u64,
    file_type: FileType,
    name: &'e OsStr,
}

/// An answer that entries are put into.
pub(super) trait Page {
    /// Adds an entry of the directory `parent`. Returns whether there was room for it.
    fn add(&mut self, tree: &Tree, parent: u64, item: Item<'_>) -> Result<bool, Refusal>;

    /// Sends it.
    fn done(self);

    /// Sends an error in place of it.
    fn refused(self, why: Refusal);
}

impl Page for ReplyDirectory {
    fn add(&mut self, _: &Tree, _: u64, item: Item<'_>) -> Result<bool, Refusal> {
        let FileAttr { ino, kind, .. } = bare(item.shown, item.file_type);
        let full = ReplyDirectory::add(self, ino, item.next, kind, item.name);
        Ok(!full)
    }

    fn done(self) {
        self.ok();
    }

    fn refused(self, why: Refusal) {
        self.error(why.errno());
    }
}

/// With the attributes, and a number for each file that the kernel gives back some time.
impl Page for ReplyDirectoryPlus {
    fn add(&mut self, tree: &Tree, parent: u64, item: Item<'_>) -> Result<bool, Refusal> {
        let time = tree.policy.caching.of_files();
        if item.name == "." || item.name == ".." {
            let attributes = bare(item.shown, item.file_type);
            let none = Generation(0);
            let full = self.add(
                attributes.ino,
                item.next,
                item.name,
                &time,
                &attributes,
                none,
            );
            return Ok(!full);
        }
        match tree.with_room(|| tree.look_up((parent, item.name))) {
            Ok(found) => {
                let generation = Generation(found.known.generation);
                let (ino, attributes) = (found.attributes.ino, found.attributes);
                let full = self.add(ino, item.next, item.name, &time, &attributes, generation);
                if full {
                    tree.inodes.forget(found.known.number, 1);
                }
                Ok(!full)
            }
            // Removed since it was listed.
            Err(why) if why.is(Errno::ENOENT) => Ok(true),
            // The server shows the name and not the file. So does this. The kernel would take 0 for a
            // file without attributes, but programs take it for no entry.
            Err(_) => {
                let attributes = bare(out_of_reach(item.shown), item.file_type);
                let (none, now) = (Generation(0), Duration::ZERO);
                let ino = attributes.ino;
                let full = self.add(ino, item.next, item.name, &now, &attributes, none);
                Ok(!full)
            }
        }
    }

    fn done(self) {
        self.ok();
    }

    fn refused(self, why: Refusal) {
        self.error(why.errno());
    }
}

impl Tree {
    pub(super) fn open_dir(&self, number: u64) -> Result<FileHandle, Refusal> {
        let dir = self.inodes.file(number)?.open(libc::O_RDONLY)?;
        Ok(self.dirs.insert(Mutex::new(Listing::new(number, dir))))
    }

    /// Answers with the entries from `offset` on that `page` has room for.
    pub(super) fn list(&self, handle: FileHandle, offset: u64, mut page: impl Page) {
        match self.fill(handle, offset, &mut page) {
            Ok(()) => page.done(),
            Err(why) => page.refused(why),
        }
    }

    /// Puts entries into `page` from `offset` on: 0 is `.`, 1 is `..`, and from 2 on they are the
    /// server's.
    fn fill(&self, handle: FileHandle, offset: u64, page: &mut impl Page) -> Result<(), Refusal> {
        let dir = self.dirs.get(handle)?;
        let mut listing = dir.lock();
        if offset == 0 {
            listing.rewind();
        }
        let number = listing.number;
        for place in offset.. {
            let next = place + 1;
            let above = |name| Item {
                shown: self.inodes.shown(match name {
                    "." => number,
                    _ => self.inodes.parent(number),
                }),
                next,
                file_type: FileType::Directory,
                name: OsStr::new(name),
            };
            let item = match place {
                0 => above("."),
                1 => above(".."),
                _ => {
                    let place = usize::try_from(place - 2).map_err(|_| Refusal::INVALID)?;
                    match listing.entry(place) {
                        Ok(Some(entry)) => Item {
                            shown: entry.ino,
                            next,
                            file_type: entry.file_type,
                            name: &entry.name,
                        },
                        Ok(None) => break,
                        // What was found before that is an answer, too.
                        Err(_) if next > offset + 1 => break,
                        Err(why) => return Err(why),
                    }
                }
            };
            if !page.add(self, number, item)? {
                break;
            }
        }
        Ok(())
    }
}
