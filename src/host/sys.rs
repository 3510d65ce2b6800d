//! The system calls that nix does not wrap, or not for one thread: the only `unsafe` of the back
//! end.
#![expect(unsafe_code, reason = "system calls, on memory and descriptors")]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use bytemuck::{Pod, Zeroable};
use nix::errno::{Errno, ErrnoSentinel};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;

use crate::wire::Statx;

/// What statx(2) fills in: the attributes as they go on the wire and, behind them, the mount.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Attributes {
    pub(super) stat: Statx,
    /// The id of the mount, if `stat.mask` says so.
    pub(super) mount: u64,
    rest: [u64; 13],
}

const _: () = assert!(size_of::<Attributes>() == size_of::<libc::statx>());

/// statx(directory, path, flags, mask).
pub(super) fn statx(
    directory: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    mask: u32,
) -> nix::Result<Attributes> {
    let mut attributes = Attributes::zeroed();
    let to = (&raw mut attributes).cast::<libc::statx>();
    // SAFETY: statx wants
    // - a path that ends with a NUL: it is a `CStr`;
    // - room for a `struct statx`, which `Attributes` is in size and, with u64 fields, in alignment;
    //   any bytes the kernel leaves there are a valid value of a `Pod`.
    let result = unsafe { libc::statx(directory.as_raw_fd(), path.as_ptr(), flags, mask, to) };
    Errno::result(result).map(|_| attributes)
}

/// Where `struct stat` of the C library is the kernel's.
const _: () = assert!(cfg!(target_pointer_width = "64"));

/// fstat(fd). Not the C library's function, which may be another system call.
pub(super) fn fstat(fd: BorrowedFd<'_>) -> nix::Result<libc::stat> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: fstat wants room for a `struct stat`, which libc's is (see above).
    let result = unsafe { libc::syscall(libc::SYS_fstat, fd.as_raw_fd(), stat.as_mut_ptr()) };
    Errno::result(result)?;
    // SAFETY: `assume_init` wants a value that was written: the call has succeeded.
    Ok(unsafe { stat.assume_init() })
}

/// getdents64(directory, buffer): returns the number of bytes filled in, 0 at the end.
pub(super) fn getdents64(directory: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: getdents64 wants `buffer.len()` bytes that it may write: an exclusive slice.
    let result = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    length(result)
}

/// readlinkat(link, "", buffer) of a descriptor of the link itself: returns the length of the target,
/// cut off at the length of `buffer`.
pub(super) fn readlink(link: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: readlinkat wants
    // - a path that ends with a NUL: a literal;
    // - `buffer.len()` bytes that it may write: an exclusive slice.
    let result = unsafe {
        libc::readlinkat(
            link.as_raw_fd(),
            c"".as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    length(result)
}

/// getxattr(path, name, value): returns the length of the value.
pub(super) fn getxattr(path: &CStr, name: &CStr, value: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: getxattr wants
    // - a path and a name that end with a NUL: they are `CStr`s;
    // - `value.len()` bytes that it may write: an exclusive slice.
    let result = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    length(result)
}

/// listxattr(path, names): returns the length of the names, each with a NUL.
pub(super) fn listxattr(path: &CStr, names: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: listxattr wants
    // - a path that ends with a NUL: it is a `CStr`;
    // - `names.len()` bytes that it may write: an exclusive slice.
    let result = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    length(result)
}

/// setxattr(path, name, value, flags).
pub(super) fn setxattr(path: &CStr, name: &CStr, value: &[u8], flags: i32) -> nix::Result<()> {
    // SAFETY: setxattr wants
    // - a path and a name that end with a NUL: they are `CStr`s;
    // - `value.len()` readable bytes: a slice.
    let result = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags,
        )
    };
    Errno::result(result).map(drop)
}

/// removexattr(path, name).
pub(super) fn removexattr(path: &CStr, name: &CStr) -> nix::Result<()> {
    // SAFETY: removexattr wants a path and a name that end with a NUL: they are `CStr`s.
    let result = unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) };
    Errno::result(result).map(drop)
}

