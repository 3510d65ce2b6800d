//! A tree of mounts that is put together aside, and then becomes all there is.
//!
//! The order is: [`isolate`]; [`MountTree::stage`]; any number of [`MountTree::bind`]s;
//! [`MountTree::settle`]; if others were to see the tree at its own place first,
//! [`MountTree::move_to`]; [`MountTree::restrict`] and [`MountTree::restrict_all`]; whatever needs `/proc` and the host's files; and
//! [`MountTree::enter`]. Descriptors that were opened on the way lead to the same files afterwards.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::CString;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{chdir, fchdir, pivot_root};

use super::attributes::{self, AccessTimes, Attributes, AttributesError, Propagation};
use super::mount_error::{MountError, at, system};
use super::mountinfo::{MountId, Mounted, Mountinfo, mount_of};
use super::resolve::{self, Kind};
use crate::sys;

/// Where a tree can be put together: a directory that nobody serves, and that is never the tree's own
/// source.
const STAGING: &str = "/proc/fs";

/// Another one, where a procfs shows processes only (`subset=pid`, or ProcSubset=pid of a systemd unit).
/// It goes with the process, as the mount on it does.
const STAGING_OF_PROCESS: &str = "/proc/self/ns";

/// The first of the two that is there.
///
/// # Errors
/// If there is none, and so no procfs.
pub(crate) fn staging() -> Result<&'static Path, MountError> {
    let places = [STAGING, STAGING_OF_PROCESS].map(Path::new);
    let mut places = places.into_iter().filter(|place| place.is_dir());
    places.next().ok_or(MountError::Procfs {
        path: STAGING_OF_PROCESS,
        source: Errno::ENOENT,
    })
}

fn root(what: &'static str) -> impl Fn(Errno) -> MountError {
    move |source| MountError::Root { what, source }
}

/// Has no mount that is made from here on be seen in another namespace. Mounts that are made there
/// still come here.
///
/// The process must be in a mount namespace of its own.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over the namespace; EINVAL if the root directory is not a mount.
pub(crate) fn isolate() -> Result<(), MountError> {
    let none = None::<&Path>;
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)
        .map_err(root("cannot keep mounts from other namespaces"))
}

/// What is to be bound.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// What a path leads to, symlinks followed.
    Path(&'a Path),
    /// A file of this mount namespace.
    File(BorrowedFd<'a>),
    /// A mount that is attached nowhere, as open_tree(2) makes it. It is attached as it is.
    Detached(OwnedFd),
}

/// How something is to be bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// With what is mounted below.
    pub(crate) recursive: bool,
    pub(crate) attributes: Attributes,
    pub(crate) access_times: AccessTimes,
    pub(crate) propagation: Option<Propagation>,
}

/// Something that has been bound.
#[derive(Debug)]
pub(crate) struct Bound {
    /// An O_PATH descriptor of its root. It stays valid, whatever is mounted above it, and after the
    /// tree was moved or entered.
    pub(crate) root: OwnedFd,
    /// Where it is in the tree: absolute, without `.`, `..` and symlinks.
    pub(crate) path: PathBuf,
}

impl Bound {
    /// Which file system it is of.
    ///
    /// # Errors
    /// As fstatfs(2).
    pub(crate) fn filesystem(&self) -> Result<FsType, Errno> {
        Ok(fstatfs(&self.root)?.filesystem_type())
    }
}

/// A tree of mounts with a root of its own.
#[derive(Debug)]
pub(crate) struct MountTree {
    root: OwnedFd,
    /// What still has to get its attributes.
    unsettled: Vec<Unsettled>,
    /// The mounts that were bound in it.
    bound: BTreeSet<MountId>,
    /// What came along with its root.
    along: BTreeSet<MountId>,
}

#[derive(Debug)]
struct Unsettled {
    root: OwnedFd,
    id: MountId,
    path: PathBuf,
    attributes: Attributes,
    access_times: AccessTimes,
}

