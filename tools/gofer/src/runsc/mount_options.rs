//! Mount options as runtime specifications spell them.
#![forbid(unsafe_code)]

use nix::mount::MsFlags;

use crate::jail::attributes::{
    AccessTimePolicy, AccessTimes, Attributes, Propagation, PropagationKind,
};
use crate::jail::mount_tree::Manner;

/// What an option does to the flags of mount(2).
#[derive(Clone, Copy)]
enum Effect {
    Set(MsFlags),
    Clear(MsFlags),
    Propagate(PropagationKind, bool),
    Refuse,
}

/// The effects of an option. Those that are unknown are for the sandbox, which sees them all.
fn effect(option: &str) -> Option<Effect> {
    use Effect::{Clear, Propagate, Refuse, Set};
    use PropagationKind::{Private, Slave, Unbindable};
    Some(match option {
        "acl" => Set(MsFlags::MS_POSIXACL),
        "async" => Clear(MsFlags::MS_SYNCHRONOUS),
        "atime" => Clear(MsFlags::MS_NOATIME),
        "bind" => Set(MsFlags::MS_BIND),
        "defaults" => Set(MsFlags::empty()),
        "dev" => Clear(MsFlags::MS_NODEV),
        "diratime" => Clear(MsFlags::MS_NODIRATIME),
        "dirsync" => Set(MsFlags::MS_DIRSYNC),
        "exec" => Clear(MsFlags::MS_NOEXEC),
        "iversion" => Set(MsFlags::MS_I_VERSION),
        "loud" => Clear(MsFlags::MS_SILENT),
        "mand" => Set(MsFlags::MS_MANDLOCK),
        "noacl" => Clear(MsFlags::MS_POSIXACL),
        "noatime" => Set(MsFlags::MS_NOATIME),
        "nodev" => Set(MsFlags::MS_NODEV),
        "nodiratime" => Set(MsFlags::MS_NODIRATIME),
        "noexec" => Set(MsFlags::MS_NOEXEC),
        "noiversion" => Clear(MsFlags::MS_I_VERSION),
        "nomand" => Clear(MsFlags::MS_MANDLOCK),
        "norelatime" => Clear(MsFlags::MS_RELATIME),
        "nostrictatime" => Clear(MsFlags::MS_STRICTATIME),
        "nosuid" => Set(MsFlags::MS_NOSUID),
        "rbind" => Set(MsFlags::MS_BIND.union(MsFlags::MS_REC)),
        "relatime" => Set(MsFlags::MS_RELATIME),
        "remount" => Set(MsFlags::MS_REMOUNT),
        "ro" => Set(MsFlags::MS_RDONLY),
        "rw" => Clear(MsFlags::MS_RDONLY),
        "silent" => Set(MsFlags::MS_SILENT),
        "strictatime" => Set(MsFlags::MS_STRICTATIME),
        "suid" => Clear(MsFlags::MS_NOSUID),
        "sync" => Set(MsFlags::MS_SYNCHRONOUS),
        "private" => Propagate(Private, false),
        "rprivate" => Propagate(Private, true),
        "slave" => Propagate(Slave, false),
        "rslave" => Propagate(Slave, true),
        "unbindable" => Propagate(Unbindable, false),
        "runbindable" => Propagate(Unbindable, true),
        "shared" | "rshared" => Refuse,
        _ => return None,
    })
}

/// Mounts of the container would be seen on the host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("mount option {0:?}: mounts cannot be shared with the host")]
pub(crate) struct Shared(String);

/// How something is to be bound, as options say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MountOptions {
    flags: MsFlags,
    propagation: Option<Propagation>,
}

impl MountOptions {
    /// What the options amount to: later ones win.
    ///
    /// # Errors
    /// For those that would let mounts be seen on the host.
    pub(crate) fn new<'a>(
        options: impl IntoIterator<Item = &'a str>,
    ) -> Result<MountOptions, Shared> {
        let mut all = MountOptions {
            flags: MsFlags::MS_BIND,
            propagation: None,
        };
        for option in options {
            match effect(option) {
                None => {}
                Some(Effect::Set(flags)) => all.flags.insert(flags),
                Some(Effect::Clear(flags)) => all.flags.remove(flags),
                Some(Effect::Propagate(kind, recursive)) => {
                    all.propagation = Some(Propagation { kind, recursive });
                }
                Some(Effect::Refuse) => return Err(Shared(option.to_owned())),
            }
        }
        Ok(all)
    }

    /// The same, but read-only.
    pub(crate) fn readonly(mut self) -> MountOptions {
        self.flags.insert(MsFlags::MS_RDONLY);
        self
    }

    /// The flags of mount(2), MS_BIND always among them.
    pub(crate) fn flags(self) -> MsFlags {
        self.flags
    }

    /// How to bind it. Never with set-id bits that count: the gofer executes nothing. Options that
    /// are about a file system rather than a mount have no effect on a bind.
    pub(crate) fn manner(self) -> Manner {
        let pairs = [
            (MsFlags::MS_RDONLY, Attributes::READONLY),
            (MsFlags::MS_NODEV, Attributes::NODEV),
            (MsFlags::MS_NOEXEC, Attributes::NOEXEC),
        ];
        let asked = pairs.into_iter();
        let asked: Attributes = asked
            .filter(|(flag, _)| self.flags.contains(*flag))
            .map(|(_, attribute)| attribute)
            .collect();
        // In mount(2), too, the first of these wins.
        let policies = [
            (MsFlags::MS_STRICTATIME, AccessTimePolicy::Always),
            (MsFlags::MS_NOATIME, AccessTimePolicy::Never),
            (MsFlags::MS_RELATIME, AccessTimePolicy::Relative),
        ];
        let policy = policies
            .into_iter()
            .find(|(flag, _)| self.flags.contains(*flag))
            .map(|(_, policy)| policy);
        Manner {
            recursive: self.flags.contains(MsFlags::MS_REC),
            attributes: asked | Attributes::NOSUID,
            access_times: AccessTimes {
                policy,
                not_in_directories: self.flags.contains(MsFlags::MS_NODIRATIME),
            },
            propagation: self.propagation,
        }
    }
}

