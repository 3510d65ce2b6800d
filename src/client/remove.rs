//! Removing a directory and everything below it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::resolve::Parent;
use super::{Client, ControlFile, Error};
use crate::Errno;
use crate::wire::FileType;

/// How often a directory that others fill is emptied.
const ATTEMPTS: u32 = 8;

/// A directory that is being emptied.
struct Frame {
    dir: ControlFile,
    name: OsString,
    /// What is left of the last look at its entries.
    entries: Vec<(OsString, FileType)>,
    attempts: u32,
}

impl Frame {
    /// Lists `dir`, which was found as `name` in `above`; `None` if it has gone meanwhile.
    fn new(above: &ControlFile, dir: ControlFile, name: OsString) -> Result<Option<Frame>, Error> {
        let mut frame = Frame {
            dir,
            name,
            entries: Vec::new(),
            attempts: 0,
        };
        let listed = frame.list();
        let listed = unless_gone(above, &frame.name, listed)?;
        Ok(listed.map(|()| frame))
    }

    fn list(&mut self) -> Result<(), Error> {
        self.attempts += 1;
        let entries = self.dir.open(libc::O_RDONLY)?.read_dir();
        self.entries = entries
            .map(|entry| entry.map(|entry| (entry.name, entry.file_type)))
            .collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl Client {
    /// Removes a directory and everything below it; of a symbolic link, the link.
    ///
    /// What others remove at the same time is fine. Depth costs memory here and handles at the
    /// server, but no stack.
    ///
    /// # Errors
    /// ENOTDIR for a file that is neither; ENOTEMPTY when others keep adding to a directory; what
    /// else the server says. Part of the tree may be gone then.
    pub fn remove_dir_all(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let Parent { dir, name, slash } = self.resolve_parent(path.as_ref(), Errno::EBUSY)?;
        let top = dir.walk_one(&name)?;
        match top.file_type() {
            FileType::Directory => match Frame::new(&dir, top, name)? {
                Some(top) => empty(&dir, top),
                None => Ok(()),
            },
            FileType::Symlink if !slash => dir.unlink(name, 0),
            _ => Err(Error::Local(Errno::ENOTDIR)),
        }
    }
}

/// Empties `top`, which is in `above`, and removes it.
fn empty(above: &ControlFile, top: Frame) -> Result<(), Error> {
    let mut stack = vec![top];
    while let Some(frame) = stack.last_mut() {
        if let Some((name, file_type)) = frame.entries.pop() {
            if let Some(below) = remove(&frame.dir, name, file_type)? {
                stack.push(below);
            }
            continue;
        }
        let Some(mut done) = stack.pop() else { break };
        let parent = stack.last().map_or(above, |frame| &frame.dir);
        match parent.unlink(&done.name, libc::AT_REMOVEDIR) {
            Err(why) if why.errno() == Errno::ENOTEMPTY && done.attempts < ATTEMPTS => {
                let listed = done.list();
                if unless_gone(parent, &done.name, listed)?.is_some() {
                    stack.push(done);
                }
            }
            removed => {
                unless_gone(parent, &done.name, removed)?;
            }
        }
    }
    Ok(())
}

/// Removes an entry, or returns the directory that has to be emptied first.
fn remove(dir: &ControlFile, name: OsString, file_type: FileType) -> Result<Option<Frame>, Error> {
    if !matches!(file_type, FileType::Directory | FileType::Unknown) {
        match dir.unlink(&name, 0) {
            // Another file has the name by now.
            Err(why) if why.errno() == Errno::EISDIR => {}
            removed => return unless_gone(dir, &name, removed).map(|_| None),
        }
    }
    match unless_gone(dir, &name, dir.walk_one(&name))? {
        Some(below) if below.file_type() == FileType::Directory => Frame::new(dir, below, name),
        Some(_) => unless_gone(dir, &name, dir.unlink(&name, 0)).map(|_| None),
        None => Ok(None),
    }
}

/// `None` for what was done to `name` in `dir` if somebody else has removed that.
fn unless_gone<T>(
    dir: &ControlFile,
    name: &OsStr,
    done: Result<T, Error>,
) -> Result<Option<T>, Error> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(why) if why.errno() == Errno::ENOENT => Ok(None),
        // What servers say of, and in, a directory that was removed through them, among other
        // things. Nothing can be found in it, nor under its name.
        Err(why) if why.errno() == Errno::EINVAL => match dir.walk_one(name) {
            Err(gone) if gone.errno() == Errno::ENOENT => Ok(None),
            _ => Err(why),
        },
        Err(why) => Err(why),
    }
}
