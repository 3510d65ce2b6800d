//! Which mounts the gofer serves, on which socket, and the list that tells the sandbox.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC};

use super::mount_confs::MountConf;
use super::spec::{Mount, Spec};

/// What `runsc` has said about layers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layers<'a> {
    /// In the flags of 2022: all gofer mounts are served, and these have a layer of the sandbox's
    /// above them.
    Flags { root: bool, mounts: bool },
    /// In `--gofer-mount-confs`: the root, then each mount that has an entry.
    Confs(&'a [MountConf]),
}

/// What is served on one socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Served<S> {
    pub(crate) socket: S,
    /// Nothing that comes over the socket may change anything.
    pub(crate) readonly: bool,
}

/// What is served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<S> {
    /// The root of the container, unless the sandbox makes that up by itself.
    pub(crate) root: Option<Served<S>>,
    /// Mounts by their place in the specification.
    pub(crate) mounts: BTreeMap<usize, Served<S>>,
}

/// The command line and the specification do not belong together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("{needed} mounts are to be served, but there are {given} --io-fds")]
    Sockets { needed: usize, given: usize },
    #[error(
        "the root and the mounts of the specification need {needed} --gofer-mount-confs, but there \
         are {given}"
    )]
    Confs { needed: usize, given: usize },
}

impl<S> Plan<S> {
    /// Gives each mount that is to be served its socket: `sockets` are in the order of the command
    /// line.
    ///
    /// # Errors
    /// If there are too few or too many sockets or mount configurations.
    pub(crate) fn new(
        spec: &Spec,
        layers: Layers<'_>,
        sockets: Vec<S>,
    ) -> Result<Plan<S>, PlanError> {
        let wanted = wanted(spec, layers)?;
        let (needed, given) = (wanted.len(), sockets.len());
        if needed != given {
            return Err(PlanError::Sockets { needed, given });
        }
        let mut plan = Plan {
            root: None,
            mounts: BTreeMap::new(),
        };
        for ((place, readonly), socket) in wanted.into_iter().zip(sockets) {
            let served = Served { socket, readonly };
            match place {
                Place::Root => plan.root = Some(served),
                Place::Mount(index) => {
                    plan.mounts.insert(index, served);
                }
            }
        }
        Ok(plan)
    }
}

enum Place {
    Root,
    Mount(usize),
}

/// What is to be served, in the order of the sockets, and whether read-only.
fn wanted(spec: &Spec, layers: Layers<'_>) -> Result<Vec<(Place, bool)>, PlanError> {
    match layers {
        Layers::Flags { root, mounts } => {
            let overlaid = mounts;
            let mounts = spec.mounts.iter().enumerate();
            let mounts = mounts
                .filter(|(_, mount)| is_bind(mount))
                .map(|(index, mount)| (Place::Mount(index), mount.has("ro") || overlaid));
            let root = (Place::Root, spec.root.readonly || root);
            Ok(std::iter::once(root).chain(mounts).collect())
        }
        Layers::Confs(confs) => {
            let mounts = spec.mounts.iter().enumerate();
            let mounts = mounts
                .filter(|(_, mount)| is_bind(mount) || mount.kind == "erofs")
                .map(|(index, mount)| (Place::Mount(index), mount.has("ro")));
            let places: Vec<_> = std::iter::once((Place::Root, spec.root.readonly))
                .chain(mounts)
                .collect();
            let (needed, given) = (places.len(), confs.len());
            if needed != given {
                return Err(PlanError::Confs { needed, given });
            }
            let served = places.into_iter().zip(confs);
            Ok(served
                .filter(|(_, conf)| conf.is_served())
                .map(|((place, readonly), conf)| (place, readonly || conf.is_overlaid()))
                .collect())
        }
    }
}

/// Whether it is something of the host's. With one of these options, the type is a dummy.
fn is_bind(mount: &Mount) -> bool {
    !mount.source.is_empty() && (mount.kind == "bind" || mount.has("bind") || mount.has("rbind"))
}

