//! What is served, and the mounts that are made of it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use lisafs::host::{HostFs, HostOptions, SetupError};
use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::attributes::{self, AccessTimes, Attributes, Propagation, PropagationKind};
use super::detached::Detached;
use super::mount_error::MountError;
use super::mount_tree::{self, Manner, MountTree, Source, staging};
use super::resolve;
use crate::failure::Failure;
use crate::sys;

/// What is to be served, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served<'s> {
    pub(crate) dir: &'s Path,
    pub(crate) options: HostOptions,
    pub(crate) readonly: bool,
    /// The number of the client's socket, if it is one of the standard streams' perhaps.
    pub(crate) client: Option<RawFd>,
}

impl Served<'_> {
    /// What serves it, with `root` for its root.
    ///
    /// # Errors
    /// If it cannot be served.
    pub(crate) fn backend(&self, root: OwnedFd) -> Result<HostFs, Failure> {
        HostFs::new(root, self.options).map_err(|why| self.failed(why))
    }

    /// What serves it by descriptors that somebody else has opened.
    ///
    /// # Errors
    /// If it cannot be served.
    pub(super) fn detached_backend(&self, made: Detached) -> Result<HostFs, Failure> {
        HostFs::with_procfd(made.root, made.procfd, self.options).map_err(|why| self.failed(why))
    }

    fn failed(&self, why: SetupError) -> Failure {
        Failure::Setup {
            dir: self.dir.to_owned(),
            why,
        }
    }

    /// What its mounts are not to be used for.
    pub(super) fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::of_served(self.options.character_devices);
        attributes.set(Attributes::READONLY, self.readonly);
        attributes
    }
}

/// As mount(8) has them.
pub(crate) fn named(attributes: Attributes) -> String {
    let names = [
        (Attributes::READONLY, "ro"),
        (Attributes::NOSUID, "nosuid"),
        (Attributes::NODEV, "nodev"),
    ];
    let names = names.into_iter().filter(|(it, _)| attributes.contains(*it));
    names.map(|(_, name)| name).collect::<Vec<_>>().join(",")
}

/// Makes a mount tree of what is served, aside. Returns it, and the root of what is served.
///
/// Mounts that are made below the directory later on do not come in: they would have the attributes
/// that they have outside.
///
/// # Errors
/// ESTALE if the directory is another one than `expected`; or if a system call fails.
pub(super) fn prepare(
    served: &Served<'_>,
    expected: &OwnedFd,
) -> Result<(MountTree, OwnedFd), MountError> {
    mount_tree::isolate()?;
    let (tree, root) = if resolve::is_directory(expected) {
        let tree = MountTree::stage(served.dir, ALONE, staging()?)?;
        let root = tree.root()?;
        (tree, root)
    } else {
        let mut tree = MountTree::stage_empty(staging()?)?;
        let manner = Manner {
            recursive: false,
            attributes: Attributes::empty(),
            access_times: AccessTimes::default(),
            propagation: Some(ALONE),
        };
        let place = PathBuf::from("/served");
        let bound = tree.bind(Source::Path(served.dir), &place, manner)?;
        tree.settle()?;
        (tree, bound.root)
    };
    compare(served, &root, expected)?;
    tree.restrict_all(served.attributes())?;
    Ok((tree, root))
}

/// Makes a mount of what is served, attached nowhere. For a process in a user namespace without ids, which
/// can make no file to mount another one on.
///
/// # Errors
/// As for [`prepare`].
pub(super) fn prepare_detached(
    served: &Served<'_>,
    expected: &OwnedFd,
) -> Result<OwnedFd, MountError> {
    if resolve::is_directory(expected) {
        // Mounts below can be looked at only where they are attached.
        let (_tree, root) = prepare(served, expected)?;
        return sys::clone_mount(Some(root.as_fd()), c"", true).map_err(|source| {
            MountError::File {
                what: "cannot be bound once more",
                path: served.dir.to_owned(),
                source,
            }
        });
    }
    let root = mount_tree::detached(served.dir, ALONE)?;
    compare(served, &root, expected)?;
    let attributes = served.attributes();
    attributes::add(root.as_fd(), attributes, AccessTimes::default()).map_err(|source| {
        MountError::Attributes {
            path: served.dir.to_owned(),
            source,
        }
    })?;
    Ok(root)
}

/// Nothing that is mounted elsewhere comes in.
const ALONE: Propagation = Propagation {
    kind: PropagationKind::Private,
    recursive: true,
};

/// Looks whether what was mounted is `expected`.
fn compare(served: &Served<'_>, root: &OwnedFd, expected: &OwnedFd) -> Result<(), MountError> {
    let failed = |source| MountError::File {
        what: "is not what it was",
        path: served.dir.to_owned(),
        source,
    };
    let identity = |file: &OwnedFd| fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    if identity(root).map_err(failed)? == identity(expected).map_err(failed)? {
        Ok(())
    } else {
        Err(failed(Errno::ESTALE))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use lisafs::host::HostOptions;
    use nix::errno::Errno;

    use super::{MountError, Served, attributes, prepare, prepare_detached};
    use crate::jail::isolated::{Isolated, isolated};

    /// Between the look at a directory and the mount, somebody may put another one in its place.
    #[test]
    fn what_was_exchanged_is_not_mounted() {
        let name = "jail::export::tests::what_was_exchanged_is_not_mounted";
        let Isolated::Inside = isolated(name, "") else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("directory")).unwrap();
        fs::create_dir(at("other directory")).unwrap();
        fs::write(at("file"), "").unwrap();
        fs::write(at("other file"), "").unwrap();
        for place in ["directory", "file"] {
            let expected = File::open(at(place)).unwrap().into();
            let served = Served {
                dir: &at(place),
                options: HostOptions::default(),
                readonly: false,
                client: None,
            };
            let detached = prepare_detached(&served, &expected).unwrap();
            let attributes = attributes::of(&detached).unwrap();
            assert!(attributes.contains(served.attributes()), "{place}");
            fs::rename(at(place), at(&format!("old {place}"))).unwrap();
            fs::rename(at(&format!("other {place}")), at(place)).unwrap();
            for refused in [
                prepare(&served, &expected).unwrap_err(),
                prepare_detached(&served, &expected).unwrap_err(),
            ] {
                let stale = matches!(
                    refused,
                    MountError::File {
                        source: Errno::ESTALE,
                        ..
                    }
                );
                assert!(stale, "{place}: {refused}");
            }
        }
    }
}
