//! Namespaces, for who may make them.
//!
//! Whoever has CAP_SYS_ADMIN makes some for this process. Others make a user namespace, and can make
//! mounts there for themselves ([`detached`](super::detached)).
//!
//! There is no PID namespace: it would be one for children only, of which a process that is locked in
//! has none. Other processes cannot be seen without a procfs, and the system call filter keeps their
//! numbers from being used, but for one question: on which CPUs they may run (sched_getaffinity(2), with
//! which the C library asks that of threads by their numbers).
#![forbid(unsafe_code)]

use std::fs;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sched::{self, CloneFlags};

use super::layers::Missing;

/// Whether this process can have namespaces of its own where it is.
pub(super) fn is_privileged() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false)
}

/// Gives the process mount, IPC, UTS and network namespaces of its own. To be called while there is one
/// thread.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn unshare() -> Result<(), Missing> {
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET;
    sched::unshare(all).map_err(|errno| {
        let why = format!("no mount, IPC, UTS and network namespaces can be made: {errno}");
        Missing::new(why, advice(errno, false))
    })
}

/// Has the process be in a user namespace, which has no ids, and in a mount namespace of that.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn enter_user_namespace() -> Result<(), Missing> {
    sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| {
        let why = format!("no user namespace can be made: {errno}");
        Missing::new(why, advice(errno, true))
    })
}

/// What this kernel says it keeps from users, and who can change that. For `of_users` only.
pub(super) fn restriction(of_users: bool) -> Option<&'static str> {
    let is = |name: &str, value: &str| {
        let found = fs::read_to_string(format!("/proc/sys/kernel/{name}"));
        found.is_ok_and(|found| found.trim() == value)
    };
    if !of_users {
        None
    } else if is("unprivileged_userns_clone", "0") {
        Some("set the sysctl kernel.unprivileged_userns_clone to 1")
    } else if is("apparmor_restrict_unprivileged_userns", "1") {
        // The namespace may be made all the same, and nothing be permitted in it.
        Some(
            "give this program an AppArmor profile with `userns,` in it, or set the sysctl \
             kernel.apparmor_restrict_unprivileged_userns to 0",
        )
    } else {
        None
    }
}

/// What can be done about `errno`, by what this kernel says of itself.
fn advice(errno: Errno, of_users: bool) -> &'static str {
    if let Some(restriction) = restriction(of_users) {
        return restriction;
    }
    match errno {
        Errno::ENOSPC | Errno::EUSERS => {
            "raise the sysctls user.max_user_namespaces, user.max_mnt_namespaces, \
             user.max_ipc_namespaces, user.max_uts_namespaces and user.max_net_namespaces"
        }
        Errno::EINVAL | Errno::ENOSYS => {
            "use a kernel that is built with CONFIG_USER_NS, CONFIG_NET_NS, CONFIG_IPC_NS and \
             CONFIG_UTS_NS"
        }
        _ => {
            "permit unshare(2) in the container or service that this is started from, and no chroot(2) \
             before it; or start this as root with CAP_SYS_ADMIN"
        }
    }
}
