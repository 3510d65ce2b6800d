//! Open files.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use flipcall::SharedBytes;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::unistd::fsync;

use super::HostFs;
use super::dirents::Directory;
use super::handle::{Handle, Lasting, stat_again};
use super::options::{CharacterDevices, HostFifo};
use crate::Errno;
use crate::server::{DirentRequest, Donation, FdExclusive, FdShared, OpenFdImpl, OpenFlags, Share};
use crate::wire::{DirentWriter, FileType, Statx};

/// An open file of the host directory.
#[derive(Debug)]
pub struct OpenFd {
    fd: OwnedFd,
    kind: Kind,
    lasting: Option<Lasting>,
    is_donated: bool,
    _share: Share,
}

#[derive(Debug)]
enum Kind {
    Regular,
    Directory(Directory),
    /// A FIFO or a character device, which only its descriptor is good for.
    Stream,
}

impl OpenFd {
    /// The regular file of `handle`, for which `share` was taken.
    pub(super) fn regular(handle: &Handle, fd: OwnedFd, share: Share) -> OpenFd {
        OpenFd {
            fd,
            kind: Kind::Regular,
            lasting: handle.lasting(),
            is_donated: false,
            _share: share,
        }
    }

    /// Gives the client its descriptor in any case: a client that has one of the root opens what is
    /// below by itself, but the root it can only open here.
    pub(super) fn donated(self) -> OpenFd {
        OpenFd {
            is_donated: true,
            ..self
        }
    }
}

impl HostFs {
    /// Opens the file, whatever has become of its name, and if policy permits its type.
    ///
    /// # Errors
    /// EPERM where policy forbids it, and for the kernel's own files; EINVAL for a symlink; ENXIO for
    /// a socket, and at once for a FIFO opened for writing that nobody reads; EAGAIN for a file that
    /// somebody has a lease on, who is asked to give it up; otherwise as open(2).
    pub(super) fn open_file(&self, handle: &Handle, flags: OpenFlags) -> Result<OpenFd, Errno> {
        let policy = &self.options;
        let (kind, extra) = match handle.file_type() {
            FileType::Regular | FileType::Fifo if handle.in_kernel_fs() => {
                return Err(Errno::EPERM);
            }
            // O_NONBLOCK: a client that has taken a lease on what was donated to it must not make
            // this thread wait, which holds locks.
            FileType::Regular => (Kind::Regular, OFlag::O_NONBLOCK),
            FileType::Directory => (Kind::Directory(Directory::default()), OFlag::O_DIRECTORY),
            FileType::Fifo if policy.host_fifo == HostFifo::Open => {
                (Kind::Stream, OFlag::O_NONBLOCK)
            }
            FileType::CharacterDevice if policy.character_devices == CharacterDevices::Open => {
                (Kind::Stream, OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            }
            FileType::Symlink => return Err(Errno::EINVAL),
            FileType::Socket if policy.host_uds.opens() => return Err(Errno::ENXIO),
            _ => return Err(Errno::EPERM),
        };
        let flags = OFlag::from_bits_retain(flags.bits()) | extra;
        let share = handle.reserve()?;
        let fd = handle.with_fd(|fd| self.procfd.reopen(fd, flags))?;
        Ok(OpenFd {
            fd,
            kind,
            lasting: handle.lasting(),
            is_donated: false,
            _share: share,
        })
    }
}

impl OpenFd {
    /// # Errors
    /// EINVAL for an offset above `i64::MAX`; as pread(2).
    pub(super) fn read_at(&self, buffer: SharedBytes<'_>, offset: u64) -> Result<usize, Errno> {
        transfer(buffer, offset, |part, offset| {
            part.pread_from(self.fd.as_fd(), offset)
        })
    }

