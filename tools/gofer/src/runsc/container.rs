//! The mounts of a container, put together as its specification says.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::argv::{Dialect, Invocation};
use super::hooks::{self, State};
use super::mount_options::{MountOptions, root_propagation};
use super::mounts::{Plan, Resolved, in_bundle, utf8};
use super::open_mount::{self, MountOpener};
use super::spec::{Mount, Spec};
use crate::failure::{Failure, cannot};
use crate::jail::attributes::Attributes;
use crate::jail::mount_tree::{self, MountTree, Source, staging};

/// A container whose mounts are all there.
#[derive(Debug)]
pub(crate) struct Container {
    /// Aside, and not entered yet.
    pub(crate) tree: MountTree,
    /// What has become of mounts, by their place in the specification.
    pub(crate) resolved: BTreeMap<usize, Resolved>,
    /// What no mount can be used for, whatever the specification says.
    pub(crate) unused: Attributes,
}

impl Container {
    /// Puts the container together. Runs its hooks, which see it in the place of its root directory.
    pub(crate) fn prepare<S>(
        invocation: &Invocation,
        spec: &Spec,
        plan: &Plan<S>,
        mut opener: Option<MountOpener>,
    ) -> Result<Container, Failure> {
        let bundle = &invocation.bundle;
        mount_tree::isolate()?;
        let root = in_bundle(bundle, &spec.root.path);
        // Older ones do not know these hooks, and neither did their gofer.
        let hooks = match invocation.dialect {
            Dialect::Of2022 => [].as_slice(),
            Dialect::Today => spec.hooks.create_container.as_slice(),
        };
        let place = if hooks.is_empty() { staging()? } else { &root };
        let mut tree = stage(spec, plan, &root, place)?;
        let mut resolved = BTreeMap::new();
        let planned = spec.mounts.iter().enumerate();
        let planned =
            planned.filter_map(|(index, mount)| Some((index, mount, plan.mounts.get(&index)?)));
        for (index, mount, served) in planned {
            let options = options(mount, served.readonly)?;
            let bound = bind(&mut tree, bundle, mount, options, opener.as_mut())?;
            resolved.insert(index, bound);
        }
        // Today's sandboxes make it themselves.
        let cwd = &spec.process.cwd;
        if invocation.dialect == Dialect::Of2022 && !cwd.as_os_str().is_empty() {
            tree.make_directory(cwd)?;
        }
        let mut unused = Attributes::of_served(invocation.character_devices);
        if invocation.fds.dev_io.is_some() {
            // All but what is bound here, and what hooks may add to it.
            tree.restrict_all(unused)?;
            unused.remove(Attributes::NODEV);
            bind_devices(&mut tree, spec)?;
        }
        tree.settle()?;
        if !hooks.is_empty() {
            let id = invocation.container.as_deref().unwrap_or_default();
            let state = State::creating(&spec.oci_version, id, bundle, &spec.annotations);
            hooks::run(hooks, &state)?;
            hooks::let_go()?;
            tree.move_to(staging()?)?;
        }
        if plan.root.as_ref().is_some_and(|served| served.readonly) {
            tree.restrict(Attributes::READONLY | Attributes::NOSUID | Attributes::NODEV)?;
        }
        tree.restrict_all(unused)?;
        Ok(Container {
            tree,
            resolved,
            unused,
        })
    }
}

fn stage<S>(spec: &Spec, plan: &Plan<S>, root: &Path, place: &Path) -> Result<MountTree, Failure> {
    if plan.root.is_none() {
        // The sandbox makes its root up, and other mounts need a place.
        return Ok(MountTree::stage_empty(place)?);
    }
    let propagation = root_propagation(&spec.linux.rootfs_propagation)?;
    Ok(MountTree::stage(root, propagation, place)?)
}

fn options(mount: &Mount, readonly: bool) -> Result<MountOptions, Failure> {
    let options = mount.options.iter().map(String::as_str);
    let options = MountOptions::new(options).map_err(|why| Failure::MountOptions {
        path: PathBuf::from(&mount.destination),
        why,
    })?;
    Ok(if readonly {
        options.readonly()
    } else {
        options
    })
}

