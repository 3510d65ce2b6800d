//! Where something new goes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lisafs::Errno;
use lisafs::client::{Client, ControlFile, Error};

use crate::failure::Why;

/// The directory that `path` is in, and its name there. A slash behind the name is for
/// directories, and refused.
pub(crate) fn spot(client: &Client, path: &Path) -> Result<(ControlFile, OsString), Why> {
    let Some(name) = path.file_name() else {
        // `..`, or the root.
        client.lookup(path)?;
        return Err(Error::Local(Errno::EEXIST).into());
    };
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Error::Local(Errno::ENOENT).into());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => client.lookup(parent)?,
        _ => client.root(),
    };
    Ok((parent, name.to_owned()))
}

/// `path` as a directory can be called as well.
pub(crate) fn without_slash(path: &Path) -> PathBuf {
    path.components().collect()
}
