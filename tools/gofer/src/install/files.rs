//! Making files, links and directories so that no user of them sees them half made.
#![forbid(unsafe_code)]

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::failure::{Failure, cannot};

/// What the new version of a file is called until it takes its place.
pub(super) fn staged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// The mode of a program: those who start containers, and what runs as nobody, need it.
pub(super) const PROGRAM: u32 = 0o755;

/// The mode of a text.
pub(super) const TEXT: u32 = 0o644;

/// Makes a file in the place of what is at `path`. The umask does not count.
pub(super) fn put(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    stage(path, content, mode)?;
    replace(path)
}

/// Makes it, but leaves it beside its place.
pub(super) fn stage(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let staged = staged(path);
    clear(&staged)?;
    let write = || -> io::Result<()> {
        let options = &mut File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&staged)?;
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    };
    write().map_err(cannot("cannot write", &staged))
}

/// Puts what is staged in its place.
pub(super) fn replace(path: &Path) -> Result<(), Failure> {
    fs::rename(staged(path), path).map_err(cannot("cannot replace", path))
}

/// Makes a symbolic link in the place of what is at `path`.
pub(super) fn put_link(path: &Path, target: &Path) -> Result<(), Failure> {
    let staged = staged(path);
    clear(&staged)?;
    symlink(target, &staged).map_err(cannot("cannot make", &staged))?;
    replace(path)
}

/// Makes what is missing of a directory and of those above it. Returns which ones that were, the
/// innermost last.
pub(super) fn make_directories(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let missing = path.ancestors().take_while(|ancestor| !ancestor.is_dir());
    let mut missing: Vec<_> = missing.map(Path::to_owned).collect();
    missing.reverse();
    for directory in &missing {
        fs::create_dir(directory).map_err(cannot("cannot make", directory))?;
        fs::set_permissions(directory, Permissions::from_mode(PROGRAM))
            .map_err(cannot("cannot set the mode of", directory))?;
    }
    Ok(missing)
}

/// Removes a file or link, if there is one.
pub(super) fn clear(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            Err(cannot("cannot remove", path)(why))
        }
        _ => Ok(()),
    }
}

/// Removes a directory, unless something is in it. Returns whether it is gone.
pub(super) fn clear_directory(path: &Path) -> Result<bool, Failure> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(why) => Err(cannot("cannot remove", path)(why)),
    }
}
