//! The system calls that have no safe form elsewhere.
#![expect(
    unsafe_code,
    reason = "system calls, and who owns the descriptors that they return"
)]

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{ForkResult, Pid};
use parking_lot::Mutex;

use crate::process::{open_descriptors, threads};
use crate::socket_name::SocketName;

/// The descriptors that this process was started with, but for those that have been taken over, or why
/// they are not known.
static INHERITED: Mutex<Result<BTreeSet<RawFd>, Errno>> = Mutex::new(Ok(BTreeSet::new()));

/// What the loader calls before `main`, and so before any code that could own a descriptor.
// SAFETY: `.init_array` holds addresses of functions that can be called with the C convention, and this
// static is one. The loader passes arguments, which a function of that convention may leave alone. Of the
// standard library the function uses the allocator, files and a lock, which need nothing that is set up
// by then, and it does not unwind.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = note_inherited;

/// Where there is no procfs, nothing can be taken over.
extern "C" fn note_inherited() {
    // One that was opened since execve(2), as by this listing, is another's.
    let inherited = |number: &RawFd| {
        // SAFETY: fcntl(F_GETFD) takes any number, passes no memory and changes nothing.
        unsafe { libc::fcntl(*number, libc::F_GETFD) == 0 }
    };
    let open = open_descriptors().map(|open| open.into_iter().filter(inherited).collect());
    *INHERITED.lock() = open.map_err(|why| Errno::from_raw(why.raw_os_error().unwrap_or(0)));
}

/// Takes over a descriptor that this process was started with, and has it closed when another program
/// is executed.
///
/// # Errors
/// EBADF if there was no such descriptor, or it has been taken over already; as open(2), mostly ENOENT, if
/// `/proc/self/fd` could not be read.
pub(crate) fn take_inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    let is_inherited = match &mut *INHERITED.lock() {
        Ok(inherited) => inherited.remove(&number),
        Err(why) => return Err(*why),
    };
    if !is_inherited {
        return Err(Errno::EBADF);
    }
    // SAFETY: fcntl(F_SETFD) takes any number, passes no memory, and changes nothing but whether the
    // descriptor survives execve(2), which no code of this program relies on.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: `from_raw_fd` wants an open descriptor that nobody else owns. The call above has shown that
    // it is open. It was open before the first line of this program ran, so no value of this program
    // owned it then, and it has just been removed from those that can be taken over; the standard library
    // uses 0, 1 and 2 by number, and owns them no more than others do.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// On which side of [`fork`] the caller is.
pub(crate) enum Forked {
    Parent(Pid),
    Child(InChild),
}

/// Had by a process that was made by [`fork`] and by no other.
pub(crate) struct InChild(());

impl InChild {
    /// Waits until nobody has the other end of the pipe `held` any more, removes `name`, and ends. All
    /// that this process was made with is closed, but for stderr and the ends of the two pipes.
    pub(crate) fn wait_and_remove(self, held: OwnedFd, end: &OwnedFd, name: &SocketName) -> ! {
        // Sockets would be held open by it, and clients would wait for their end.
        let kept = [held.as_raw_fd(), end.as_raw_fd(), 2];
        for number in open_descriptors().unwrap_or_default() {
            if !kept.contains(&number) {
                // SAFETY: close takes a number. It may belong to a value that the other process had when
                // this one was made. That one keeps its own, and this one uses its copy no more: from
                // here on it uses what is kept, and `name`, which owns no descriptor, as no static of
                // this program does; what it opens meanwhile it opens afterwards. It does not return,
                // and exit(3) drops nothing.
                unsafe { libc::close(number) };
            }
        }
        // Nobody writes, so this is the end, or an error that is none to wait after.
        let _ = File::from(held).read(&mut [0]);
        name.remove();
        process::exit(0)
    }
}

