//! From paths to handles. The server follows no symbolic links, so this side does.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::control_file::WalkStatus;
use super::{Client, ControlFile, Error};
use crate::Errno;
use crate::wire::{FileType, Inode};

/// As many symbolic links as Linux follows in one path.
const MAX_LINKS: usize = 40;

/// What to do with a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastLink {
    Follow,
    Keep,
}

/// A component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Component {
    Name(OsString),
    /// `..`, which is the root's own child there.
    Parent,
    /// `.`, and the empty one behind a trailing slash: a directory, whatever the link says.
    Directory,
}

/// Cuts `path` up. What only says "here", before other components, is left out.
fn components(path: &OsStr) -> Vec<Component> {
    let mut parts: Vec<_> = path
        .as_bytes()
        .split(|byte| *byte == b'/')
        .map(|part| match part {
            b"" | b"." => Component::Directory,
            b".." => Component::Parent,
            name => Component::Name(OsString::from_vec(name.to_vec())),
        })
        .collect();
    let last = parts.pop();
    parts.retain(|part| *part != Component::Directory);
    parts.extend(last);
    parts
}

/// The end of a path that may not exist yet.
pub(super) struct Parent {
    /// The directory that the last component is, or would be, in.
    pub(super) dir: ControlFile,
    /// The last component.
    pub(super) name: OsString,
    /// A slash follows it, so it has to be a directory.
    pub(super) slash: bool,
}

/// Where a resolution has come to.
struct Walker {
    root: ControlFile,
    /// The way from the root to here, without the root.
    trail: Vec<(OsString, ControlFile)>,
    todo: VecDeque<Component>,
    links: usize,
    last: LastLink,
}

/// A path's file, or the place where it would be.
pub(super) enum Target {
    File(ControlFile),
    /// All but the last component exist.
    Missing(Parent),
}

impl Client {
    /// The file at `path`.
    pub(super) fn resolve(&self, path: &Path, last: LastLink) -> Result<ControlFile, Error> {
        match self.resolve_target(path, last)? {
            Target::File(file) => Ok(file),
            Target::Missing(_) => Err(Error::Local(Errno::ENOENT)),
        }
    }

    /// The file at `path`, or the place where it would be created.
    pub(super) fn resolve_target(&self, path: &Path, last: LastLink) -> Result<Target, Error> {
        let mut walker = Walker::new(self, path, last)?;
        match walker.run()? {
            None => Ok(Target::File(walker.into_file())),
            Some((name, slash)) => Ok(Target::Missing(Parent {
                dir: walker.into_file(),
                name,
                slash,
            })),
        }
    }

    /// The directory of the last component of `path`, which is not looked at. `errno` is for paths
    /// that end in the root, `.` or `..`.
    pub(super) fn resolve_parent(&self, path: &Path, errno: Errno) -> Result<Parent, Error> {
        let mut walker = Walker::new(self, path, LastLink::Follow)?;
        let slash = walker
            .todo
            .pop_back_if(|last| *last == Component::Directory);
        let Some(Component::Name(name)) = walker.todo.pop_back() else {
            return Err(Error::Local(errno));
        };
        // Whatever is left leads to a directory.
        walker.todo.push_back(Component::Directory);
        match walker.run()? {
            None => Ok(Parent {
                dir: walker.into_file(),
                name,
                slash: slash.is_some(),
            }),
            Some(_) => Err(Error::Local(Errno::ENOENT)),
        }
    }

    /// The way from the root to the file at `path`, without links, `.` and `..`.
    pub(super) fn resolve_path(&self, path: &Path) -> Result<PathBuf, Error> {
        let mut walker = Walker::new(self, path, LastLink::Follow)?;
        match walker.run()? {
            None => Ok(walker
                .trail
                .iter()
                .fold(PathBuf::from("/"), |path, (name, _)| path.join(name))),
            Some(_) => Err(Error::Local(Errno::ENOENT)),
        }
    }
}

impl Walker {
    fn new(client: &Client, path: &Path, last: LastLink) -> Result<Walker, Error> {
        if path.as_os_str().is_empty() {
            return Err(Error::Local(Errno::ENOENT));
        }
        Ok(Walker {
            root: client.root(),
            trail: Vec::new(),
            todo: components(path.as_os_str()).into(),
            links: 0,
            last,
        })
    }

