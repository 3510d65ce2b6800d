//! Removing a directory and everything below it.

use std::ffi::OsString;
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
    fn new(dir: ControlFile, name: OsString) -> Result<Frame, Error> {
        let mut frame = Frame {
            dir,
            name,
            entries: Vec::new(),
            attempts: 0,
        };
        frame.list()?;
        Ok(frame)
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
            FileType::Directory => empty(&dir, Frame::new(top, name)?),
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
                done.list()?;
                stack.push(done);
            }
            removed => unless_gone(removed)?,
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
            removed => return unless_gone(removed).map(|()| None),
        }
    }
    match dir.walk_one(&name) {
        Ok(below) if below.file_type() == FileType::Directory => Frame::new(below, name).map(Some),
        Ok(_) => unless_gone(dir.unlink(&name, 0)).map(|()| None),
        Err(why) => unless_gone(Err(why)).map(|()| None),
    }
}

/// Success also for what somebody else has removed.
fn unless_gone(removed: Result<(), Error>) -> Result<(), Error> {
    match removed {
        Err(why) if why.errno() == Errno::ENOENT => Ok(()),
        removed => removed,
    }
}