/// What has become of a mount.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// Where it is in the container: absolute, without `.`, `..` and symlinks.
    pub(crate) destination: PathBuf,
    /// What it is served from.
    pub(crate) filesystem: FsType,
}

/// The mounts as the sandbox is to see them: all of the specification, those that are in `resolved`
/// (by their place in the specification) where they are now.
///
/// # Errors
/// InvalidData if a destination is not UTF-8: JSON cannot say it.
pub(crate) fn list(
    mounts: &[Mount],
    bundle: &Path,
    resolved: &BTreeMap<usize, Resolved>,
) -> io::Result<Vec<Mount>> {
    let mounts = mounts.iter().enumerate();
    mounts
        .map(|(index, mount)| {
            let mut mount = mount.clone();
            if !mount.source.is_empty() {
                mount.source = utf8(&in_bundle(bundle, Path::new(&mount.source)))?;
            }
            if let Some(resolved) = resolved.get(&index) {
                mount.destination = utf8(&resolved.destination)?;
                mount
                    .options
                    .extend(sandbox_option(resolved.filesystem).map(str::to_owned));
            }
            Ok(mount)
        })
        .collect()
}

/// What the sandbox has to know of a file system.
fn sandbox_option(filesystem: FsType) -> Option<&'static str> {
    match filesystem {
        // Descriptors that were opened for reading before the first write go on showing the old
        // contents.
        OVERLAYFS_SUPER_MAGIC => Some("overlayfs_stale_read"),
        // Data is sent to where it is kept at close(2), which must not wait for other users of the
        // same descriptor.
        NFS_SUPER_MAGIC | FUSE_SUPER_MAGIC => Some("disable_file_handle_sharing"),
        _ => None,
    }
}

/// A path as JSON can say it.
///
/// # Errors
/// InvalidData if it is not UTF-8.
pub(crate) fn utf8(path: &Path) -> io::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        let why = format!("{} is not UTF-8", path.display());
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
}

