//! Why the mounts of a process could not be arranged, and what can be done.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::attributes::AttributesError;
use super::namespaces;

/// The mounts of the process could not be arranged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("{what}: {source}")]
    System { what: &'static str, source: Errno },
    #[error("{}: {what}: {source}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: Errno,
    },
    #[error("{}: {source}", path.display())]
    Attributes {
        path: PathBuf,
        source: AttributesError,
    },
    #[error(
        "{}: cannot be bound without what is mounted below it: the user namespace does not permit \
         uncovering that; use rbind", path.display()
    )]
    Covering { path: PathBuf },
    #[error("the root of the host cannot be prepared in its own place: nobody would see that")]
    HostRoot,
    /// Of the root directory of this process.
    #[error("{what}: {source}")]
    Root { what: &'static str, source: Errno },
    #[error("{path}: {source}")]
    Procfs { path: &'static str, source: Errno },
    #[error(
        "mounts are handled by system calls that this kernel does not have: Linux 5.12 has them"
    )]
    OldKernel,
}

impl MountError {
    /// What can be done. `of_users` says whether it was tried in a user namespace.
    pub(super) fn advice(&self, of_users: bool) -> &'static str {
        let source = match self {
            MountError::OldKernel => return "use that, or a later one",
            MountError::Procfs { .. } => {
                return "mount a procfs at /proc, with nothing mounted over it";
            }
            MountError::Root {
                source: Errno::EINVAL,
                ..
            } => {
                return "start this where the root directory is a mount, not in a chroot(2), nor in \
                        the initramfs";
            }
            MountError::Covering { .. } => return "serve the directory that is mounted there",
            MountError::HostRoot => return "serve another directory",
            MountError::Attributes {
                source: AttributesError::Missing(..),
                ..
            } => return "see who mounts something there meanwhile, and start this again",
            MountError::Root { source, .. }
            | MountError::System { source, .. }
            | MountError::File { source, .. }
            | MountError::Attributes {
                source: AttributesError::System(source),
                ..
            } => source,
        };
        match source {
            Errno::ENOSYS => "use Linux 5.12 or later",
            // The process may mount as far as capabilities go, or it would not have come here.
            Errno::EPERM | Errno::EACCES => namespaces::restriction(of_users).unwrap_or(
                "permit mount(2) and what is like it, which a security module such as AppArmor \
                     or a system call filter refuses (of a container: `--security-opt \
                     apparmor=unconfined`)",
            ),
            Errno::ESTALE | Errno::ENOENT | Errno::ENOTDIR => {
                "see who exchanges it, or mounts something there, meanwhile, and start this again"
            }
            Errno::ENOSPC => "raise the sysctl fs.mount-max",
            Errno::EMFILE | Errno::ENFILE => "raise the limit of open files",
            _ => "see what open_tree(2), move_mount(2) and mount_setattr(2) say of that error",
        }
    }
}

pub(super) fn system(what: &'static str) -> impl Fn(Errno) -> MountError {
    move |source| MountError::System { what, source }
}

pub(super) fn at(path: &Path, what: &'static str) -> impl Fn(Errno) -> MountError {
    move |source| match source {
        Errno::ENOSYS => MountError::OldKernel,
        source => MountError::File {
            what,
            path: path.to_owned(),
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_about_what_was_in_the_way() {
        let procfs = "procfs";
        let attributes = |source| MountError::Attributes {
            path: PathBuf::from("/"),
            source: AttributesError::System(source),
        };
        let root = |source| MountError::Root { what: "x", source };
        for (why, part) in [
            (at(Path::new("/x"), "x")(Errno::ENOSYS), "later"),
            (attributes(Errno::ENOSYS), "5.12"),
            (root(Errno::EINVAL), "chroot"),
            (root(Errno::EACCES), "AppArmor"),
            (at(Path::new("/x"), "x")(Errno::EPERM), "AppArmor"),
            (at(Path::new("/x"), "x")(Errno::ESTALE), "exchanges"),
            (system("x")(Errno::ENOSPC), "fs.mount-max"),
            (
                MountError::Procfs {
                    path: "/proc/self/mountinfo",
                    source: Errno::ENOENT,
                },
                procfs,
            ),
        ] {
            let advice = why.advice(false);
            assert!(advice.contains(part), "{why}: {advice}");
            assert_eq!(advice.contains(procfs), part == procfs, "{why}: {advice}");
        }
    }
}
