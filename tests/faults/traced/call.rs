//! The system calls that the back end makes, and how each can fail.

use std::collections::BTreeSet;

use nix::errno::Errno;

/// A system call and what it is made to fail with: what may happen to any file system or process, and
/// nothing that the back end takes for an answer.
pub(crate) struct Call {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    pub(crate) errnos: &'static [Errno],
}

macro_rules! calls {
    ($($number:ident $name:literal $($errno:ident)*;)*) => {
        &[$(Call { number: calls!(@ $number), name: $name, errnos: &[$(Errno::$errno),*] }),*]
    };
    // libc does not have all of them.
    (@ FCHMODAT2) => { 452 };
    (@ STATMOUNT) => { 457 };
    (@ LISTMOUNT) => { 458 };
    (@ $number:ident) => { libc::$number };
}

const CALLS: &[Call] = calls! {
    SYS_openat "openat" EIO EACCES EMFILE ENFILE ENOMEM;
    SYS_open_tree "open_tree" EMFILE ENFILE ENOMEM;
    SYS_statx "statx" EIO EACCES ENOMEM;
    SYS_newfstatat "newfstatat" EIO EACCES ENOMEM;
    SYS_fstatfs "fstatfs" EIO ENOMEM;
    SYS_fstat "fstat" EIO ENOMEM;
    SYS_close "close" EIO EINTR;
    SYS_fcntl "fcntl" EMFILE ENOMEM;
    SYS_mkdirat "mkdirat" EIO EACCES ENOSPC EDQUOT EROFS EMLINK;
    SYS_mknodat "mknodat" EIO EACCES ENOSPC EDQUOT EROFS;
    SYS_symlinkat "symlinkat" EIO EACCES ENOSPC EDQUOT EROFS;
    SYS_linkat "linkat" EIO EACCES ENOSPC EDQUOT EROFS EMLINK EXDEV EPERM;
    SYS_unlinkat "unlinkat" EIO EACCES EBUSY EROFS EPERM;
    SYS_renameat2 "renameat2" EIO EACCES ENOSPC EDQUOT EROFS EXDEV EBUSY ENOSYS;
    SYS_readlinkat "readlinkat" EIO EACCES ENOMEM;
    SYS_fchmod "fchmod" EIO EPERM EROFS;
    SYS_fchmodat "fchmodat" EIO EPERM EROFS;
    FCHMODAT2 "fchmodat2" EIO EPERM EROFS;
    SYS_fchownat "fchownat" EIO EPERM EDQUOT EROFS;
    SYS_utimensat "utimensat" EIO EPERM EROFS;
    SYS_ftruncate "ftruncate" EIO EFBIG EPERM ENOSPC;
    SYS_fallocate "fallocate" EIO ENOSPC EFBIG EOPNOTSUPP;
    SYS_pread64 "pread64" EIO ENOMEM;
    SYS_pwrite64 "pwrite64" EIO ENOSPC EDQUOT EFBIG;
    SYS_fsync "fsync" EIO ENOSPC EDQUOT;
    SYS_lseek "lseek" EIO EOVERFLOW;
    SYS_getdents64 "getdents64" EIO ENOMEM;
    LISTMOUNT "listmount" EPERM ENOMEM;
    STATMOUNT "statmount" EPERM ENOMEM;
    SYS_getxattr "getxattr" EIO EACCES ENOMEM EOPNOTSUPP;
    SYS_setxattr "setxattr" EIO EACCES ENOSPC EDQUOT EOPNOTSUPP;
    SYS_listxattr "listxattr" EIO EACCES ENOMEM EOPNOTSUPP;
    SYS_removexattr "removexattr" EIO EACCES EOPNOTSUPP;
    SYS_socket "socket" EACCES EMFILE ENFILE ENOBUFS ENOMEM;
    SYS_bind "bind" EIO EACCES ENOSPC EROFS ENOMEM;
    SYS_connect "connect" EACCES EPERM ECONNREFUSED ENOMEM;
    SYS_listen "listen" EOPNOTSUPP ENOMEM;
    SYS_accept4 "accept4" EMFILE ENFILE ENOBUFS ECONNABORTED;
    SYS_setsockopt "setsockopt" ENOMEM EDOM;
    SYS_getresuid "getresuid" EFAULT;
    SYS_getresgid "getresgid" EFAULT;
    SYS_getgroups "getgroups" EFAULT;
    SYS_capget "capget" EPERM;
    SYS_setgroups "setgroups" EPERM ENOMEM;
    SYS_setresgid "setresgid" EPERM EAGAIN;
    SYS_setresuid "setresuid" EPERM EAGAIN;
    SYS_capset "capset" EPERM;
    SYS_prctl "prctl" EPERM EINVAL;
    SYS_memfd_create "memfd_create" EMFILE ENFILE ENOMEM;
    SYS_mmap "mmap" ENOMEM EAGAIN;
    SYS_socketpair "socketpair" EMFILE ENFILE ENOMEM;
    SYS_clone3 "clone3" EAGAIN ENOMEM ENOSYS;
    SYS_shutdown "shutdown" ENOTCONN;
    SYS_clone "clone" EAGAIN ENOMEM;
    SYS_sched_getaffinity "sched_getaffinity" EPERM;
    SYS_eventfd2 "eventfd2" EMFILE ENFILE ENOMEM;
};

/// The call with the number.
pub(crate) fn call(number: i64) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.number == number)
}

/// A call that the back end asks for when it starts, and has another way for.
pub(crate) struct Probed {
    pub(crate) name: &'static str,
    pub(crate) number: i64,
    /// What asks for it, in `src/host/kernel.rs`.
    asked_by: &'static str,
}

const fn probed(name: &'static str, number: i64, asked_by: &'static str) -> Probed {
    Probed {
        name,
        number,
        asked_by,
    }
}

/// Those that the back end asks for when it starts.
pub(crate) const PROBED: [Probed; 4] = [
    probed("open_tree", libc::SYS_open_tree, "open_path_again"),
    probed("fchmodat2", 452, "fchmodat2"),
    probed("listmount", 458, "listmount"),
    // Asked for only where there is listmount(2).
    probed("statmount", 457, "statmount"),
];

/// What the back end looks for, by its source.
const LOOKS_FOR: &str = include_str!("../../../src/host/kernel.rs");

/// The last call of the oldest kernel that the back end runs on, 5.8, which is faccessat2(2).
const LAST_OF_THE_OLDEST: i64 = 439;

/// Whether the back end may make the call although it did not find out that there is such a call.
pub(crate) fn is_certain(number: i64) -> bool {
    number <= LAST_OF_THE_OLDEST || PROBED.iter().any(|probed| probed.number == number)
}

/// Whether [`PROBED`] are all that the back end looks for, or what is not so.
pub(crate) fn all_are_probed() -> Result<(), String> {
    let asked = LOOKS_FOR.split("sys::").skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('(')?;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        name.bytes().all(is_word).then_some(name)
    });
    let asked: BTreeSet<_> = asked.collect();
    let listed: BTreeSet<_> = PROBED.iter().map(|probed| probed.asked_by).collect();
    if asked == listed {
        Ok(())
    } else {
        Err(format!(
            "the back end looks for {asked:?}, here are {listed:?}"
        ))
    }
}

/// A call that the C library has another way for: the older kernel, or a filter, does not have it.
pub(crate) const CLONE3: i64 = libc::SYS_clone3;
