//! Directories to copy, and whether they are the same.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What makes a copy a good one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    mode: u32,
    /// Of files and directories.
    mtime: Option<(i64, i64)>,
    contents: Vec<u8>,
}

/// All that is below a directory, and the directory.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Kept> {
    let mut found = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = root.join(&path);
        let metadata = fs::symlink_metadata(&full).unwrap();
        let contents = if metadata.is_file() {
            fs::read(&full).unwrap()
        } else if metadata.is_symlink() {
            fs::read_link(&full).unwrap().as_os_str().as_bytes().into()
        } else {
            Vec::new()
        };
        if metadata.is_dir() {
            let entries = fs::read_dir(&full).unwrap();
            todo.extend(entries.map(|entry| path.join(entry.unwrap().file_name())));
        }
        let kept = Kept {
            mode: metadata.mode(),
            mtime: (!metadata.is_symlink()).then(|| (metadata.mtime(), metadata.mtime_nsec())),
            contents,
        };
        found.insert(path, kept);
    }
    found
}

/// Bytes that are not the same anywhere, and the same every time.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Makes a tree of a few hundred files of all kinds that can be copied.
pub(crate) fn plant(root: &Path) {
    fs::create_dir(root).unwrap();
    let mut dirs = vec![root.to_owned()];
    for number in 0..8 {
        let dir = root.join(format!("dir {number}")).join("below");
        fs::create_dir_all(&dir).unwrap();
        dirs.push(dir);
    }
    for (number, dir) in (0..300).zip(dirs.iter().cycle()) {
        let path = dir.join(format!("file {number}"));
        let len = [0, 1, 100, 5_000, 70_000][number % 5];
        fs::write(&path, bytes(number as u64, len)).unwrap();
        let mode = [0o644, 0o755, 0o600, 0o444][number % 4];
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        date(&path, number as u64);
    }
    fs::write(root.join(OsStr::from_bytes(b"\xff\n\x1b[2J")), "odd").unwrap();
    fs::write(root.join(".hidden"), "h").unwrap();
    symlink("dir 0/below", root.join("link")).unwrap();
    symlink("/nowhere/at\\all", root.join("dangling")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    let closed = root.join("dir 1");
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    for dir in &dirs {
        date(dir, 7);
    }
}

fn date(path: &Path, number: u64) {
    let time = Duration::new(1_000_000_000 + number, 123_456_789);
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + time);
    File::open(path).unwrap().set_times(times).unwrap();
}

/// Makes it possible to remove a planted tree.
pub(crate) fn unlock(root: &Path) {
    fs::set_permissions(root.join("dir 1"), Permissions::from_mode(0o755)).unwrap();
}
