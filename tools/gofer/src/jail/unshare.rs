//! Namespaces of this process's own.
//!
//! Whoever has CAP_SYS_ADMIN makes them directly, so that owners can still be given to files. An ordinary
//! user gets a user namespace first, in which nobody but this user exists.
//!
//! There is no PID namespace: it would be one for children only, of which a process that is locked in
//! has none. Other processes cannot be seen without a procfs, and the system call filter keeps their
//! numbers from being used.
#![forbid(unsafe_code)]

use std::fs;
use std::io;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sched::{self, CloneFlags};
use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setgroups};

use super::layers::Missing;

/// In which way there are namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// The user namespace that the process was started in.
    Same,
    /// A user namespace of its own.
    Own,
}

/// Gives the process mount, IPC, UTS and network namespaces of its own. To be called while there is one
/// thread, and while `/proc` is there.
///
/// # Errors
/// If the kernel refuses, and then there may be a user namespace already.
pub(crate) fn unshare() -> Result<Within, Missing> {
    let privileged = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)
        .map_err(|why| Missing::new(why, "mount a procfs at /proc"))?;
    let within = if privileged {
        Within::Same
    } else if geteuid().is_root() {
        return Err(Missing::new(
            "root is without CAP_SYS_ADMIN",
            "give it (of a container: `--cap-add SYS_ADMIN`), or start this as another user",
        ));
    } else {
        enter_user_namespace()?;
        Within::Own
    };
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET;
    sched::unshare(all).map_err(|errno| {
        let why = format!("no mount, IPC, UTS and network namespaces can be made: {errno}");
        Missing::new(why, advice(errno, within))
    })?;
    Ok(within)
}

/// In it this user and this group have the numbers that they have outside; there are no others.
fn enter_user_namespace() -> Result<(), Missing> {
    let (uid, gid) = (geteuid(), getegid());
    sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| {
        let why = format!("no user namespace can be made: {errno}");
        Missing::new(why, advice(errno, Within::Own))
    })?;
    map(uid, gid).map_err(|error| {
        let errno = Errno::try_from(error).unwrap_or(Errno::EIO);
        let why = format!("the user namespace cannot be given its user: {errno}");
        Missing::new(why, advice(errno, Within::Own))
    })
}

fn map(uid: Uid, gid: Gid) -> io::Result<()> {
    // Otherwise nobody without privileges may say which groups there are.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))
}

/// What can be done about `errno`, by what this kernel says of itself.
fn advice(errno: Errno, within: Within) -> String {
    let setting = |name: &str| {
        let value = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")));
        value.ok().map(|value| value.trim().to_owned())
    };
    let is = |name: &str, value: &str| setting(name).as_deref() == Some(value);
    if within == Within::Own {
        if is("kernel.unprivileged_userns_clone", "0") {
            return "set the sysctl kernel.unprivileged_userns_clone to 1".to_owned();
        }
        if is("kernel.apparmor_restrict_unprivileged_userns", "1") {
            return "give this program an AppArmor profile with `userns,` in it, or set the sysctl \
                    kernel.apparmor_restrict_unprivileged_userns to 0"
                .to_owned();
        }
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
        Errno::EACCES => "let this user read the program, which is hidden from it otherwise",
        _ => {
            "permit unshare(2) in the container or service that this is started from, and no chroot(2) \
             before it; or start this as root with CAP_SYS_ADMIN"
        }
    }
    .to_owned()
}

/// Gives the supplementary groups up, where that is permitted, and says what is left.
///
/// # Errors
/// If they stay although the process is privileged.
pub(crate) fn drop_groups() -> Result<String, Missing> {
    const NONE: &str = "none but its own";
    let failed = |errno: Errno| {
        Missing::new(
            format!("the supplementary groups cannot be given up: {errno}"),
            "give the process CAP_SETGID until it serves, or start it without other groups",
        )
    };
    let left = |groups: Vec<Gid>| groups.iter().any(|group| *group != getegid());
    match setgroups(&[]) {
        Ok(()) if getgroups().map_err(failed)?.is_empty() => Ok(NONE.to_owned()),
        Ok(()) => Err(failed(Errno::EPERM)),
        Err(_) if !left(getgroups().map_err(failed)?) => Ok(NONE.to_owned()),
        // They are this user's: a user namespace does not let them go, as that may open what is
        // closed to a group.
        Err(_) if !geteuid().is_root() => {
            Ok("those of this user, who cannot give them up".to_owned())
        }
        Err(errno) => Err(failed(errno)),
    }
}