impl MountTree {
    /// Makes a tree of the directory `source` and all that is mounted below it, and attaches it at
    /// `place`: aside ([`staging`]), or at `source` itself, for programs that are to see it there.
    ///
    /// # Errors
    /// [`MountError::HostRoot`] if the root directory of this process is to be prepared in its own
    /// place; or if a system call fails.
    pub(crate) fn stage(
        source: &Path,
        propagation: Propagation,
        place: &Path,
    ) -> Result<MountTree, MountError> {
        let tree = MountTree {
            root: detached(source, propagation)?,
            unsettled: Vec::new(),
            bound: BTreeSet::new(),
            along: BTreeSet::new(),
        };
        tree.move_to(place)?;
        Ok(tree)
    }

    /// Makes a tree that is an empty directory, and attaches it at `place`.
    ///
    /// # Errors
    /// If a system call fails.
    pub(crate) fn stage_empty(place: &Path) -> Result<MountTree, MountError> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(
            Some("lisafs-gofer"),
            place,
            Some("tmpfs"),
            flags,
            Some("mode=0755"),
        )
        .map_err(at(place, "cannot have a tmpfs mounted"))?;
        Ok(MountTree {
            root: open_directory(place)?,
            unsettled: Vec::new(),
            bound: BTreeSet::new(),
            along: BTreeSet::new(),
        })
    }

    /// Binds `source` at `destination`, a path inside the tree, where all that is missing is made.
    /// Symlinks are followed as they would be with the tree as the root directory.
    ///
    /// The attributes come with [`settle`](MountTree::settle): later mounts may need directories in
    /// this one.
    ///
    /// # Errors
    /// [`MountError::Covering`] if mounts below `source` must not be left out but are to be; or if a
    /// system call fails.
    pub(crate) fn bind(
        &mut self,
        source: Source<'_>,
        destination: &Path,
        manner: Manner,
    ) -> Result<Bound, MountError> {
        let root = match source {
            Source::Path(path) => {
                let name = c_string(path)?;
                clone(path, manner, |recursive| {
                    sys::clone_mount(None, &name, recursive)
                })?
            }
            Source::File(file) => clone(destination, manner, |recursive| {
                sys::clone_mount(Some(file), c"", recursive)
            })?,
            Source::Detached(root) => root,
        };
        if let Some(propagation) = manner.propagation {
            attributes::propagate(root.as_fd(), propagation)
                .map_err(at(destination, "cannot be given its propagation"))?;
        }
        let stat =
            fstat(&root).map_err(at(destination, "has a source that cannot be looked at"))?;
        let file_type = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let kind = if file_type == SFlag::S_IFDIR {
            Kind::Directory
        } else {
            Kind::File
        };
        let place = resolve::find_or_make(self.root.as_fd(), destination, kind)
            .map_err(at(destination, "cannot be found or made in the root"))?;
        sys::attach_mount(root.as_fd(), place.file.as_fd())
            .map_err(at(destination, "cannot be mounted on"))?;
        let id = mount_of(root.as_fd()).map_err(at(destination, "cannot be told from others"))?;
        self.bound.insert(id);
        self.unsettled.push(Unsettled {
            root: root
                .try_clone()
                .map_err(|why| at(destination, "cannot be remembered")(errno_of(why)))?,
            id,
            path: place.path.clone(),
            attributes: manner.attributes,
            access_times: manner.access_times,
        });
        Ok(Bound {
            root,
            path: place.path,
        })
    }

    /// Makes a directory inside the tree, with all that is missing on the way, unless it is there.
    ///
    /// # Errors
    /// If something else is in the way; or if a system call fails.
    pub(crate) fn make_directory(&self, path: &Path) -> Result<(), MountError> {
        resolve::find_or_make(self.root.as_fd(), path, Kind::Directory)
            .map(drop)
            .map_err(at(path, "cannot be found or made in the root"))
    }

    /// Gives what was bound its attributes, and looks whether they are in force.
    ///
    /// What came along with something read-only is read-only then, too, since a client that has a
    /// descriptor of its root can go there. What was bound in it has attributes of its own.
    ///
    /// # Errors
    /// If some are not.
    pub(crate) fn settle(&mut self) -> Result<(), MountError> {
        let all = mountinfo()?;
        let root = self.id()?;
        self.along = all.ids_below(root, &self.bound);
        for mount in mem::take(&mut self.unsettled) {
            let failed = |source| MountError::Attributes {
                path: mount.path.clone(),
                source,
            };
            attributes::add(mount.root.as_fd(), mount.attributes, mount.access_times)
                .map_err(failed)?;
            if mount.attributes.contains(Attributes::READONLY) {
                let along = all.below(mount.id, &self.bound);
                self.write_protect(&all, along)?;
            }
        }
        Ok(())
    }

    /// Adds attributes to the root and to all that is mounted below it, and looks whether each mount has
    /// them. What comes in later, as the propagation of the tree permits, has those that it has outside.
    ///
    /// # Errors
    /// If one has not.
    pub(crate) fn restrict_all(&self, added: Attributes) -> Result<(), MountError> {
        let failed = |path: &Path, source| MountError::Attributes {
            path: path.to_owned(),
            source,
        };
        let root = self.id()?;
        let present = mountinfo()?.ids_below(root, &BTreeSet::new());
        attributes::add_to_all(self.root.as_fd(), added)
            .map_err(|source| failed(Path::new("/"), source))?;
        let all = mountinfo()?;
        for mount in all.below(root, &BTreeSet::new()) {
            if present.contains(&mount.id) && !mount.attributes.contains(added) {
                let path = all.path(root, mount).unwrap_or(Path::new(""));
                return Err(failed(
                    path,
                    AttributesError::Missing(added, mount.attributes),
                ));
            }
        }
        Ok(())
    }

    /// Makes mounts of the tree read-only, each by itself, and looks whether they are.
    fn write_protect(&self, all: &Mountinfo, mounts: Vec<&Mounted>) -> Result<(), MountError> {
        if mounts.is_empty() {
            return Ok(());
        }
        let root = self.id()?;
        for mount in &mounts {
            let path = all.path(root, mount).unwrap_or(Path::new(""));
            let failed = at(path, "is mounted there, but cannot be found");
            let found = resolve::open_unlinked(self.root.as_fd(), path).map_err(&failed)?;
            // Mounts stay where they are, unless somebody takes them away now.
            if mount_of(found.as_fd()).map_err(&failed)? != mount.id {
                return Err(failed(Errno::ESTALE));
            }
            attributes::write_protect(found.as_fd())
                .map_err(at(path, "cannot be made read-only"))?;
        }
        let now = mountinfo()?;
        for mount in mounts {
            let present = now.attributes(mount.id);
            if let Some(present) = present.filter(|of| !of.contains(Attributes::READONLY)) {
                return Err(MountError::Attributes {
                    path: all.path(root, mount).unwrap_or(Path::new("")).to_owned(),
                    source: AttributesError::Missing(Attributes::READONLY, present),
                });
            }
        }
        Ok(())
    }

    fn id(&self) -> Result<MountId, MountError> {
        mount_of(self.root.as_fd()).map_err(system("cannot tell the tree from other mounts"))
    }

    /// Moves the tree, with all that is mounted in it, to another directory.
    ///
    /// # Errors
    /// [`MountError::HostRoot`] if that is the root directory of this process; or if a system call
    /// fails.
    pub(crate) fn move_to(&self, place: &Path) -> Result<(), MountError> {
        let directory = open_directory(place)?;
        if is_own_root(&directory).map_err(at(place, "cannot be compared with the root"))? {
            return Err(MountError::HostRoot);
        }
        sys::attach_mount(self.root.as_fd(), directory.as_fd())
            .map_err(at(place, "cannot have the tree mounted"))
    }

    /// Adds attributes to the root, what is bound in it not included. What came along with it is
    /// treated as by [`settle`](MountTree::settle), after which nobody else has mounted anything there.
    ///
    /// # Errors
    /// If they are not in force afterwards.
    pub(crate) fn restrict(&self, added: Attributes) -> Result<(), MountError> {
        attributes::add(self.root.as_fd(), added, AccessTimes::default()).map_err(|source| {
            MountError::Attributes {
                path: PathBuf::from("/"),
                source,
            }
        })?;
        if !added.contains(Attributes::READONLY) {
            return Ok(());
        }
        let all = mountinfo()?;
        let mut along = all.below(self.id()?, &self.bound);
        // Not what programs have mounted that were to see the tree.
        along.retain(|mount| self.along.contains(&mount.id));
        self.write_protect(&all, along)
    }

    /// The root, as an O_PATH descriptor. It stays valid when the tree was entered.
    ///
    /// # Errors
    /// EMFILE if there are too many descriptors.
    pub(crate) fn root(&self) -> Result<OwnedFd, MountError> {
        let root = self.root.try_clone();
        root.map_err(|why| system("cannot open the root again")(errno_of(why)))
    }

    /// Makes the tree the root and working directory of this process, and lets go of all else.
    ///
    /// # Errors
    /// EINVAL if the present root is not a mount, which nobody can leave; or if another system call
    /// fails.
    pub(crate) fn enter(self) -> Result<(), MountError> {
        fchdir(&self.root).map_err(system("cannot enter the tree"))?;
        pivot_root(".", ".").map_err(root("cannot make the tree the root"))?;
        // The old root is now above the new one, so this path leads to the old one.
        umount2(".", MntFlags::MNT_DETACH).map_err(system("cannot let go of the old root"))?;
        chdir("/").map_err(system("cannot enter the new root"))
    }
}

