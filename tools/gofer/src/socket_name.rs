//! The name of a socket, to be removed unless it is somebody else's by then.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::warn;

use crate::turn::Turn;

/// A name in the file system, and which file it is of. Owns no descriptor.
#[derive(Debug)]
pub(crate) struct SocketName {
    path: PathBuf,
    identity: Option<Identity>,
}

/// Device, inode, and when it was made: the number of an inode that is gone is soon another one's.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

impl SocketName {
    /// That of what is at `path` now.
    pub(crate) fn of(path: &Path) -> SocketName {
        SocketName {
            path: path.to_owned(),
            identity: identity(path),
        }
    }

    /// Whether `path` leads to it.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.identity.is_some() && identity(path) == self.identity
    }

    /// Removes it, unless it is somebody else's by now.
    pub(crate) fn remove(&self) {
        let _turn = Turn::take(&self.path);
        let now = identity(&self.path);
        if now.is_some()
            && now == self.identity
            && let Err(why) = fs::remove_file(&self.path)
            && why.kind() != io::ErrorKind::NotFound
        {
            warn!(%why, path = %self.path.display(), "the socket cannot be removed");
        }
    }
}