/// renameat2(2). nix has it for glibc only.
pub(super) fn renameat2(
    old_directory: BorrowedFd<'_>,
    old_name: &CStr,
    new_directory: BorrowedFd<'_>,
    new_name: &CStr,
    flags: u32,
) -> nix::Result<()> {
    // SAFETY: renameat2 wants two names that end with a NUL: they are `CStr`s.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            old_directory.as_raw_fd(),
            old_name.as_ptr(),
            new_directory.as_raw_fd(),
            new_name.as_ptr(),
            flags,
        )
    };
    Errno::result(result).map(drop)
}

/// fchmodat2(directory, path, mode, flags) (6.6), which takes AT_EMPTY_PATH.
pub(super) fn fchmodat2(
    directory: BorrowedFd<'_>,
    path: &CStr,
    mode: Mode,
    flags: i32,
) -> nix::Result<()> {
    /// The same number on all architectures but MIPS, which adds a base of its own: there it stands
    /// for no call at all and is answered with ENOSYS, as by an older kernel. So do those of
    /// listmount and statmount.
    const SYS_FCHMODAT2: libc::c_long = 452;

    // SAFETY: fchmodat2 wants a path that ends with a NUL: it is a `CStr`.
    let result = unsafe {
        libc::syscall(
            SYS_FCHMODAT2,
            directory.as_raw_fd(),
            path.as_ptr(),
            mode.bits(),
            flags,
        )
    };
    Errno::result(result).map(drop)
}

/// utimensat(file, "", { accessed, modified }, AT_EMPTY_PATH): sets the times of the file itself, be
/// it a symlink or known by an O_PATH descriptor. nix does not have the flag.
pub(super) fn set_times(
    file: BorrowedFd<'_>,
    accessed: TimeSpec,
    modified: TimeSpec,
) -> nix::Result<()> {
    let times: [libc::timespec; 2] = [*accessed.as_ref(), *modified.as_ref()];
    // SAFETY: utimensat wants
    // - a path that ends with a NUL: a literal;
    // - two times: an array of two.
    let result = unsafe {
        libc::utimensat(
            file.as_raw_fd(),
            c"".as_ptr(),
            times.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// open_tree(path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC): a mount of its own, attached nowhere, whose
/// root is the directory `path`.
pub(super) fn clone_tree(path: &CStr) -> nix::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    // SAFETY: open_tree wants a path that ends with a NUL: it is a `CStr`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            OPEN_TREE_CLONE | libc::O_CLOEXEC,
        )
    };
    owned(Errno::result(result)?)
}

/// open_tree(file, "", AT_EMPTY_PATH | OPEN_TREE_CLOEXEC): another descriptor of the file, as openat(2)
/// makes it with O_PATH. A filter of system calls does not see that the path is empty, so that is not
/// to be followed either.
pub(super) fn open_path_again(file: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    // SAFETY: open_tree wants a path that ends with a NUL: it is a `CStr`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::O_CLOEXEC,
        )
    };
    owned(Errno::result(result)?)
}

/// `struct mnt_id_req`: which mount, and what of it.
#[repr(C)]
struct MountRequest {
    size: u32,
    spare: u32,
    mount: u64,
    parameter: u64,
}

impl MountRequest {
    const SIZE: u32 = 24;

    fn new(mount: u64, parameter: u64) -> MountRequest {
        MountRequest {
            size: MountRequest::SIZE,
            spare: 0,
            mount,
            parameter,
        }
    }
}

const _: () = assert!(size_of::<MountRequest>() == MountRequest::SIZE as usize);