    /// # Errors
    /// EINVAL for an offset above `i64::MAX`; as pwrite(2).
    pub(super) fn write_at(&self, data: SharedBytes<'_>, offset: u64) -> Result<usize, Errno> {
        transfer(data, offset, |part, offset| {
            part.pwrite_to(self.fd.as_fd(), offset)
        })
    }

    /// # Errors
    /// EOPNOTSUPP for a mode that is not known; EINVAL for numbers that the host cannot take; as
    /// fallocate(2).
    pub(super) fn allocate_at(&self, mode: u64, offset: u64, length: u64) -> Result<(), Errno> {
        let mode = i32::try_from(mode).ok().and_then(FallocateFlags::from_bits);
        let mode = mode.ok_or(Errno::EOPNOTSUPP)?;
        let signed = |number| i64::try_from(number).map_err(|_| Errno::EINVAL);
        Ok(fallocate(&self.fd, mode, signed(offset)?, signed(length)?)?)
    }

    /// # Errors
    /// As [`OpenFdImpl::getdents64`]; ENOTDIR.
    pub(super) fn entries(
        &self,
        host: &HostFs,
        request: DirentRequest,
        entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        match &self.kind {
            Kind::Directory(directory) => {
                directory.read(self.fd.as_fd(), host.kernel, request, entries)
            }
            Kind::Regular | Kind::Stream => Err(Errno::ENOTDIR),
        }
    }
}

impl OpenFdImpl for OpenFd {
    type Server = HostFs;

    fn donation(&self) -> Donation<'_> {
        match self.kind {
            _ if self.is_donated => Donation::Required(self.fd.as_fd()),
            Kind::Regular => Donation::Optional(self.fd.as_fd()),
            Kind::Stream => Donation::Required(self.fd.as_fd()),
            Kind::Directory(_) => Donation::None,
        }
    }

    fn stat(&self, _at: FdShared<'_, HostFs>) -> Result<Statx, Errno> {
        stat_again(self.fd.as_fd(), self.lasting)
    }

    fn sync(&self, _at: FdShared<'_, HostFs>) -> Result<(), Errno> {
        Ok(fsync(&self.fd)?)
    }

    fn write(
        &self,
        _at: FdExclusive<'_, HostFs>,
        data: SharedBytes<'_>,
        offset: u64,
    ) -> Result<usize, Errno> {
        self.write_at(data, offset)
    }

    fn read(
        &self,
        _at: FdShared<'_, HostFs>,
        buffer: SharedBytes<'_>,
        offset: u64,
    ) -> Result<usize, Errno> {
        self.read_at(buffer, offset)
    }

    fn allocate(
        &self,
        _at: FdExclusive<'_, HostFs>,
        mode: u64,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        self.allocate_at(mode, offset, length)
    }

    fn getdents64(
        &self,
        at: FdShared<'_, HostFs>,
        request: DirentRequest,
        entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        self.entries(at.server(), request, entries)
    }
}

/// Moves all of `bytes`, starting at `offset` of the file, `step` by step. Returns how many bytes
/// were moved: fewer than all if a step moves nothing, or fails after some have been moved.
pub(super) fn transfer(
    bytes: SharedBytes<'_>,
    offset: u64,
    mut step: impl FnMut(SharedBytes<'_>, u64) -> nix::Result<usize>,
) -> Result<usize, Errno> {
    if i64::try_from(offset).is_err() {
        return Err(Errno::EINVAL);
    }
    let (mut rest, mut position) = (bytes, offset);
    while !rest.is_empty() {
        match step(rest, position) {
            Ok(0) => break,
            Ok(moved) => {
                let (_, left) = rest.split_at(moved).ok_or(Errno::EIO)?;
                rest = left;
                position = position.saturating_add(u64::try_from(moved).unwrap_or(u64::MAX));
            }
            Err(nix::errno::Errno::EINTR) => {}
            // The client learns of what was moved now and of the error by going on.
            Err(_) if rest.len() < bytes.len() => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(bytes.len() - rest.len())
}
