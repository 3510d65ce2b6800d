#![forbid(unsafe_code)]
//! Packet windows: sealed shared memory, made by the server and checked by the client.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::{SysconfVar, ftruncate, sysconf};

use crate::error::{Error, ErrorKind};
use crate::mapping::{HEADER_LEN, Mapping};

/// Takes the execute bits off a memfd for good, Linux 6.3.
const MFD_NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(8);

/// Where in its file a packet window lies. Travels next to the file's descriptor.
///
/// ```
/// use flipcall::{ErrorKind, PacketWindow, WindowDescriptor};
///
/// let window = PacketWindow::create(4000)?;
/// let beyond = WindowDescriptor { offset: 4096, ..window.descriptor() };
/// let refused = PacketWindow::from_peer(window.try_clone_fd()?, beyond);
/// assert_eq!(refused.map(drop).map_err(|why| why.kind()), Err(ErrorKind::Window));
/// # Ok::<(), flipcall::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowDescriptor {
    /// Offset of the first byte, a multiple of the page size.
    pub offset: u64,
    /// Length in bytes, header included: at least a page, at most `u32::MAX`.
    pub length: u64,
}

/// A packet window, mapped into this process and ready to become an endpoint.
///
/// The server makes one with [`create`](Self::create) and sends the client a duplicate of the
/// descriptor, the client maps it with [`from_peer`](Self::from_peer).
///
/// ```
/// use flipcall::PacketWindow;
///
/// let window = PacketWindow::create(5000)?;
/// // Header and data fill whole pages.
/// assert_eq!(window.descriptor().length, 8192);
/// assert_eq!(window.capacity(), 8192 - 16);
/// // In the other process:
/// let (fd, descriptor) = (window.try_clone_fd()?, window.descriptor());
/// let theirs = PacketWindow::from_peer(fd, descriptor)?;
/// assert_eq!(theirs.capacity(), window.capacity());
/// # Ok::<(), flipcall::Error>(())
/// ```
#[derive(Debug)]
pub struct PacketWindow {
    fd: OwnedFd,
    descriptor: WindowDescriptor,
    mapping: Mapping,
}

impl PacketWindow {
    /// Makes a zeroed window with room for datagrams of at least `data_capacity` bytes, in a memfd
    /// of its own.
    ///
    /// The file is sealed at its size. It cannot shrink, which would turn our next access into
    /// SIGBUS, nor grow, which would let the client allocate memory in our name. It is not sealed
    /// against writing, and cannot be: its memory can be given back, see [`Closer::discard`].
    ///
    /// [`Closer::discard`]: crate::Closer::discard
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the window would exceed `u32::MAX` bytes, [`ErrorKind::Io`]
    /// with the errno of memfd_create(2), ftruncate(2), fcntl(2) or mmap(2).
    pub fn create(data_capacity: usize) -> Result<PacketWindow, Error> {
        let length = window_length(data_capacity, page_size()?)?;
        let fd = memory(|flags| memfd_create(c"flipcall_packet_window", flags))
            .map_err(Error::os("cannot create the packet window"))?;
        ftruncate(&fd, i64::from(length)).map_err(Error::os("cannot size the packet window"))?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))
            .map_err(Error::os("cannot seal the packet window"))?;
        let descriptor = WindowDescriptor {
            offset: 0,
            length: u64::from(length),
        };
        let mapping = Mapping::new(fd.as_fd(), descriptor)?;
        Ok(PacketWindow {
            fd,
            descriptor,
            mapping,
        })
    }

    /// Maps a window that the peer made, after checking that using it can never fault.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Window`] if the file can still shrink, is too short, or if offset or length are
    /// out of range; [`ErrorKind::Io`] with the errno of fcntl(2) (EINVAL: not a memfd), fstat(2)
    /// or mmap(2).
    pub fn from_peer(fd: OwnedFd, descriptor: WindowDescriptor) -> Result<PacketWindow, Error> {
        let page = page_size()?;
        let WindowDescriptor { offset, length } = descriptor;
        if !offset.is_multiple_of(u64::from(page)) {
            return Err(Error::about(
                ErrorKind::Window,
                "window offset is not aligned",
                offset,
            ));
        }
        if length < u64::from(page) || length > u64::from(u32::MAX) {
            return Err(Error::about(
                ErrorKind::Window,
                "window length is out of range",
                length,
            ));
        }
        let end = offset
            .checked_add(length)
            .ok_or_else(|| Error::about(ErrorKind::Window, "window offset is too large", offset))?;
        // First the seal, then the size: the other way round the file could shrink in between.
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS)
            .map_err(Error::os("cannot read the seals of the packet window"))?;
        if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(Error::new(
                ErrorKind::Window,
                "window is not sealed against shrinking",
            ));
        }
        let size = fstat(&fd)
            .map_err(Error::os("cannot stat the packet window"))?
            .st_size;
        if u64::try_from(size).is_ok_and(|size| size >= end) {
            let mapping = Mapping::new(fd.as_fd(), descriptor)?;
            Ok(PacketWindow {
                fd,
                descriptor,
                mapping,
            })
        } else {
            Err(Error::about(
                ErrorKind::Window,
                "window lies outside its file, ending at",
                end,
            ))
        }
    }

    /// Offset and length, to be sent along with the descriptor.
    pub fn descriptor(&self) -> WindowDescriptor {
        self.descriptor
    }

    /// A duplicate of the descriptor, close-on-exec, for sending after the window has become an
    /// endpoint (which keeps the mapping and closes the descriptor).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] with the errno of fcntl(F_DUPFD_CLOEXEC).
    pub fn try_clone_fd(&self) -> Result<OwnedFd, Error> {
        self.fd
            .try_clone()
            .map_err(Error::io("cannot duplicate the packet window's descriptor"))
    }

    /// The longest datagram that fits, in bytes.
    pub fn capacity(&self) -> usize {
        self.mapping.datagram().len()
    }

    pub(crate) fn into_mapping(self) -> Mapping {
        self.mapping
    }
}

