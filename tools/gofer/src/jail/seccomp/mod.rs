//! Which system calls the process may make from here on, and with which arguments.
//!
//! What is permitted is listed in [`rules`]; all else ends the process with SIGSYS. But three calls are
//! answered ENOSYS:
//!
//! - clone3(2), whose arguments no filter can see. The C library then takes clone(2).
//! - close(2) of the directory of our descriptors. Reopening through it is the one way to open
//!   something without O_NOFOLLOW, so its number must always mean that directory.
//! - openat(2) of a path, relative to no descriptor. The back end has no use for it, but the C library
//!   does what nobody has asked for: glibc's allocator looks into `/sys` for the number of CPUs when
//!   there are more than eight threads, and into `/proc` before it gives memory back. It can do
//!   without, as in a root that has neither, and should not be the end of a server.
//!
//! A filter looks through its calls one by one, so those that serving is made of come first. Those that
//! are permitted whatever their arguments come last: from Linux 5.11 the kernel remembers them in a
//! bitmap and does not ask the filter.
#![forbid(unsafe_code)]

mod rules;

use std::env::{self, consts::ARCH};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use lisafs::host::HostUds;
use nix::errno::Errno;
use nix::sys::prctl::{get_no_new_privs, set_no_new_privs};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter_all_threads,
};

use self::rules::Rules;

/// What the process is going to do, besides serving files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy<'p> {
    /// The directory of our descriptors: [`HostFs::procfd`](lisafs::host::HostFs::procfd) of the one
    /// back end that all connections share.
    pub(crate) procfd: BorrowedFd<'p>,
    /// Which sockets below the root are made and connected to.
    pub(crate) host_uds: HostUds,
    /// Whether sockets are connected to as somebody else, too.
    pub(crate) identities: bool,
    /// Whether connections are accepted on a socket that listens already.
    pub(crate) accepts: bool,
    pub(crate) violation: Violation,
}

/// What becomes of a process that does what its policy does not permit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Violation {
    /// It is killed with SIGSYS, and the kernel logs which call it was.
    #[default]
    Kill,
    /// The kernel logs the call, and permits it. No protection: for finding out what is missing.
    Log,
}

impl Violation {
    /// Kills, unless a build with debug assertions finds `LISAFS_SECCOMP=log` in its environment. What
    /// is released listens to nobody about that.
    pub(crate) fn chosen() -> Violation {
        if cfg!(debug_assertions) && env::var_os("LISAFS_SECCOMP").is_some_and(|it| it == "log") {
            Violation::Log
        } else {
            Violation::Kill
        }
    }

    /// What a filter in force is said to do.
    pub(crate) fn effect(self) -> &'static str {
        match self {
            Violation::Kill => "what serving does not call for ends the process",
            Violation::Log => {
                "what serving does not call for is logged by the kernel, and permitted"
            }
        }
    }
}

/// The filter is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompFailure {
    /// The kernel has none.
    #[error("the kernel has no system call filters")]
    Unsupported,
    #[error("no_new_privs cannot be set: {0}")]
    NoNewPrivs(Errno),
    #[error("no filter is known for this processor: {0}")]
    Compile(#[from] BackendError),
    #[error("the system call filter cannot be installed: {0}")]
    Install(Errno),
    #[error("the system call filter cannot be installed on thread {0}, which has another")]
    Thread(i64),
}

impl SeccompFailure {
    /// What can be done.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            SeccompFailure::Unsupported => "use a kernel that is built with CONFIG_SECCOMP_FILTER",
            SeccompFailure::NoNewPrivs(_) => "use Linux 3.5 or later, and permit prctl(2)",
            SeccompFailure::Compile(_) => "use x86_64 or aarch64; if this is one, report this",
            SeccompFailure::Install(_) => "permit seccomp(2)",
            SeccompFailure::Thread(_) => "report this",
        }
    }
}

