//! What is in a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lisafs::wire::SetStat;
use rustix::fs::{lgetxattr, llistxattr};

/// All that can be seen of a file and is the same when it is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    device: u64,
    content: Option<Vec<u8>>,
    attributes: BTreeMap<CString, Vec<u8>>,
}

/// What tells whether a file was touched. When it was read last does not: to look here changes that.
#[derive(Clone, Copy, Debug)]
struct Moment {
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The files below a directory.
#[derive(Clone, Debug)]
pub(crate) struct Tree(BTreeMap<PathBuf, (Entry, Moment)>);

/// What has other times than before, or is another file: in words.
pub(crate) type Touched = BTreeSet<String>;

impl Tree {
    pub(crate) fn below(root: &Path) -> io::Result<Tree> {
        let mut all = BTreeMap::new();
        let mut left = vec![root.to_owned()];
        while let Some(path) = left.pop() {
            let about = fs::symlink_metadata(&path)?;
            let content = if about.is_dir() {
                for entry in fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
                None
            } else if about.is_file() {
                Some(fs::read(&path)?)
            } else if about.is_symlink() {
                Some(fs::read_link(&path)?.into_os_string().into_encoded_bytes())
            } else {
                None
            };
            let entry = Entry {
                mode: about.mode(),
                owner: (about.uid(), about.gid()),
                links: about.nlink(),
                device: about.rdev(),
                content,
                attributes: attributes(&path)?,
            };
            let moment = Moment {
                inode: about.ino(),
                modified: (about.mtime(), about.mtime_nsec()),
                changed: (about.ctime(), about.ctime_nsec()),
            };
            let below = path.strip_prefix(root).map_err(io::Error::other)?;
            all.insert(below.to_owned(), (entry, moment));
        }
        Ok(Tree(all))
    }

    /// What is not as in `before`, in words; which files those are and when they were touched apart.
    pub(crate) fn changes(&self, before: &Tree) -> Option<String> {
        let mut changes = Vec::new();
        for (path, (entry, _)) in &self.0 {
            match before.0.get(path) {
                None => changes.push(format!("{} is new", path.display())),
                Some((was, _)) if was != entry => {
                    changes.push(format!("{} was {was:?}, is {entry:?}", path.display()));
                }
                Some(_) => {}
            }
        }
        let gone = before.0.keys().filter(|path| !self.0.contains_key(*path));
        changes.extend(gone.map(|path| format!("{} is gone", path.display())));
        (!changes.is_empty()).then(|| changes.join("; "))
    }

    /// What of all that was there `before` has been touched since.
    pub(crate) fn touched(&self, before: &Tree) -> Touched {
        let mut touched = Touched::new();
        for (path, (_, moment)) in &self.0 {
            let Some((_, was)) = before.0.get(path) else {
                continue;
            };
            let of = |what| format!("{what} of /{}", path.display());
            if moment.inode != was.inode {
                // Their times are those of two files, which may be the same.
                touched.insert(of("the identity"));
                continue;
            }
            if moment.modified != was.modified {
                touched.insert(of("the mtime"));
            }
            if moment.changed != was.changed {
                touched.insert(of("the ctime"));
            }
        }
        touched
    }

    /// With these attributes of all files that were there `before` as they were then.
    pub(crate) fn but(&self, kept: SetStat, before: &Tree) -> Tree {
        let mut tree = self.clone();
        for (path, (entry, _)) in &mut tree.0 {
            let Some((was, _)) = before.0.get(path) else {
                continue;
            };
            if kept.contains(SetStat::MODE) {
                entry.mode = was.mode;
            }
            if kept.contains(SetStat::UID) {
                entry.owner.0 = was.owner.0;
            }
            if kept.contains(SetStat::GID) {
                entry.owner.1 = was.owner.1;
            }
            if kept.contains(SetStat::SIZE) {
                entry.content.clone_from(&was.content);
            }
        }
        tree
    }
}

/// The extended attributes of the file itself; none where the file system has none.
fn attributes(path: &Path) -> io::Result<BTreeMap<CString, Vec<u8>>> {
    let mut names = vec![0; 65_536];
    let length = match llistxattr(path, &mut names[..]) {
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        listed => listed?,
    };
    let mut all = BTreeMap::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let name = CString::from_vec_with_nul(name.to_vec()).map_err(io::Error::other)?;
        let mut value = vec![0; 65_536];
        let length = lgetxattr(path, &name, &mut value[..])?;
        value.truncate(length);
        all.insert(name, value);
    }
    Ok(all)
}