impl AsFd for PacketWindow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes a file that can be sealed and, where the kernel can say so, never executed: a host may make
/// no other (`vm.memfd_noexec=2`).
fn memory(create: impl Fn(MFdFlags) -> nix::Result<OwnedFd>) -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match create(flags | MFD_NOEXEC_SEAL) {
        Err(Errno::EINVAL) => create(flags),
        made => made,
    }
}

/// Header and `data_capacity`, in whole pages.
fn window_length(data_capacity: usize, page: u32) -> Result<u32, Error> {
    data_capacity
        .checked_add(HEADER_LEN)
        .and_then(|length| u32::try_from(length).ok())
        .and_then(|length| length.checked_next_multiple_of(page))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "datagrams too long for a packet window",
            )
        })
}

pub(crate) fn page_size() -> Result<u32, Error> {
    let size = sysconf(SysconfVar::PAGE_SIZE).map_err(Error::os("cannot ask for the page size"))?;
    size.and_then(|size| u32::try_from(size).ok())
        .ok_or_else(|| Error::os("no usable page size")(Errno::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_message_size_makes_a_window_of_two_mebibytes() {
        assert_eq!(window_length(4 + 2_093_056, 4096).unwrap(), 2 << 20);
        assert_eq!(window_length(0, 4096).unwrap(), 4096);
        assert_eq!(window_length(4096 - 16, 4096).unwrap(), 4096);
        assert_eq!(window_length(4096 - 15, 4096).unwrap(), 8192);
    }

    #[test]
    fn the_memory_of_a_window_is_not_executable_where_the_kernel_knows_that() {
        let make = |flags| memfd_create(c"test", flags);
        let known = make(MFD_NOEXEC_SEAL).is_ok();
        let window = PacketWindow::create(0).unwrap();
        let executable = fstat(&window).unwrap().st_mode & 0o111 != 0;
        assert_eq!(executable, !known);

        let older = |flags: MFdFlags| match flags.contains(MFD_NOEXEC_SEAL) {
            true => Err(Errno::EINVAL),
            false => make(flags),
        };
        let seals = fcntl(memory(older).unwrap(), FcntlArg::F_GET_SEALS).unwrap();
        assert_eq!(seals, 0, "it can be sealed");
        let refused = memory(|_| Err(Errno::EMFILE)).map(drop);
        assert_eq!(refused, Err(Errno::EMFILE));
    }

    #[test]
    fn a_window_longer_than_its_length_field_is_refused() {
        for capacity in [usize::MAX, usize::MAX - 15, 1 << 32, (1 << 32) - 17] {
            let error = window_length(capacity, 4096).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}
