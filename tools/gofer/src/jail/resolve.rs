//! Paths inside a directory that is somebody else's root.
//!
//! The tree belongs to the container: its symlinks say where things are in the container, and it may
//! exchange them at any time. So each component is looked at without following it, symlinks are
//! followed here, `..` goes back to a directory that is still open, and at the end the path without
//! symlinks is opened in one system call that refuses to meet any.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};

/// How many symlinks there can be along a path. The kernel follows fewer, but `runsc` as many.
const MAX_SYMLINKS: usize = 255;

/// What a path is to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// Anything that is not a directory.
    File,
}

/// A file inside the root.
#[derive(Debug)]
pub(super) struct Place {
    /// An O_PATH descriptor of it, or of what is mounted there.
    pub(super) file: OwnedFd,
    /// Where it is inside the root: absolute, without `.`, `..` and symlinks.
    pub(super) path: PathBuf,
}

/// Finds the file that `path` leads to inside `root`, which is `/` to it and to all symlinks. What
/// is missing is made: directories with the mode 0777, the last component as a file with that mode if
/// that is the `kind`; less the umask. What is there already is not changed.
///
/// # Errors
/// ELOOP for too many symlinks, or if somebody has put one where there was none; ENOTDIR if there is
/// a file where a directory is needed, EISDIR if it is the other way round; as openat(2), mkdirat(2)
/// and mknodat(2).
pub(super) fn find_or_make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<Place, Errno> {
    let mut walk = Walk::new(root);
    walk.follow(path)?;
    walk.make_missing(kind)?;
    let relative: PathBuf = walk.names.iter().collect();
    let file = open_unlinked(root, &relative)?;
    match (kind, type_of(&file)? == SFlag::S_IFDIR) {
        (Kind::Directory, false) => return Err(Errno::ENOTDIR),
        (Kind::File, true) => return Err(Errno::EISDIR),
        (Kind::Directory, true) | (Kind::File, false) => {}
    }
    Ok(Place {
        file,
        path: Path::new("/").join(relative),
    })
}

/// Opens a path without `..` and symlinks in one go. What has been moved out of the root, or replaced
/// by a symlink since it was looked at, is not found.
///
/// # Errors
/// As openat2(2).
pub(super) fn open_unlinked(root: BorrowedFd<'_>, relative: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
    if relative.as_os_str().is_empty() {
        openat2(root, ".", how)
    } else {
        openat2(root, relative, how)
    }
}

/// A way from the root to some place, symlinks resolved.
struct Walk<'r> {
    root: BorrowedFd<'r>,
    names: Vec<OsString>,
    /// The files of the first of `names`; the others do not exist.
    files: Vec<OwnedFd>,
}

