//! What is in a directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// All that can be seen of a file but its times, its inode number and its extended attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    content: Option<Vec<u8>>,
}

/// The files below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

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
                content,
            };
            let below = path.strip_prefix(root).map_err(io::Error::other)?;
            all.insert(below.to_owned(), entry);
        }
        Ok(Tree(all))
    }

    /// What is not as in `before`, in words.
    pub(crate) fn changes(&self, before: &Tree) -> Option<String> {
        let mut changes = Vec::new();
        for (path, entry) in &self.0 {
            match before.0.get(path) {
                None => changes.push(format!("{} is new", path.display())),
                Some(was) if was != entry => {
                    changes.push(format!("{} was {was:?}, is {entry:?}", path.display()));
                }
                Some(_) => {}
            }
        }
        let gone = before.0.keys().filter(|path| !self.0.contains_key(*path));
        changes.extend(gone.map(|path| format!("{} is gone", path.display())));
        (!changes.is_empty()).then(|| changes.join("; "))
    }
}
