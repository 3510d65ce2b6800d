//! What is served, and the mounts that are made of it.
#![forbid(unsafe_code)]

use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use lisafs::host::{HostFs, HostOptions, SetupError};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

use super::attributes::{AccessTimes, Attributes, Propagation, PropagationKind};
use super::detached::Detached;
use super::mount_tree::{self, Manner, MountError, MountTree, STAGING, Source};
use crate::failure::Failure;

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
    let propagation = Propagation {
        kind: PropagationKind::Private,
        recursive: true,
    };
    let failed = |source| MountError::File {
        what: "is not what it was",
        path: served.dir.to_owned(),
        source,
    };
    let identity = |file: &OwnedFd| fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    let kind = fstat(expected).map_err(failed)?.st_mode & SFlag::S_IFMT.bits();
    let (tree, root) = if kind == SFlag::S_IFDIR.bits() {
        let tree = MountTree::stage(served.dir, propagation, Path::new(STAGING))?;
        let root = tree.root()?;
        (tree, root)
    } else {
        let mut tree = MountTree::stage_empty(Path::new(STAGING))?;
        let manner = Manner {
            recursive: false,
            attributes: Attributes::empty(),
            access_times: AccessTimes::default(),
            propagation: Some(propagation),
        };
        let place = PathBuf::from("/served");
        let bound = tree.bind(Source::Path(served.dir), &place, manner)?;
        tree.settle()?;
        (tree, bound.root)
    };
    if identity(&root).map_err(failed)? != identity(expected).map_err(failed)? {
        return Err(failed(Errno::ESTALE));
    }
    tree.restrict_all(served.attributes())?;
    Ok((tree, root))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use lisafs::host::HostOptions;
    use nix::errno::Errno;

    use super::{MountError, Served, prepare};
    use crate::jail::namespaces::{Isolated, isolated};

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
            prepare(&served, &expected).unwrap();
            fs::rename(at(place), at(&format!("old {place}"))).unwrap();
            fs::rename(at(&format!("other {place}")), at(place)).unwrap();
            let refused = prepare(&served, &expected).unwrap_err();
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