    /// Goes all the way. `Some` is the last component, if it alone does not exist, and whether a
    /// slash follows it.
    fn run(&mut self) -> Result<Option<(OsString, bool)>, Error> {
        while let Some(next) = self.todo.pop_front() {
            match next {
                Component::Parent => {
                    self.expect_directory()?;
                    self.trail.pop();
                }
                Component::Directory => self.expect_directory()?,
                Component::Name(name) => {
                    self.todo.push_front(Component::Name(name));
                    if let Some(missing) = self.walk()? {
                        return Ok(Some(missing));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Walks all the names that come next, or as many as one message holds.
    fn walk(&mut self) -> Result<Option<(OsString, bool)>, Error> {
        let names = self.take_names();
        let walked = self.here().walk(&names)?;
        let mut names: VecDeque<_> = names.into();
        for file in walked.files {
            let name = names.pop_front().ok_or_else(Error::malformed)?;
            self.trail.push((name, file));
        }
        if walked.status == WalkStatus::Missing {
            return self.missing(names).map(Some);
        }
        for name in names.into_iter().rev() {
            self.todo.push_front(Component::Name(name));
        }
        let is_link = self.here().file_type() == FileType::Symlink;
        if is_link && !(self.todo.is_empty() && self.last == LastLink::Keep) {
            self.follow()?;
        }
        Ok(None)
    }

    /// Decides what it means that the first of `names` does not exist.
    fn missing(&mut self, mut names: VecDeque<OsString>) -> Result<(OsString, bool), Error> {
        let slash = match self.todo.len() {
            0 => false,
            1 => self.todo.front() == Some(&Component::Directory),
            _ => return Err(Error::Local(Errno::ENOENT)),
        };
        match (names.pop_front(), names.is_empty()) {
            (Some(name), true) if self.todo.is_empty() || slash => Ok((name, slash)),
            _ => Err(Error::Local(Errno::ENOENT)),
        }
    }

    /// Puts what the link here says in its place.
    fn follow(&mut self) -> Result<(), Error> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Error::Local(Errno::ELOOP));
        }
        let target = match self.trail.pop() {
            Some((_, link)) => link.readlink()?,
            None => return Err(Error::malformed()),
        };
        if target.as_os_str().is_empty() {
            return Err(Error::Local(Errno::ENOENT));
        }
        if target.is_absolute() {
            self.trail.clear();
        }
        let mut parts = components(target.as_os_str());
        // Between components it says nothing that the next one does not.
        if !self.todo.is_empty() {
            parts.pop_if(|last| *last == Component::Directory);
        }
        for part in parts.into_iter().rev() {
            self.todo.push_front(part);
        }
        Ok(())
    }

    /// Takes names off the path, at least one, and as many as fit into one walk.
    fn take_names(&mut self) -> Vec<OsString> {
        let limit = self.root.client().max_message_size() as usize;
        // The reply has a byte, a count and the inodes, the request an id, a count and the names.
        let most = (limit.saturating_sub(3) / size_of::<Inode>()).clamp(1, usize::from(u16::MAX));
        let mut room = limit.saturating_sub(10);
        let mut names = Vec::new();
        while names.len() < most
            && let Some(Component::Name(name)) = self.todo.pop_front_if(|next| match next {
                Component::Name(name) => names.is_empty() || name.len() + 2 <= room,
                Component::Parent | Component::Directory => false,
            })
        {
            room = room.saturating_sub(name.len() + 2);
            names.push(name);
        }
        names
    }

    fn expect_directory(&self) -> Result<(), Error> {
        match self.here().file_type() {
            FileType::Directory => Ok(()),
            _ => Err(Error::Local(Errno::ENOTDIR)),
        }
    }

    fn here(&self) -> &ControlFile {
        self.trail.last().map_or(&self.root, |(_, file)| file)
    }

    fn into_file(mut self) -> ControlFile {
        self.trail.pop().map_or(self.root, |(_, file)| file)
    }
}

#[cfg(test)]
mod tests {
    use super::Component::{Directory, Name, Parent};
    use super::*;

    fn cut(path: &str) -> Vec<Component> {
        components(OsStr::new(path))
    }

    #[test]
    fn paths_are_cut_at_slashes() {
        let name = |name: &str| Name(name.into());
        assert_eq!(cut("/"), [Directory]);
        assert_eq!(cut("."), [Directory]);
        assert_eq!(cut("a"), [name("a")]);
        assert_eq!(cut("//a/./b"), [name("a"), name("b")]);
        assert_eq!(cut("a/"), [name("a"), Directory]);
        assert_eq!(cut("a//b/."), [name("a"), name("b"), Directory]);
        assert_eq!(cut("../a/.."), [Parent, name("a"), Parent]);
    }
}