/// Permits this process no more than `policy` says, for good. All its threads, and those that it
/// starts, are bound by it. Sets no_new_privs.
///
/// From here on no mount can be made, no program executed, and no signal sent to another process. Where a
/// path leads is not for the filter to see: openat(2) of an absolute one is permitted with O_NOFOLLOW and
/// any descriptor, and without it with the directory of our descriptors. What looks at attributes or
/// changes them has a path, too, at the end of which a symlink is followed: xattr calls, and those with
/// AT_EMPTY_PATH, which permits an empty path and demands none.
///
/// # Errors
/// [`SeccompFailure::Unsupported`] if the kernel has no filters; others if it has but it is not in
/// force.
pub(crate) fn install(policy: &Policy<'_>) -> Result<(), SeccompFailure> {
    let filter = compile(policy)?;
    set_no_new_privs().map_err(SeccompFailure::NoNewPrivs)?;
    match get_no_new_privs() {
        Ok(true) => {}
        Ok(false) => return Err(SeccompFailure::NoNewPrivs(Errno::EPERM)),
        Err(why) => return Err(SeccompFailure::NoNewPrivs(why)),
    }
    apply(&filter)
}

/// One filter of all there is to say.
fn compile(policy: &Policy<'_>) -> Result<BpfProgram, BackendError> {
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let forbidden = match policy.violation {
        Violation::Kill => SeccompAction::KillProcess,
        Violation::Log => SeccompAction::Log,
    };
    let mut filter = BpfProgram::new();
    for calls in rules::hot(policy)? {
        filter.extend(section(calls, SeccompAction::Allow)?);
    }
    filter.extend(section(rules::missing(policy)?, missing)?);
    filter.extend(section(rules::permitted(policy)?, SeccompAction::Allow)?);
    filter.extend(section(rules::anyhow(policy), SeccompAction::Allow)?);
    // Whatever it is by then.
    let all = SeccompFilter::new(Rules::new(), forbidden, SeccompAction::Allow, arch()?)?;
    filter.extend(BpfProgram::try_from(all)?);
    Ok(filter)
}

/// A part of a filter: `action` for what `calls` describe; for the rest, what follows it says.
///
/// The compiler makes whole filters, which return something for the rest as well. These returns become
/// jumps to the end.
fn section(calls: Rules, action: SeccompAction) -> Result<BpfProgram, BackendError> {
    /// Nobody traces this process: no other action looks like this one.
    const REST: SeccompAction = SeccompAction::Trace(0xffff);
    const RETURN: u16 = 0x06;
    const JUMP: u16 = 0x05;

    let rest = u32::from(REST);
    let mut section = BpfProgram::try_from(SeccompFilter::new(calls, REST, action, arch()?)?)?;
    let mut left = u32::try_from(section.len()).unwrap_or(u32::MAX);
    for instruction in &mut section {
        left = left.saturating_sub(1);
        if instruction.code == RETURN && instruction.k == rest {
            (instruction.code, instruction.k) = (JUMP, left);
        }
    }
    Ok(section)
}

fn arch() -> Result<TargetArch, BackendError> {
    TargetArch::try_from(ARCH)
}

fn apply(filter: &BpfProgram) -> Result<(), SeccompFailure> {
    let errno = |why: io::Error| Errno::try_from(why).unwrap_or(Errno::EIO);
    apply_filter_all_threads(filter).map_err(|why| match why {
        seccompiler::Error::Backend(why) => SeccompFailure::Compile(why),
        seccompiler::Error::Prctl(why) => SeccompFailure::NoNewPrivs(errno(why)),
        seccompiler::Error::ThreadSync(thread) => SeccompFailure::Thread(thread),
        seccompiler::Error::Seccomp(why) => match errno(why) {
            // EINVAL: seccomp(2) is there, but no filters.
            Errno::ENOSYS | Errno::EINVAL => SeccompFailure::Unsupported,
            why => SeccompFailure::Install(why),
        },
        seccompiler::Error::EmptyFilter => SeccompFailure::Install(Errno::EINVAL),
    })
}

/// The number that a filter compares with.
fn number(fd: BorrowedFd<'_>) -> u64 {
    // Descriptors are not negative.
    u64::from(fd.as_raw_fd().unsigned_abs())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod verdicts;
