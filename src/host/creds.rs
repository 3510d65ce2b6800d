//! Another identity for one thread and one system call.
#![forbid(unsafe_code)]

use nix::sys::prctl::set_dumpable;
use nix::unistd::{getresgid, getresuid};

use super::sys::{self, Capabilities};
use crate::Errno;
use crate::wire::{Gid, Uid};

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

/// Whether this process can take other identities on.
pub(super) fn can_be_assumed() -> bool {
    let has = |number| {
        Capabilities::of_thread().is_ok_and(|capabilities| capabilities.is_effective(number))
    };
    // A user namespace may forbid setgroups(2) to whoever has the capability. Setting what is set
    // already finds out.
    let groups_change = || {
        sys::thread_groups()
            .and_then(|groups| sys::set_thread_groups(&groups))
            .is_ok()
    };
    has(CAP_SETUID) && has(CAP_SETGID) && groups_change()
}

/// While this lives, the calling thread, and no other, has the effective identity of somebody else,
/// without supplementary groups and capabilities.
///
/// From then on the process is not dumpable (see prctl(2), PR_SET_DUMPABLE) until it says otherwise. The
/// kernel makes it what the sysctl fs.suid_dumpable says whenever a thread changes its identity, and that
/// can be that others of its user look into it, or that it leaves a core.
pub(super) struct Assumed {
    own: Identity,
}

/// What a thread is and may do.
struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<libc::gid_t>,
    capabilities: Capabilities,
}

impl Assumed {
    /// Takes the identity on.
    ///
    /// # Errors
    /// EINVAL for no identity; EPERM if it cannot be taken on, and nothing is changed then.
    pub(super) fn new(uid: Uid, gid: Gid) -> Result<Assumed, Errno> {
        let uid = uid.some().ok_or(Errno::EINVAL)?;
        let gid = gid.some().ok_or(Errno::EINVAL)?;
        Assumed::take_on(uid, gid).map_err(|_| Errno::EPERM)
    }

    fn take_on(uid: u32, gid: u32) -> nix::Result<Assumed> {
        let own = Identity::of_thread()?;
        // While nothing is to be undone if that is not permitted.
        set_dumpable(false)?;
        // Who may do this may also undo it, so from here on there is something to drop.
        sys::set_thread_groups(&[])?;
        let assumed = Assumed { own };
        sys::set_thread_egid(gid)?;
        sys::set_thread_euid(uid)?;
        // A change of user id drops them only if root is left.
        assumed.own.capabilities.dormant().apply()?;
        set_dumpable(false)?;
        Ok(assumed)
    }
}

impl Drop for Assumed {
    fn drop(&mut self) {
        if let Err(errno) = self.own.restore() {
            // The next operation of this thread would run under the client's choice of identity.
            tracing::error!(%errno, "a thread cannot get its identity back");
            std::process::abort();
        }
        if let Err(errno) = set_dumpable(false) {
            tracing::error!(%errno, "others may be able to look into this process");
        }
    }
}

impl Identity {
    /// # Errors
    /// EPERM if the thread could not come back to it.
    fn of_thread() -> nix::Result<Identity> {
        let (user, group) = (getresuid()?, getresgid()?);
        // The way back must not depend on what is given up on the way.
        let returns = (user.effective == user.real || user.effective == user.saved)
            && (group.effective == group.real || group.effective == group.saved);
        if !returns {
            return Err(nix::errno::Errno::EPERM);
        }
        Ok(Identity {
            uid: user.effective.as_raw(),
            gid: group.effective.as_raw(),
            groups: sys::thread_groups()?,
            capabilities: Capabilities::of_thread()?,
        })
    }

    fn restore(&self) -> nix::Result<()> {
        self.capabilities.apply()?;
        sys::set_thread_euid(self.uid)?;
        sys::set_thread_egid(self.gid)?;
        sys::set_thread_groups(&self.groups)?;
        // Becoming root raises capabilities, and ceasing to be root drops them.
        self.capabilities.apply()
    }
}