/// fork(2), while there is one thread.
///
/// # Errors
/// As fork(2); EBUSY if there are other threads; as open(2), mostly ENOENT, if they cannot be counted,
/// for want of a procfs.
pub(crate) fn fork() -> Result<Forked, Errno> {
    let threads = threads().map_err(|why| Errno::try_from(why).unwrap_or(Errno::EIO))?;
    if threads != 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: after the fork of a process with several threads, the child may find locks held that
    // nobody gives back. There is one thread, which has just been counted, and it starts no other
    // meanwhile.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        ForkResult::Child => Ok(Forked::Child(InChild(()))),
    }
}

/// Ignores `ignored` from here on.
///
/// # Errors
/// EINVAL for signals that cannot be ignored.
pub(crate) fn ignore(ignored: Signal) -> Result<(), Errno> {
    // SAFETY: `signal` is unsafe because a handler may run at any time and do what handlers must
    // not. There is no handler here.
    unsafe { signal(ignored, SigHandler::SigIgn) }.map(drop)
}

/// Whether a signal is ignored: what whoever started this process has decided, as nohup(1) does, and
/// a shell for what it runs in the background.
///
/// # Errors
/// EINVAL for numbers that are no signals.
pub(crate) fn is_ignored(signal: Signal) -> Result<bool, Errno> {
    // SAFETY: a `sigaction` is integers, a mask of integers and an optional function pointer, so all
    // zeros are one.
    let mut found: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: sigaction(2) wants two pointers that are null or valid, for reading and for writing. The
    // first is null, so nothing is installed; the second comes from a reference to a variable that
    // outlives the call.
    let result = unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), &mut found) };
    Errno::result(result)?;
    Ok(found.sa_sigaction == libc::SIG_IGN)
}

/// A moment in the time zone of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalTime {
    pub(crate) year: i32,
    /// 1 to 12.
    pub(crate) month: i32,
    /// 1 to 31.
    pub(crate) day: i32,
    pub(crate) hour: i32,
    pub(crate) minute: i32,
    pub(crate) second: i32,
    /// East of Greenwich, in seconds.
    pub(crate) offset: i64,
}

/// What clocks on the wall show, so many seconds after 1970 began. The zone is read when this is
/// first called. All zeros where the year has too many digits.
pub(crate) fn local_time(seconds: i64) -> LocalTime {
    // SAFETY: a `tm` is integers and a pointer that nobody follows here, so all zeros are one.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: localtime_r(3) wants two pointers, to a time to read and to a `tm` to write. Both come
    // from references to variables that outlive the call. It reads the environment, as `getenv` of
    // the standard library does, and nothing of this program changes that.
    if unsafe { libc::localtime_r(&seconds, &mut tm) }.is_null() {
        return LocalTime::default();
    }
    LocalTime {
        year: tm.tm_year.saturating_add(1900),
        month: tm.tm_mon.saturating_add(1),
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
        offset: tm.tm_gmtoff,
    }
}

/// pidfd_open(2): a descriptor that can be read, as far as poll(2) is concerned, once the process has
/// ended. Close-on-exec.
///
/// # Errors
/// As pidfd_open(2).
pub(crate) fn open_process(process: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two numbers, and so no memory is involved.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    let number = Errno::result(number)?;
    let number = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: `from_raw_fd` wants an open descriptor that nobody else owns. The call above has just
    // made it, and this is the only copy of its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// open_tree(directory, path, OPEN_TREE_CLONE): a mount of its own, attached nowhere, of what `path`
/// leads to, symlinks followed. With an empty path it is `directory` itself, which can be a file.
/// What is mounted below comes along if `recursive`. Linux 5.2.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over the mount namespace. EINVAL for a mount of another namespace, an
/// unbindable one, and if mounts below must not be taken away but are not to come along.
pub(crate) fn clone_mount(
    directory: Option<BorrowedFd<'_>>,
    path: &CStr,
    recursive: bool,
) -> Result<OwnedFd, Errno> {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: open_tree wants a path that ends with a NUL, which a `CStr` does, and writes to no
    // memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            directory.map_or(libc::AT_FDCWD, |directory| directory.as_raw_fd()),
            path.as_ptr(),
            OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH | below,
        )
    };
    let number = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: `from_raw_fd` wants an open descriptor that nobody else owns. The kernel has just
    // made this one for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// move_mount(mount, "", onto, ""): attaches a mount, with all that is mounted below it, above the