/// The propagation that a specification wants for the root; empty stands for `rslave`.
///
/// # Errors
/// For everything that is not a private or slave one.
pub(crate) fn root_propagation(option: &str) -> Result<Propagation, RootPropagationError> {
    if option.is_empty() {
        return Ok(Propagation {
            kind: PropagationKind::Slave,
            recursive: true,
        });
    }
    match effect(option) {
        Some(Effect::Propagate(
            kind @ (PropagationKind::Slave | PropagationKind::Private),
            recursive,
        )) => Ok(Propagation { kind, recursive }),
        _ => Err(RootPropagationError(option.to_owned())),
    }
}

/// This is not how the root can propagate.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("rootfsPropagation {0:?} is none of private, rprivate, slave and rslave")]
pub(crate) struct RootPropagationError(String);

#[cfg(test)]
mod tests {
    use nix::mount::MsFlags;

    use super::{MountOptions, root_propagation};
    use crate::jail::attributes::{
        AccessTimePolicy, AccessTimes, Attributes, Propagation, PropagationKind,
    };

    fn options(options: &str) -> MountOptions {
        MountOptions::new(options.split(',')).unwrap()
    }

    fn attributes(text: &str) -> Attributes {
        let attributes = options(text).manner().attributes;
        assert!(attributes.contains(Attributes::NOSUID), "{text}");
        attributes - Attributes::NOSUID
    }

    #[test]
    fn options_clear_and_never_toggle() {
        for (text, expected) in [
            ("", Attributes::empty()),
            ("rw", Attributes::empty()),
            ("rw,rw,dev,exec,suid", Attributes::empty()),
            ("ro", Attributes::READONLY),
            ("ro,ro", Attributes::READONLY),
            ("ro,rw", Attributes::empty()),
            ("rw,ro", Attributes::READONLY),
            ("nodev,noexec", Attributes::NODEV | Attributes::NOEXEC),
            ("nodev,noexec,dev", Attributes::NOEXEC),
            ("nodev,noexec,exec", Attributes::NODEV),
            ("something,ro,else", Attributes::READONLY),
        ] {
            assert_eq!(attributes(text), expected, "{text}");
        }
        assert_eq!(
            attributes("sync,dirsync,mand,acl,iversion,silent,remount,defaults"),
            Attributes::empty()
        );
    }

    #[test]
    fn the_flags_are_those_that_runsc_sends() {
        assert_eq!(options("").flags().bits(), 4096);
        assert_eq!(options("ro").flags().bits(), 4097);
        assert_eq!(options("").readonly().flags().bits(), 4097);
        assert_eq!(options("rbind,nosuid").flags().bits(), 4096 | 16384 | 2);
        assert_eq!(options("sync,async").flags(), MsFlags::MS_BIND);
        assert!(options("rbind").manner().recursive && !options("bind").manner().recursive);
        let readonly = options("rw").readonly().manner().attributes;
        assert!(readonly.contains(Attributes::READONLY));
    }

    #[test]
    fn access_times_are_understood() {
        for (text, policy, not_in_directories) in [
            ("", None, false),
            ("atime,diratime", None, false),
            ("noatime", Some(AccessTimePolicy::Never), false),
            ("noatime,atime", None, false),
            ("relatime", Some(AccessTimePolicy::Relative), false),
            ("relatime,noatime", Some(AccessTimePolicy::Never), false),
            ("relatime,norelatime", None, false),
            ("noatime,strictatime", Some(AccessTimePolicy::Always), false),
            ("strictatime,nostrictatime", None, false),
            ("nodiratime", None, true),
            ("nodiratime,diratime", None, false),
        ] {
            let expected = AccessTimes {
                policy,
                not_in_directories,
            };
            assert_eq!(options(text).manner().access_times, expected, "{text}");
        }
    }

    #[test]
    fn propagation_is_never_shared() {
        use PropagationKind::{Private, Slave, Unbindable};
        for (text, kind, recursive) in [
            ("private", Private, false),
            ("rprivate", Private, true),
            ("slave", Slave, false),
            ("rslave", Slave, true),
            ("unbindable", Unbindable, false),
            ("private,ro,runbindable", Unbindable, true),
        ] {
            let propagation = options(text).manner().propagation;
            assert_eq!(propagation, Some(Propagation { kind, recursive }), "{text}");
        }
        assert_eq!(options("ro").manner().propagation, None);
        for option in ["shared", "rshared"] {
            let why = MountOptions::new(["ro", option]).unwrap_err();
            assert!(why.to_string().contains(option), "{why}");
            root_propagation(option).unwrap_err();
        }
    }

    #[test]
    fn the_root_is_a_slave_or_private() {
        for (text, kind, recursive) in [
            ("", PropagationKind::Slave, true),
            ("slave", PropagationKind::Slave, false),
            ("rprivate", PropagationKind::Private, true),
        ] {
            assert_eq!(root_propagation(text), Ok(Propagation { kind, recursive }));
        }
        for text in ["unbindable", "ro", "master"] {
            root_propagation(text).unwrap_err();
        }
    }
}
