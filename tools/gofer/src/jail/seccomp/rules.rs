//! What may be called, and with which arguments.
//!
//! Found by reading the code, and by running all suites under strace(1) and under the filter. What the
//! C library and the standard library call by themselves is listed with what they may call next: both
//! start to use calls of which no program has heard when it is moved to another system.
//!
//! Arguments in memory, such as names, cannot be seen by a filter. What a name cannot do is for the
//! mount tree and Landlock to say.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{BackendError, SeccompCondition, SeccompRule};

use super::{Policy, number};

/// By the number of the call: the ways in which it may be called, or none for any way.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls of the same number on all processors that Rust knows Linux on, but MIPS.
const SYS_FCHMODAT2: c_long = 452;
const SYS_STATMOUNT: c_long = 457;
const SYS_LISTMOUNT: c_long = 458;

const PR_SET_VMA: u64 = 0x5356_4d41;

/// socket options of SOL_SOCKET that libc does not have on all processors.
const SO_PASSPIDFD: u64 = 76;
const SO_PASSRIGHTS: u64 = 83;

/// The flags with which the C library makes a thread. musl adds CLONE_DETACHED, which does nothing.
const THREAD: u64 = 0x3d_0f00;
const CLONE_DETACHED: u64 = 0x40_0000;

/// AT_FDCWD, as the kernel compares it: an `int`.
const NOWHERE: u64 = 0xffff_ff9c;

type Built<T> = Result<T, BackendError>;

/// What most requests are made of, one after the other by how often.
pub(super) fn hot(policy: &Policy<'_>) -> Built<[Rules; 4]> {
    let procfd = number(policy.procfd);
    let look = vec![
        rule([is(2, bits(libc::AT_EMPTY_PATH))])?,
        rule([has(2, bits(libc::AT_SYMLINK_NOFOLLOW))])?,
    ];
    let open = vec![
        rule([differs(0, NOWHERE), has(2, bits(libc::O_NOFOLLOW))])?,
        rule([is(0, procfd)])?,
    ];
    let close = vec![rule([differs(0, procfd)])?];
    Ok([
        Rules::from([(libc::SYS_statx, look)]),
        Rules::from([(libc::SYS_openat, open)]),
        Rules::from([(libc::SYS_close, close)]),
        changes()?,
    ])
}

/// What changes attributes and names.
fn changes() -> Built<Rules> {
    let itself = || rule([is(3, bits(libc::AT_EMPTY_PATH))]);
    let owner = rule([is(4, bits(libc::AT_EMPTY_PATH))])?;
    let renames = [
        0,
        u64::from(libc::RENAME_NOREPLACE),
        u64::from(libc::RENAME_EXCHANGE),
    ];
    Ok(Rules::from([
        (libc::SYS_fchownat, vec![owner]),
        (libc::SYS_utimensat, vec![itself()?]),
        (SYS_FCHMODAT2, vec![itself()?]),
        (
            libc::SYS_unlinkat,
            any_of(2, [0, bits(libc::AT_REMOVEDIR)])?,
        ),
        (libc::SYS_renameat2, any_of(4, renames)?),
    ]))
}

/// What may be done whatever the arguments are.
pub(super) fn anyhow(policy: &Policy<'_>) -> Rules {
    let becoming = if policy.identities { IDENTITIES } else { &[] };
    let calls = ANYHOW.iter().chain(becoming);
    calls.map(|call| (*call, Vec::new())).collect()
}

/// What else may be done with some arguments, and what policy permits.
pub(super) fn permitted(policy: &Policy<'_>) -> Built<Rules> {
    let mut rules = Rules::new();
    let procfd = number(policy.procfd);
    memory(&mut rules)?;
    threads(&mut rules, policy)?;
    files(&mut rules, procfd)?;
    names(&mut rules, procfd)?;
    sockets(&mut rules, policy)?;
    Ok(rules)
}

/// What is answered as if the kernel did not have it.
pub(super) fn missing(policy: &Policy<'_>) -> Built<Rules> {
    let close = vec![rule([is(0, number(policy.procfd))])?];
    let open = vec![rule([is(0, NOWHERE)])?];
    Ok(Rules::from([
        (libc::SYS_clone3, Vec::new()),
        (libc::SYS_close, close),
        (libc::SYS_openat, open),
    ]))
}