/// Makes a mount of `source` with all that is mounted below it, attached nowhere.
///
/// # Errors
/// If a system call fails.
pub(super) fn detached(source: &Path, propagation: Propagation) -> Result<OwnedFd, MountError> {
    let name = c_string(source)?;
    let root = sys::clone_mount(None, &name, true).map_err(at(source, "cannot be bound"))?;
    attributes::propagate(root.as_fd(), propagation)
        .map_err(at(source, "cannot be kept from other mounts"))?;
    Ok(root)
}

fn mountinfo() -> Result<Mountinfo, MountError> {
    Mountinfo::read().map_err(|source| MountError::Procfs {
        path: "/proc/self/mountinfo",
        source,
    })
}

/// Makes a mount in this manner; `shown` is the path that an error is about.
fn clone(
    shown: &Path,
    manner: Manner,
    make: impl Fn(bool) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, MountError> {
    make(manner.recursive).map_err(|errno| {
        // There are other reasons for this error, but they do not go away with recursion.
        if errno == Errno::EINVAL && !manner.recursive && make(true).is_ok() {
            MountError::Covering {
                path: shown.to_owned(),
            }
        } else {
            at(shown, "cannot be bound")(errno)
        }
    })
}

fn open_directory(path: &Path) -> Result<OwnedFd, MountError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(at(path, "cannot be opened"))
}

/// A mount on the own root is above it, where no path leads.
fn is_own_root(directory: &OwnedFd) -> Result<bool, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = fstat(open("/", flags, Mode::empty())?)?;
    let other = fstat(directory)?;
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

fn c_string(path: &Path) -> Result<CString, MountError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| at(path, "has a NUL in it")(Errno::EINVAL))
}

fn errno_of(why: std::io::Error) -> Errno {
    Errno::try_from(why).unwrap_or(Errno::EIO)
}

#[cfg(test)]
mod tests;
