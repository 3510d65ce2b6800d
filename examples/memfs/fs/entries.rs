//! The entries of a directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use lisafs::Errno;
use lisafs::wire::Name;

use super::budget::{Budget, Charge};
use super::inode::Inode;

/// The longest name in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// What a name costs of the bytes there are, however long it is: so a rename costs nothing.
const NAME_COST: u64 = 512;

/// What a name stands for, and what paid for the name.
#[derive(Debug)]
pub(crate) struct Entry {
    inode: Arc<Inode>,
    _charge: Charge,
}

impl Entry {
    /// # Errors
    /// ENOSPC if there is no room for one more.
    pub(crate) fn new(bytes: &Arc<Budget>, inode: Arc<Inode>) -> Result<Entry, Errno> {
        Ok(Entry {
            inode,
            _charge: Charge::new(bytes, NAME_COST)?,
        })
    }

    pub(crate) fn inode(&self) -> &Inode {
        &self.inode
    }
}

/// The names in a directory, by name and by cookie.
///
/// A cookie is the place of an entry in a listing. Each name that is entered gets the next one, and none
/// is used twice, so whoever lists a directory that changes misses nothing that stays and sees nothing
/// twice, and the place to go on is found without counting.
///
/// Both maps are trees, which shrink with what is in them: a client that fills directories and empties
/// them again would leave the memory of hash tables behind, for which nothing is charged any more.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    by_name: BTreeMap<Arc<[u8]>, u64>,
    by_cookie: BTreeMap<u64, (Arc<[u8]>, Entry)>,
    last_cookie: u64,
    directories: u32,
}

impl Entries {
    /// The file called `name`.
    ///
    /// # Errors
    /// ENOENT if there is none, ENAMETOOLONG if there can be none.
    pub(crate) fn get(&self, name: Name<'_>) -> Result<Arc<Inode>, Errno> {
        if name.as_bytes().len() > MAX_NAME {
            return Err(Errno::ENAMETOOLONG);
        }
        let cookie = self.by_name.get(name.as_bytes()).ok_or(Errno::ENOENT)?;
        let (_, entry) = self.by_cookie.get(cookie).ok_or(Errno::ENOENT)?;
        Ok(Arc::clone(&entry.inode))
    }

    /// # Errors
    /// EEXIST if there is a file called `name`, ENAMETOOLONG if there can be none.
    pub(crate) fn check_vacant(&self, name: Name<'_>) -> Result<(), Errno> {
        match self.get(name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Enters `entry` as `name`, which is vacant.
    pub(crate) fn insert(&mut self, name: Name<'_>, entry: Entry) {
        self.last_cookie += 1;
        self.directories += u32::from(entry.inode.is_directory());
        let name: Arc<[u8]> = name.as_bytes().into();
        self.by_name.insert(Arc::clone(&name), self.last_cookie);
        self.by_cookie.insert(self.last_cookie, (name, entry));
    }

    /// Takes `name` out.
    pub(crate) fn remove(&mut self, name: Name<'_>) -> Option<Entry> {
        let cookie = self.by_name.remove(name.as_bytes())?;
        let (_, entry) = self.by_cookie.remove(&cookie)?;
        self.directories -= u32::from(entry.inode.is_directory());
        Some(entry)
    }

    /// The entries behind `cookie`, each with its own.
    pub(crate) fn behind(&self, cookie: u64) -> impl Iterator<Item = (u64, &[u8], &Inode)> {
        self.by_cookie
            .range(cookie.saturating_add(1)..)
            .map(|(cookie, (name, entry))| (*cookie, &**name, &*entry.inode))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_cookie.is_empty()
    }

    /// How many of them are directories.
    pub(crate) fn directories(&self) -> u32 {
        self.directories
    }

    /// Everything that is left, for taking a tree apart.
    pub(crate) fn into_inodes(self) -> impl Iterator<Item = Arc<Inode>> {
        self.by_cookie.into_values().map(|(_, entry)| entry.inode)
    }
}