/// listmount(2) (6.8): the unique ids of the mounts below the one with the unique id `mount`, at
/// whatever depth. Returns how many there are, but no more than `ids` has room for.
pub(super) fn listmount(mount: u64, ids: &mut [u64]) -> nix::Result<usize> {
    const SYS_LISTMOUNT: libc::c_long = 458;

    let request = MountRequest::new(mount, 0);
    // SAFETY: listmount wants
    // - a request of the size that it says: asserted above;
    // - room for as many ids as the third argument says: an exclusive slice of that length.
    let result = unsafe {
        libc::syscall(
            SYS_LISTMOUNT,
            &raw const request,
            ids.as_mut_ptr(),
            ids.len(),
            0_u32,
        )
    };
    length(result)
}

/// Where something is mounted, as statmount(2) tells it.
#[repr(C)]
pub(super) struct Mounted {
    size: u32,
    spare: u32,
    mask: u64,
    superblock: [u64; 3],
    id: u64,
    /// The unique id of the mount that it is mounted in.
    pub(super) parent: u64,
    propagation: [u64; 6],
    root: u32,
    /// Where in `strings` the path of the mount point begins.
    point: u32,
    rest: [u64; 50],
    strings: [u8; libc::PATH_MAX as usize],
}

const _: () = assert!(std::mem::offset_of!(Mounted, parent) == 48);
const _: () = assert!(std::mem::offset_of!(Mounted, point) == 108);
const _: () = assert!(std::mem::offset_of!(Mounted, strings) == 512);

impl Mounted {
    /// The last component of the path of the mount point.
    ///
    /// # Errors
    /// ENOENT if the place cannot be reached from the root of this process, or is that root.
    pub(super) fn name(&self) -> nix::Result<&[u8]> {
        let path = usize::try_from(self.point)
            .ok()
            .and_then(|point| self.strings.get(point..))
            .and_then(|path| CStr::from_bytes_until_nul(path).ok());
        path.and_then(|path| path.to_bytes().rsplit(|byte| *byte == b'/').next())
            .filter(|name| !name.is_empty())
            .ok_or(Errno::ENOENT)
    }
}

/// statmount(2) (6.8): where the mount with the unique id `mount` is.
///
/// ENOENT if there is none (any more), EOVERFLOW for a path above PATH_MAX.
pub(super) fn statmount(mount: u64) -> nix::Result<Mounted> {
    const SYS_STATMOUNT: libc::c_long = 457;
    const STATMOUNT_MNT_BASIC: u64 = 2;
    const STATMOUNT_MNT_POINT: u64 = 0x10;

    let request = MountRequest::new(mount, STATMOUNT_MNT_BASIC | STATMOUNT_MNT_POINT);
    let mut found = Mounted {
        size: 0,
        spare: 0,
        mask: 0,
        superblock: [0; 3],
        id: 0,
        parent: 0,
        propagation: [0; 6],
        root: 0,
        point: 0,
        rest: [0; 50],
        strings: [0; libc::PATH_MAX as usize],
    };
    // SAFETY: statmount wants
    // - a request of the size that it says: asserted above;
    // - as many writable bytes as the third argument says: a local of that size; whatever the kernel
    //   leaves there, integers are all it is made of.
    let result = unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            &raw const request,
            &raw mut found,
            size_of::<Mounted>(),
            0_u32,
        )
    };
    Errno::result(result)?;
    // Not all that is asked for is told of every mount; a path that is not told is "".
    if found.mask & STATMOUNT_MNT_BASIC == 0 {
        return Err(Errno::ENOENT);
    }
    if found.mask & STATMOUNT_MNT_POINT == 0 {
        found.strings = [0; libc::PATH_MAX as usize];
        found.point = 0;
    }
    Ok(found)
}

/// accept4(listener, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC).
pub(super) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    // SAFETY: accept4 wants a place for the peer's address or none: none.
    let result = unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            ptr::null_mut(),
            ptr::null_mut(),
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    };
    owned(Errno::result(result)?.into())
}

