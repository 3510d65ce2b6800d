//! Unix sockets in the directory. None of these operations waits for a peer.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::NixPath;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, setsockopt, socket,
};
use nix::sys::stat::fchmod;
use nix::sys::time::TimeVal;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::attributes::permissions;
use super::create::Fresh;
use super::creds::Assumed;
use super::handle::{Handle, open_path, stat_name};
use super::procfd::FdPath;
use super::{HostFs, sys};
use crate::Errno;
use crate::server::{BoundSocketFdImpl, Creation, FdShared, RenameFlags, Share, Shared};
use crate::wire::{FileType, Gid, Name, Statx, Uid};

/// Any type, in the order in which they are likely.
const ANY_TYPE: [SockType; 3] = [SockType::Stream, SockType::SeqPacket, SockType::Datagram];

/// The longest file name on Linux, in bytes (NAME_MAX).
const LONGEST_NAME: usize = 255;

impl HostFs {
    /// Connects to the socket; `sock_type` 0 stands for whichever type it has.
    ///
    /// # Errors
    /// EPERM where policy forbids it; ENXIO for another type; ENOTSOCK; EPROTOTYPE if the socket is
    /// of another type; EAGAIN if its backlog is full; otherwise as connect(2).
    pub(super) fn connect(&self, peer: &Handle, sock_type: u32) -> Result<OwnedFd, Errno> {
        let types = self.connectable(peer, sock_type)?;
        dial(peer, &types)
    }

    /// As [`connect`](Self::connect), under another identity.
    ///
    /// # Errors
    /// As `connect`; EPERM if identities cannot be taken on, EINVAL for none.
    pub(super) fn connect_with_creds(
        &self,
        peer: &Handle,
        sock_type: u32,
        uid: Uid,
        gid: Gid,
    ) -> Result<OwnedFd, Errno> {
        let types = self.connectable(peer, sock_type)?;
        if !self.takes_identities {
            return Err(Errno::EPERM);
        }
        let _identity = Assumed::new(uid, gid)?;
        dial(peer, &types)
    }

    fn connectable(&self, peer: &Handle, sock_type: u32) -> Result<Vec<SockType>, Errno> {
        if !self.options.host_uds.opens() {
            return Err(Errno::EPERM);
        }
        if peer.file_type() != FileType::Socket {
            return Err(Errno::ENOTSOCK);
        }
        match sock_type {
            0 => Ok(ANY_TYPE.to_vec()),
            other => Ok(vec![socket_type(other)?]),
        }
    }

    /// Makes a socket and binds it to `name`. The position in the tree is the socket's file; the socket
    /// belongs to the [`BoundSocketFd`] alone.
    ///
    /// # Errors
    /// EPERM where policy forbids it; ENXIO for another type; EADDRINUSE if the name exists;
    /// otherwise as bind(2).
    pub(super) fn bind_at(
        &self,
        parent: &Handle,
        name: Name<'_>,
        creation: Creation,
        sock_type: u32,
    ) -> Result<(Handle, Statx, BoundSocketFd), Errno> {
        if !self.options.host_uds.creates() {
            return Err(Errno::EPERM);
        }
        let sock_type = socket_type(sock_type)?;
        parent.may_change()?;
        let (share, socket_share) = (parent.reserve()?, parent.reserve()?);
        let socket = new_socket(sock_type)?;
        // The file gets the mode of the socket's own inode.
        fchmod(&socket, permissions(creation.permissions))?;
        parent.with_fd(|directory| {
            bind_name(&socket, directory, name)?;
            let fresh = Fresh::new(directory, name, FileType::Socket);
            let path = open_path(directory, name, OFlag::empty())?;
            let (handle, stat) = self.settle(fresh, parent, (path, share), creation)?;
            let bound = BoundSocketFd {
                socket,
                _share: socket_share,
            };
            Ok((handle, stat, bound))
        })
    }
}

/// What the wait of an accept is cut down to, should there be one. Zero would mean for ever.
const SHORTEST_WAIT: TimeVal = TimeVal::new(0, 1);

/// A Unix socket bound to a name in the directory.
#[derive(Debug)]
pub struct BoundSocketFd {
    socket: OwnedFd,
    _share: Share,
}

impl BoundSocketFd {
    /// # Errors
    /// As listen(2).
    pub(super) fn start_listening(&self, backlog: i32) -> Result<(), Errno> {
        // As the kernel, which takes a negative number for a large one and cuts large ones down.
        let backlog = Backlog::new(backlog).unwrap_or(Backlog::MAXALLOWABLE);
        listen(&self.socket, backlog)?;
        // Not before: the client may connect the socket instead and wait for data on it, and the
        // timeout is part of what both have. A socket that listens receives nothing.
        Ok(setsockopt(&self.socket, ReceiveTimeout, &SHORTEST_WAIT)?)
    }