/// A path of the specification: relative ones are relative to the bundle, and are then freed of `.`
/// and `..` by their letters alone.
pub(crate) fn in_bundle(bundle: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() {
        return path.to_owned();
    }
    let mut clean = PathBuf::new();
    for component in bundle.join(path).components() {
        match component {
            Component::CurDir => {}
            // The parent of the root is the root, and `pop` leaves that alone.
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// Writes the list and ends it: the sandbox reads until all copies of `pipe` are closed.
///
/// Blocks while the pipe is full, so whatever the reader waits for must have happened.
///
/// # Errors
/// As write(2).
pub(crate) fn send(list: &[Mount], pipe: OwnedFd) -> io::Result<()> {
    File::from(pipe).write_all(&serde_json::to_vec(list)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, pipe};
    use std::path::{Path, PathBuf};

    use nix::sys::statfs::{FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC};

    use super::{Layers, Plan, PlanError, Resolved, in_bundle, list, send};
    use crate::runsc::mount_confs;
    use crate::runsc::spec::Spec;

    const SPEC: &str = r#"{"root":{"path":"rootfs"},"mounts":[
        {"destination":"/proc","type":"proc","source":"proc"},
        {"destination":"/a","type":"bind","source":"a"},
        {"destination":"/tmp","type":"tmpfs"},
        {"destination":"/b","type":"none","source":"/b","options":["rbind","ro"]},
        {"destination":"/e","type":"erofs","source":"/e.img"},
        {"destination":"/c","type":"bind"}]}"#;

    fn spec() -> Spec {
        Spec::read(SPEC.as_bytes()).unwrap()
    }

    /// Place of the mount (none for the root), socket, read-only.
    fn facts(plan: Plan<u32>) -> Vec<(Option<usize>, u32, bool)> {
        let root = plan.root.map(|root| (None, root.socket, root.readonly));
        let mounts = plan.mounts.into_iter();
        let mounts = mounts.map(|(index, each)| (Some(index), each.socket, each.readonly));
        root.into_iter().chain(mounts).collect()
    }

    #[test]
    fn in_2022_all_bind_mounts_have_sockets() {
        let none = Layers::Flags {
            root: false,
            mounts: false,
        };
        let plan = Plan::new(&spec(), none, vec![10, 11, 12]).unwrap();
        assert_eq!(
            facts(plan),
            [(None, 10, false), (Some(1), 11, false), (Some(3), 12, true)]
        );
        let all = Layers::Flags {
            root: true,
            mounts: true,
        };
        let plan = Plan::new(&spec(), all, vec![10, 11, 12]).unwrap();
        assert_eq!(
            facts(plan),
            [(None, 10, true), (Some(1), 11, true), (Some(3), 12, true)]
        );
    }

    #[test]
    fn today_those_of_lisafs_have_sockets() {
        let plan = |confs, sockets| {
            let confs = mount_confs::parse(confs).unwrap();
            Plan::new(&spec(), Layers::Confs(&confs), sockets)
        };
        let served = plan(
            "lisafs:self,none:memory,lisafs:none,erofs:memory",
            vec![10, 11],
        );
        assert_eq!(
            facts(served.unwrap()),
            [(None, 10, true), (Some(3), 11, true)]
        );
        let served = plan(
            "none:memory,lisafs:none,lisafs:anon,erofs:memory",
            vec![10, 11],
        );
        assert_eq!(
            facts(served.unwrap()),
            [(Some(1), 10, false), (Some(3), 11, true)]
        );
        assert_eq!(
            plan("lisafs:none,lisafs:none,lisafs:none", vec![1, 2, 3]).unwrap_err(),
            PlanError::Confs {
                needed: 4,
                given: 3
            }
        );
    }

    #[test]
    fn a_wrong_number_of_sockets_is_refused() {
        let layers = Layers::Flags {
            root: false,
            mounts: false,
        };
        for sockets in [vec![], vec![1, 2], vec![1, 2, 3, 4]] {
            let given = sockets.len();
            let why = Plan::new(&spec(), layers, sockets).unwrap_err();
            assert_eq!(why, PlanError::Sockets { needed: 3, given });
        }
    }

    #[test]
    fn the_list_has_all_mounts_where_they_are() {
        let resolved = |destination, filesystem| Resolved {
            destination: PathBuf::from(destination),
            filesystem,
        };
        let at = BTreeMap::from([
            (1, resolved("/real/a", TMPFS_MAGIC)),
            (3, resolved("/b", OVERLAYFS_SUPER_MAGIC)),
        ]);
        let listed = list(&spec().mounts, Path::new("/bundle"), &at).unwrap();
        let (mut reader, writer) = pipe().unwrap();
        send(&listed, writer.into()).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"[{"destination":"/proc","type":"proc","source":"/bundle/proc"},"#,
                r#"{"destination":"/real/a","type":"bind","source":"/bundle/a"},"#,
                r#"{"destination":"/tmp","type":"tmpfs"},"#,
                r#"{"destination":"/b","type":"none","source":"/b","options":["rbind","ro","overlayfs_stale_read"]},"#,
                r#"{"destination":"/e","type":"erofs","source":"/e.img"},"#,
                r#"{"destination":"/c","type":"bind"}]"#
            )
        );
        let at = BTreeMap::from([(1, resolved("/a", FUSE_SUPER_MAGIC))]);
        let listed = list(&spec().mounts, Path::new("/bundle"), &at).unwrap();
        assert_eq!(listed[1].options, ["disable_file_handle_sharing"]);
    }

    #[test]
    fn sources_are_made_absolute() {
        for (path, expected) in [
            ("v", "/b/c/v"),
            ("./v/.", "/b/c/v"),
            ("../v", "/b/v"),
            ("../../../../v", "/v"),
            ("/x/../y", "/x/../y"),
        ] {
            let absolute = in_bundle(Path::new("/b/c"), Path::new(path));
            assert_eq!(absolute, Path::new(expected), "{path}");
        }
    }
}