fn bind(
    tree: &mut MountTree,
    bundle: &Path,
    mount: &Mount,
    options: MountOptions,
    opener: Option<&mut MountOpener>,
) -> Result<Resolved, Failure> {
    let source = in_bundle(bundle, Path::new(&mount.source));
    let opened = match opener {
        Some(opener) if open_mount::is_needed(mount, &source) => {
            Some(open(opener, mount, &source, options)?)
        }
        _ => None,
    };
    let from = match &opened {
        None => Source::Path(&source),
        Some(file) if !mount.is_id_mapped() => Source::File(file.as_fd()),
        Some(detached) => Source::Detached(
            detached
                .try_clone()
                .map_err(cannot("cannot open a mount again"))?,
        ),
    };
    let bound = tree.bind(from, Path::new(&mount.destination), options.manner())?;
    let filesystem = bound
        .filesystem()
        .map_err(cannot("cannot tell the file system of a mount"))?;
    Ok(Resolved {
        destination: bound.path,
        filesystem,
    })
}

/// Whether the kernel of the sandbox may have a driver for a device, which then opens it over a
/// connection of its own.
fn is_driven(path: &Path) -> bool {
    // What begins like a device could be any file otherwise.
    if path.components().any(|step| step == Component::ParentDir) {
        return false;
    }
    let path = path.as_os_str().as_bytes();
    let numbered = |name: &[u8]| {
        path.strip_prefix(name)
            .is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
    };
    matches!(path, b"/dev/nvidiactl" | b"/dev/nvidia-uvm")
        || numbered(b"/dev/nvidia")
        || numbered(b"/dev/accel")
        || path.starts_with(b"/dev/vfio/")
        || path.starts_with(b"/dev/infiniband/uverbs")
}

/// Binds the devices of the host that the sandbox has drivers for where they are on the host. Others
/// of the specification are made up by the sandbox.
fn bind_devices(tree: &mut MountTree, spec: &Spec) -> Result<(), Failure> {
    let manner = MountOptions::new([])
        .map(MountOptions::manner)
        .map_err(|why| Failure::MountOptions {
            path: PathBuf::from("/dev"),
            why,
        })?;
    let devices = spec.linux.devices.iter().map(|device| &device.path);
    for path in devices.filter(|path| is_driven(path)) {
        tree.bind(Source::Path(path), path, manner)?;
    }
    Ok(())
}

/// Has `runsc` open what this process cannot reach.
fn open(
    opener: &mut MountOpener,
    mount: &Mount,
    source: &Path,
    options: MountOptions,
) -> Result<OwnedFd, Failure> {
    let failed = |why| Failure::OpenMount {
        path: source.to_owned(),
        why,
    };
    let absolute = Mount {
        source: utf8(source).map_err(|why| failed(why.into()))?,
        ..mount.clone()
    };
    opener.open(&absolute, options).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use super::{is_driven, open};
    use crate::runsc::mount_options::MountOptions;
    use crate::runsc::open_mount::MountOpener;
    use crate::runsc::spec::Mount;

    /// It would be another path.
    #[test]
    fn runsc_is_not_asked_for_a_source_that_json_cannot_say() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut opener = MountOpener::new(ours.into()).unwrap();
        let source = Path::new(OsStr::from_bytes(b"/bundle-\xff/volume"));
        let options = MountOptions::new([]).unwrap();
        let why = open(&mut opener, &Mount::default(), source, options).unwrap_err();
        assert!(why.to_string().contains("is not UTF-8"), "{why}");
        drop(opener);
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "something was asked");
    }

    #[test]
    fn only_devices_with_a_driver_are_bound() {
        for path in [
            "/dev/nvidia0",
            "/dev/nvidia17",
            "/dev/nvidiactl",
            "/dev/nvidia-uvm",
            "/dev/accel3",
            "/dev/vfio/vfio",
            "/dev/infiniband/uverbs0",
        ] {
            assert!(is_driven(Path::new(path)), "{path}");
        }
        for path in [
            "/dev/nvidia",
            "/dev/nvidia-uvm-tools",
            "/dev/nvidia0/../sda",
            "/dev/vfio/../sda",
            "/dev/infiniband/uverbs0/../../../etc",
            "/dev/accel",
            "/dev/vfio",
            "/dev/infiniband/rdma_cm",
            "/dev/sda",
            "/dev/null",
        ] {
            assert!(!is_driven(Path::new(path)), "{path}");
        }
    }
}