/// With any arguments.
pub(super) const ANYHOW: &[c_long] = &[
    // Files and directories that are open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_getdents64,
    libc::SYS_fchmod,
    // Names in a directory that is open; the calls do not follow the last component.
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    // Attributes, by the path of a descriptor.
    libc::SYS_getxattr,
    libc::SYS_listxattr,
    libc::SYS_removexattr,
    SYS_STATMOUNT,
    SYS_LISTMOUNT,
    // Memory that is there.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads.
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_membarrier,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    // By the number of a thread, when the C library is asked for the stack of one.
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_umask,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    // Signals of this process.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Time, should it not be told without a call, and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // Connections that are there.
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Becoming somebody else for one call, and oneself again.
pub(super) const IDENTITIES: &[c_long] = &[
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_setgroups,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_capget,
    libc::SYS_capset,
];

/// Memory is never executable.
fn memory(rules: &mut Rules) -> Built<()> {
    let executable = bits(libc::PROT_EXEC);
    rules.insert(libc::SYS_mmap, vec![rule([lacks(2, executable)])?]);
    rules.insert(libc::SYS_mprotect, vec![rule([lacks(2, executable)])?]);
    // Windows, which no program is in.
    let window = bits(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
    let program = bits(libc::MFD_EXEC);
    rules.insert(
        libc::SYS_memfd_create,
        vec![rule([has(1, window), lacks(1, program)])?],
    );
    Ok(())
}

fn threads(rules: &mut Rules, policy: &Policy<'_>) -> Built<()> {
    let procfd = number(policy.procfd);
    rules.insert(
        libc::SYS_clone,
        vec![rule([wide(0, MaskedEq(!CLONE_DETACHED), THREAD)])?],
    );
    rules.insert(
        libc::SYS_unshare,
        vec![rule([is(0, bits(libc::CLONE_FS))])?],
    );
    rules.insert(libc::SYS_fchdir, vec![rule([is(0, procfd)])?]);
    let mut options = any_of(0, [bits(libc::PR_SET_NAME), PR_SET_VMA])?;
    if policy.identities {
        // Afterwards, what others can see of the process is for it to say again.
        options.push(rule([is(0, bits(libc::PR_SET_DUMPABLE)), is(1, 0)])?);
    }
    rules.insert(libc::SYS_prctl, options);
    // The thread that calls, and where it may run.
    rules.insert(libc::SYS_sched_setaffinity, vec![rule([is(0, 0)])?]);
    // How large the stack of a thread is.
    rules.insert(libc::SYS_prlimit64, vec![rule([is(0, 0), wide(2, Eq, 0)])?]);
    // What abort(3) ends a process with.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule([is(0, own)])?]);
    Ok(())
}

fn files(rules: &mut Rules, procfd: u64) -> Built<()> {
    let itself = rule([is(3, bits(libc::AT_EMPTY_PATH))])?;
    rules.insert(libc::SYS_newfstatat, vec![itself]);
    // What openat may be called for with O_PATH, for a file that is open. A clone is a mount.
    let once_more = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::O_CLOEXEC;
    let once_more = rule([differs(0, NOWHERE), is(2, bits(once_more))])?;
    rules.insert(libc::SYS_open_tree, vec![once_more]);
    // Which has no flags, and is what there was before fchmodat2.
    rules.insert(libc::SYS_fchmodat, vec![rule([is(0, procfd)])?]);
    rules.insert(
        libc::SYS_setxattr,
        any_of(4, [0, libc::XATTR_CREATE, libc::XATTR_REPLACE].map(bits))?,
    );
    let commands = [
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD_CLOEXEC,
        libc::F_ADD_SEALS,
        libc::F_GET_SEALS,
    ];
    rules.insert(libc::SYS_fcntl, any_of(1, commands.map(bits))?);
    rules.insert(libc::SYS_ioctl, any_of(1, [FIONBIO, SIOCOUTQ])?);
    Ok(())
}

/// Whether a descriptor blocks, the standard library's way.
const FIONBIO: u64 = 0x5421;
/// How much the peer of a socket has not taken.
const SIOCOUTQ: u64 = 0x5411;

fn names(rules: &mut Rules, procfd: u64) -> Built<()> {
    rules.insert(
        libc::SYS_linkat,
        vec![rule([is(0, procfd), is(4, bits(libc::AT_SYMLINK_FOLLOW))])?],
    );
    // Whiteouts. Regular files are made by opening them.
    let file_type = has_of(2, u64::from(libc::S_IFMT), u64::from(libc::S_IFCHR));
    rules.insert(libc::SYS_mknodat, vec![rule([file_type, is(3, 0)])?]);
    Ok(())
}

fn sockets(rules: &mut Rules, policy: &Policy<'_>) -> Built<()> {
    let unix = || is(0, bits(libc::AF_UNIX));
    // The descriptor channel, and what wakes a thread. Not datagrams: over a socket for those,
    // sendmsg, whose arguments no filter can see, reaches any other by its path.
    let pair = |sort: c_int| rule([unix(), is(1, bits(sort | libc::SOCK_CLOEXEC)), is(2, 0)]);
    let pairs = [libc::SOCK_SEQPACKET, libc::SOCK_STREAM];
    rules.insert(
        libc::SYS_socketpair,
        pairs.into_iter().map(pair).collect::<Built<_>>()?,
    );
    // To whoever is connected only.
    rules.insert(libc::SYS_sendto, vec![rule([wide(4, Eq, 0)])?]);
    let of_sockets = |option: u64| rule([is(1, bits(libc::SOL_SOCKET)), is(2, option)]);
    let set = [
        bits(libc::SO_SNDBUF),
        bits(libc::SO_RCVTIMEO),
        bits(libc::SO_SNDTIMEO),
        bits(libc::SO_PASSCRED),
        SO_PASSPIDFD,
        SO_PASSRIGHTS,
    ];
    rules.insert(
        libc::SYS_setsockopt,
        set.into_iter().map(of_sockets).collect::<Built<_>>()?,
    );
    rules.insert(
        libc::SYS_getsockopt,
        vec![rule([is(1, bits(libc::SOL_SOCKET))])?],
    );
    let (opens, creates) = (policy.host_uds.opens(), policy.host_uds.creates());
    if opens || creates {
        rules.insert(libc::SYS_socket, vec![rule([unix()])?]);
    }
    if opens {
        rules.insert(libc::SYS_connect, Vec::new());
    }
    if creates {
        rules.insert(libc::SYS_bind, Vec::new());
        rules.insert(libc::SYS_listen, Vec::new());
    }
    if creates || policy.accepts {
        rules.insert(libc::SYS_accept4, Vec::new());
    }
    Ok(())
}

fn rule(conditions: impl IntoIterator<Item = Built<SeccompCondition>>) -> Built<SeccompRule> {
    SeccompRule::new(conditions.into_iter().collect::<Built<_>>()?)
}

/// One rule for each value that the argument may have.
fn any_of(argument: u8, values: impl IntoIterator<Item = u64>) -> Built<Vec<SeccompRule>> {
    values
        .into_iter()
        .map(|value| rule([is(argument, value)]))
        .collect()
}

/// The argument, an `int`, is this one.
fn is(argument: u8, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, Dword, Eq, value)
}

/// The argument, an `int`, is another one.
fn differs(argument: u8, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, Dword, Ne, value)
}

/// All of these bits are set in the argument.
fn has(argument: u8, bits: u64) -> Built<SeccompCondition> {
    has_of(argument, bits, bits)
}

/// None of these bits is set in the argument.
fn lacks(argument: u8, bits: u64) -> Built<SeccompCondition> {
    has_of(argument, bits, 0)
}

/// Of the bits in `mask`, these are set in the argument.
fn has_of(argument: u8, mask: u64, bits: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, Dword, MaskedEq(mask), bits)
}

/// A comparison of all 64 bits: pointers and `long`s.
fn wide(argument: u8, operation: seccompiler::SeccompCmpOp, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, Qword, operation, value)
}

/// A constant of the C library, none of which is negative.
fn bits(constant: impl Into<i64>) -> u64 {
    constant.into().unsigned_abs()
}