impl<'r> Walk<'r> {
    fn new(root: BorrowedFd<'r>) -> Walk<'r> {
        Walk {
            root,
            names: Vec::new(),
            files: Vec::new(),
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.files.last().map_or(self.root, |file| file.as_fd())
    }

    fn follow(&mut self, path: &Path) -> Result<(), Errno> {
        // What is still to be walked, the next component last.
        let mut ahead = Vec::new();
        push(&mut ahead, path);
        let mut symlinks = 0;
        while let Some(step) = ahead.pop() {
            match step {
                Step::ToRoot => {
                    self.names.clear();
                    self.files.clear();
                }
                Step::Up => {
                    self.names.pop();
                    self.files.truncate(self.names.len());
                }
                Step::Down(name) => {
                    if let Some(target) = self.descend(name)? {
                        symlinks += 1;
                        if symlinks > MAX_SYMLINKS {
                            return Err(Errno::ELOOP);
                        }
                        push(&mut ahead, Path::new(&target));
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes to `name`, unless that is a symlink: then returns where it leads.
    fn descend(&mut self, name: OsString) -> Result<Option<OsString>, Errno> {
        let is_missing = self.files.len() < self.names.len();
        if !is_missing {
            match look(self.here(), &name) {
                Err(Errno::ENOENT) => {}
                Err(why) => return Err(why),
                Ok(file) => {
                    if type_of(&file)? == SFlag::S_IFLNK {
                        return readlinkat(&file, "").map(Some);
                    }
                    self.files.push(file);
                }
            }
        }
        self.names.push(name);
        Ok(None)
    }

    fn make_missing(&mut self, kind: Kind) -> Result<(), Errno> {
        let all = Mode::S_IRWXU | Mode::S_IRWXG | Mode::S_IRWXO;
        while let Some(name) = self.names.get(self.files.len()) {
            let is_last = self.files.len() + 1 == self.names.len();
            let made = if is_last && kind == Kind::File {
                mknodat(self.here(), name.as_os_str(), SFlag::S_IFREG, all, 0)
            } else {
                mkdirat(self.here(), name.as_os_str(), all)
            };
            match made {
                // Somebody else was faster.
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(why) => return Err(why),
            }
            let file = look(self.here(), name)?;
            if type_of(&file)? == SFlag::S_IFLNK {
                return Err(Errno::ELOOP);
            }
            self.files.push(file);
        }
        Ok(())
    }
}

enum Step {
    ToRoot,
    Up,
    Down(OsString),
}

/// Puts the steps of a path in front of those that are `ahead`.
fn push(ahead: &mut Vec<Step>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::RootDir => ahead.push(Step::ToRoot),
            Component::ParentDir => ahead.push(Step::Up),
            Component::Normal(name) => ahead.push(Step::Down(name.to_owned())),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn look(directory: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// Whether an open file is a directory.
pub(super) fn is_directory(file: impl AsFd) -> bool {
    type_of(file).is_ok_and(|kind| kind == SFlag::S_IFDIR)
}

fn type_of(file: impl AsFd) -> Result<SFlag, Errno> {
    let mode = SFlag::from_bits_truncate(fstat(file)?.st_mode);
    Ok(mode & SFlag::S_IFMT)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use nix::errno::Errno;
    use nix::fcntl::{RenameFlags, renameat2};
    use nix::sys::stat::fstat;
    use tempfile::TempDir;

    use super::{Kind, MAX_SYMLINKS, Walk, find_or_make, open_unlinked};

    fn find(root: &TempDir, path: &str, kind: Kind) -> Result<String, Errno> {
        let directory = File::open(root.path()).unwrap();
        let place = find_or_make(directory.as_fd(), Path::new(path), kind)?;
        let here = fs::symlink_metadata(root.path().join(place.path.strip_prefix("/").unwrap()));
        assert_eq!(fstat(&place.file).unwrap().st_ino, here.unwrap().ino());
        Ok(place.path.to_str().unwrap().to_owned())
    }

    fn directory(root: &TempDir, path: &str) -> String {
        find(root, path, Kind::Directory).unwrap()
    }

    /// A root with a directory `/d/e`, and a directory next to the root that has an `e`, too.
    fn root() -> (TempDir, TempDir) {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("e")).unwrap();
        let root = tempfile::tempdir_in(outside.path()).unwrap();
        fs::create_dir_all(root.path().join("d/e")).unwrap();
        (outside, root)
    }

    #[test]
    fn nothing_leads_out() {
        let (outside, root) = root();
        assert_eq!(directory(&root, "/../../d/../../d/./e//"), "/d/e");
        assert_eq!(directory(&root, "d/e"), "/d/e");
        assert_eq!(directory(&root, "/"), "/");
        assert_eq!(directory(&root, ".."), "/");
        symlink("/d", root.path().join("absolute")).unwrap();
        assert_eq!(directory(&root, "/absolute/e"), "/d/e");
        symlink("../../../../d", root.path().join("up")).unwrap();
        assert_eq!(directory(&root, "/up/e"), "/d/e");
        symlink(outside.path(), root.path().join("outside")).unwrap();
        let inside = directory(&root, "/outside/e");
        assert_eq!(Path::new(&inside), outside.path().join("e"));
        assert!(root.path().join(inside.strip_prefix('/').unwrap()).is_dir());
        let names = fs::read_dir(outside.path()).unwrap().count();
        assert_eq!(names, 2, "the root and `e` are all that is outside");
    }

    #[test]
    fn what_is_missing_is_made() {
        let (_outside, root) = root();
        assert_eq!(directory(&root, "/d/new/deep"), "/d/new/deep");
        assert!(root.path().join("d/new/deep").is_dir());
        let file = find(&root, "/d/other/file", Kind::File).unwrap();
        assert_eq!(file, "/d/other/file");
        assert!(root.path().join("d/other/file").is_file());
        // Taken as it is, so `..` leads back.
        assert_eq!(directory(&root, "/no/../d/no/no/../../e"), "/d/e");
        assert!(!root.path().join("no").exists() && !root.path().join("d/no").exists());
        symlink("/not/yet", root.path().join("dangling")).unwrap();
        assert_eq!(find(&root, "/dangling", Kind::File).unwrap(), "/not/yet");
        assert!(root.path().join("not/yet").is_file());
    }

    #[test]
    fn what_is_there_stays() {
        let (_outside, root) = root();
        fs::write(root.path().join("d/file"), "text").unwrap();
        assert_eq!(find(&root, "/d/file", Kind::File).unwrap(), "/d/file");
        assert_eq!(fs::read(root.path().join("d/file")).unwrap(), b"text");
        assert_eq!(
            find(&root, "/d/file/below", Kind::File),
            Err(Errno::ENOTDIR)
        );
    }

    #[test]
    fn symlinks_are_counted() {
        let (_outside, root) = root();
        symlink("loop", root.path().join("loop")).unwrap();
        assert_eq!(find(&root, "/loop", Kind::Directory), Err(Errno::ELOOP));
        symlink("/d", root.path().join("0")).unwrap();
        for number in 1..=MAX_SYMLINKS {
            let target = (number - 1).to_string();
            symlink(target, root.path().join(number.to_string())).unwrap();
        }
        assert_eq!(directory(&root, &format!("/{}", MAX_SYMLINKS - 1)), "/d");
        let one_more = format!("/{MAX_SYMLINKS}");
        assert_eq!(find(&root, &one_more, Kind::Directory), Err(Errno::ELOOP));
    }

    #[test]
    fn what_is_exchanged_after_the_look_is_refused() {
        let (outside, root) = root();
        let directory = File::open(root.path()).unwrap();
        // A symlink to outside takes the place of a directory on the way.
        let mut walk = Walk::new(directory.as_fd());
        walk.follow(Path::new("/d/e")).unwrap();
        fs::rename(root.path().join("d"), root.path().join("old")).unwrap();
        symlink(outside.path(), root.path().join("d")).unwrap();
        let opened = open_unlinked(directory.as_fd(), Path::new("d/e"));
        assert_eq!(opened.unwrap_err(), Errno::ELOOP);
        // One takes the place of a component that was missing.
        let mut walk = Walk::new(directory.as_fd());
        walk.follow(Path::new("/new/e")).unwrap();
        symlink(outside.path(), root.path().join("new")).unwrap();
        assert_eq!(walk.make_missing(Kind::Directory), Err(Errno::ELOOP));
        // A directory on the way is moved out, and another one is there.
        let mut walk = Walk::new(directory.as_fd());
        walk.follow(Path::new("/old/e/new")).unwrap();
        fs::rename(root.path().join("old/e"), outside.path().join("moved")).unwrap();
        walk.make_missing(Kind::Directory).unwrap();
        let opened = open_unlinked(directory.as_fd(), Path::new("old/e/new"));
        assert_eq!(opened.unwrap_err(), Errno::ENOENT);
    }

    #[test]
    fn what_is_exchanged_all_the_time_never_leads_out() {
        let (outside, root) = root();
        let target = Path::new("../e");
        symlink(target, root.path().join("link")).unwrap();
        fs::create_dir(root.path().join("e")).unwrap();
        let directory = File::open(root.path()).unwrap();
        let done = AtomicBool::new(false);
        let results: Vec<_> = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let flags = RenameFlags::RENAME_EXCHANGE;
                    renameat2(&directory, "d", &directory, "link", flags).unwrap();
                }
            });
            let results = (0..1000).map(|number| {
                let path = format!("/d/{number}");
                find_or_make(directory.as_fd(), Path::new(&path), Kind::Directory)
            });
            let results = results.collect();
            done.store(true, Ordering::Relaxed);
            results
        });
        assert!(results.iter().any(Result::is_ok));
        for why in results.into_iter().filter_map(Result::err) {
            assert!(matches!(why, Errno::ELOOP | Errno::ENOENT), "{why}");
        }
        let entries = fs::read_dir(outside.path().join("e")).unwrap();
        assert_eq!(entries.count(), 0);
    }
}