    /// # Errors
    /// EAGAIN if nobody waits; EINVAL if the socket does not listen; otherwise as accept(2).
    pub(super) fn accept_one(&self) -> Result<OwnedFd, Errno> {
        // The client has the same open description and may have made it blocking. If it does so
        // again between these two calls, the accept waits as long as the receive timeout says; if it
        // has changed that too, or called listen itself, it holds up its own channel, to the end of its
        // connection.
        fcntl(&self.socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(sys::accept(self.socket.as_fd())?)
    }
}

impl BoundSocketFdImpl for BoundSocketFd {
    type Server = HostFs;

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn listen(&self, _at: Shared<'_, HostFs>, backlog: i32) -> Result<(), Errno> {
        self.start_listening(backlog)
    }

    /// The peer's address is hidden: it may be a path of the host.
    fn accept(&self, _at: FdShared<'_, HostFs>) -> Result<(OwnedFd, Vec<u8>), Errno> {
        Ok((self.accept_one()?, Vec::new()))
    }
}

fn socket_type(number: u32) -> Result<SockType, Errno> {
    match number.cast_signed() {
        libc::SOCK_STREAM => Ok(SockType::Stream),
        libc::SOCK_DGRAM => Ok(SockType::Datagram),
        libc::SOCK_SEQPACKET => Ok(SockType::SeqPacket),
        _ => Err(Errno::ENXIO),
    }
}

/// A socket that does not block: connect(2) then answers EAGAIN where it would wait.
fn new_socket(sock_type: SockType) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Unix, sock_type, flags, None)?)
}

/// Connects to `peer` with the first of `types` that it is of.
fn dial(peer: &Handle, types: &[SockType]) -> Result<OwnedFd, Errno> {
    peer.with_fd(|fd| {
        let path = FdPath::in_working_directory(fd)?;
        let address = UnixAddr::new(path.as_c_str())?;
        let mut refusal = Errno::EPROTOTYPE;
        for sock_type in types {
            let socket = new_socket(*sock_type)?;
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => return Ok(socket),
                Err(errno) => refusal = errno.into(),
            }
            if refusal != Errno::EPROTOTYPE {
                break;
            }
        }
        Err(refusal)
    })
}

/// Binds `socket` to `name` in `directory`.
fn bind_name(socket: &OwnedFd, directory: BorrowedFd<'_>, name: Name<'_>) -> Result<(), Errno> {
    match bind_short(socket, directory, name) {
        // The path is too long for an address, which may still be a name.
        Err(Errno::ENAMETOOLONG) if name.as_bytes().len() <= LONGEST_NAME => {}
        bound => return bound,
    }
    // Before anything is made: to remove that again can fail.
    match stat_name(directory, name) {
        Err(Errno::ENOENT) => {}
        found => return Err(found.err().unwrap_or(Errno::EADDRINUSE)),
    }
    let interim = bind_interim(socket, directory)?;
    let renamed = interim.as_bytes().with_nix_path(|old| {
        name.as_bytes().with_nix_path(|new| {
            sys::renameat2(
                directory,
                old,
                directory,
                new,
                RenameFlags::NOREPLACE.bits(),
            )
        })
    });
    renamed.and_then(|renamed| renamed?).map_err(|errno| {
        // Nobody was told of the interim name. What cannot be done about it is not worth more than
        // the first error.
        let _ = unlinkat(directory, interim.as_bytes(), UnlinkatFlags::NoRemoveDir);
        match errno {
            nix::errno::Errno::EEXIST => Errno::EADDRINUSE,
            errno => errno.into(),
        }
    })
}

/// Binds `socket` to a short name that is free, and returns the name.
fn bind_interim(socket: &OwnedFd, directory: BorrowedFd<'_>) -> Result<String, Errno> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".lisafs-{}-{number}", std::process::id());
        match bind_short(socket, directory, Name::new(name.as_bytes())?) {
            // Left by an earlier process of this number; the next number is free or the one after.
            Err(Errno::EADDRINUSE) => {}
            bound => return bound.map(|()| name),
        }
    }
}

/// Binds `socket` to `name` in `directory`, by the path "number of the directory/name".
///
/// # Errors
/// ENAMETOOLONG if the path does not fit into an address; otherwise as bind(2).
fn bind_short(socket: &OwnedFd, directory: BorrowedFd<'_>, name: Name<'_>) -> Result<(), Errno> {
    let directory = FdPath::in_working_directory(directory)?;
    let path = [directory.as_c_str().to_bytes(), b"/", name.as_bytes()].concat();
    Ok(bind(socket.as_raw_fd(), &UnixAddr::new(&path[..])?)?)
}