/// getgroups(2) of this thread.
pub(super) fn thread_groups() -> nix::Result<Vec<libc::gid_t>> {
    // SAFETY: with size 0 getgroups writes nothing.
    let count = unsafe { libc::getgroups(0, ptr::null_mut()) };
    let mut groups = vec![0; length(count)?];
    // SAFETY: getgroups wants room for as many ids as its first argument says, `count`, which is the
    // length of the vector. The groups of a thread are changed by that thread alone.
    let count = unsafe { libc::getgroups(count, groups.as_mut_ptr()) };
    groups.truncate(length(count)?);
    Ok(groups)
}

/// setgroups(2) for this thread alone, not, as the C library does, for the process.
pub(super) fn set_thread_groups(groups: &[libc::gid_t]) -> nix::Result<()> {
    // SAFETY: setgroups wants `groups.len()` readable ids: a slice.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(result).map(drop)
}

/// getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS): the supplementary groups of who has connected.
#[cfg(test)]
pub(super) fn peer_groups(socket: BorrowedFd<'_>) -> nix::Result<Vec<libc::gid_t>> {
    const ID: usize = size_of::<libc::gid_t>();
    let mut groups = vec![0; 64];
    let mut size = libc::socklen_t::try_from(groups.len() * ID).map_err(|_| Errno::EINVAL)?;
    // SAFETY: getsockopt wants room for `size` bytes, which the vector has, and a place to say how many
    // it has written there.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    Errno::result(result)?;
    groups.truncate(size as usize / ID);
    Ok(groups)
}

/// Sets the effective user id of this thread alone.
pub(super) fn set_thread_euid(uid: u32) -> nix::Result<()> {
    // SAFETY: setresuid takes numbers only. That other threads keep their ids breaks an assumption of
    // the C library's set*id functions, of no memory access.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, u32::MAX, uid, u32::MAX) };
    Errno::result(result).map(drop)
}

/// Sets the effective group id of this thread alone.
pub(super) fn set_thread_egid(gid: u32) -> nix::Result<()> {
    // SAFETY: as for `set_thread_euid`.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, u32::MAX, gid, u32::MAX) };
    Errno::result(result).map(drop)
}

/// The capability sets of a thread, as capget(2) version 3 has them: bits 0–31, then 32–63.
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Capabilities {
    words: [CapabilityWord; 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `struct __user_cap_header_struct`; pid 0 is the calling thread.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

const THIS_THREAD: CapabilityHeader = CapabilityHeader {
    version: 0x2008_0522,
    pid: 0,
};

impl Capabilities {
    /// capget(2) of this thread.
    pub(super) fn of_thread() -> nix::Result<Capabilities> {
        let mut header = THIS_THREAD;
        let mut capabilities = Capabilities::zeroed();
        // SAFETY: capget wants
        // - a header that it may write to: a local;
        // - room for the two words of version 3: `Capabilities` is an array of two.
        let result =
            unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut capabilities) };
        Errno::result(result).map(|_| capabilities)
    }

    /// capset(2) of this thread.
    pub(super) fn apply(self) -> nix::Result<()> {
        let mut header = THIS_THREAD;
        // SAFETY: as for capget; the sets are only read.
        let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const self) };
        Errno::result(result).map(drop)
    }

    /// The same sets with nothing effective.
    pub(super) fn dormant(self) -> Capabilities {
        let words = self.words.map(|word| CapabilityWord {
            effective: 0,
            ..word
        });
        Capabilities { words }
    }

    /// Whether the capability with this number, below 32, is effective.
    pub(super) fn is_effective(self, number: u32) -> bool {
        let [low, _] = self.words;
        low.effective & (1 << number) != 0
    }
}

fn length<N>(result: N) -> nix::Result<usize>
where
    N: ErrnoSentinel + PartialEq + TryInto<usize>,
{
    Errno::result(result).and_then(|length| length.try_into().map_err(|_| Errno::EIO))
}

/// Takes over the descriptor that a system call has just returned.
fn owned(fd: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(|_| Errno::EIO)?;
    // SAFETY: `from_raw_fd` wants an open descriptor that nobody else owns: the callers pass what
    // the kernel has just made for them.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
