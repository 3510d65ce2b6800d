//! The system calls that the back end makes, and how each can fail.

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

/// Those that the back end asks for when it starts, and has another way for.
pub(crate) const PROBED: [(&str, i64); 4] = [
    ("open_tree", libc::SYS_open_tree),
    ("fchmodat2", 452),
    ("listmount", 458),
    // Asked for only where there is listmount(2).
    ("statmount", 457),
];