/// file behind `onto`; if that has a mount above it already, above the topmost. Linux 5.2.
///
/// # Errors
/// EINVAL if one is a directory and the other is not, or `mount` is not the root of a mount, or it is
/// attached below a shared one.
pub(crate) fn attach_mount(mount: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<(), Errno> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
    const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
    // SAFETY: move_mount wants two paths that end with a NUL: they are literals. It writes to no
    // memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            onto.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// mount_setattr(mount, "", …): changes the attributes of a mount, and of those below it if
/// `recursive`. Linux 5.12.
///
/// # Errors
/// EINVAL if `mount` is not the root of a mount; EPERM if something is to be taken away that the
/// owner of a user namespace further out has locked. Nothing has changed then.
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &libc::mount_attr,
) -> Result<(), Errno> {
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: mount_setattr wants a path that ends with a NUL: it is a literal; and a structure of
    // the size that is given, which it only reads: it comes from a reference, with its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | below,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// recvmsg(socket, MSG_CMSG_CLOEXEC): returns how many bytes came, none at the end, and the
/// descriptor that came with them. For peers that send no more than one; if there are two, the second
/// is closed.
///
/// # Errors
/// As recvmsg(2); ENOBUFS if more came, and then some of them stay open.
pub(crate) fn receive(
    socket: &UnixStream,
    buffer: &mut [u8],
) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut room = cmsg_space!(RawFd);
    let mut buffers = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut room), flags)?;
    let mut descriptor = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: `from_raw_fd` wants an open descriptor that nobody else owns. The kernel
                // has just made this one for us, and each is named once in what it has written.
                let received = unsafe { OwnedFd::from_raw_fd(number) };
                descriptor = descriptor.or(Some(received));
            }
        }
    }
    Ok((message.bytes, descriptor))
}

/// mmap(2) of a page that can be executed.
#[cfg(test)]
pub(crate) fn map_executable() -> Result<(), Errno> {
    let (rights, flags) = (libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: without MAP_FIXED, mmap touches no memory that is in use. Nobody uses the page.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 1, rights, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    Ok(())
}

/// clone3(2) without arguments, which the kernel refuses.
#[cfg(test)]
pub(crate) fn clone3_nothing() -> Result<(), Errno> {
    // SAFETY: clone3 wants a structure of the size that is given. 0 is smaller than any that it takes,
    // so nothing is read and no process made.
    let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0_usize) };
    Errno::result(result).map(drop)
}

/// close(2) of a descriptor that somebody owns, where that is known not to happen.
#[cfg(test)]
pub(crate) fn close_number(number: RawFd) -> Result<(), Errno> {
    // SAFETY: close takes a number. Its owner would be left with one that may become another file's,
    // but this is called by tests alone, which fail if it succeeds, and then use it no more.
    Errno::result(unsafe { libc::close(number) }).map(drop)
}

/// fcntl(2) with a command that takes 0 for an argument.
#[cfg(test)]
pub(crate) fn fcntl_without_argument(file: BorrowedFd<'_>, command: i32) -> Result<(), Errno> {
    // SAFETY: no command takes 0 for a pointer that it would follow: that ends in EFAULT.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), command, 0) }).map(drop)
}

/// ioctl(2): a question that only terminals answer.
#[cfg(test)]
pub(crate) fn ask_device(device: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: a `winsize` is integers, so all zeros are one.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ wants a place for a `winsize`: it comes from a reference.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), libc::TIOCGWINSZ, &mut size) }).map(drop)
}
