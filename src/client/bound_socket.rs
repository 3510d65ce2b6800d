//! Unix sockets in the tree.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::control_file::component;
use super::handle::Handle;
use super::{Client, ControlFile, Create, Error, FailureKind};
use crate::wire::{
    AcceptReq, BindAtReq, ConnectReq, ConnectWithCredsReq, FdId, Gid, ListenReq, Mid, Uid,
};

/// A bound socket: a BoundSocketFd of the server, and the socket itself.
///
/// Given up as soon as it is dropped.
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use lisafs::client::Create;
///
/// # let client = lisafs_served::directory()?;
/// let how = Create::mode(0o600);
/// let (file, socket) = client.root().bind("control", how, libc::SOCK_STREAM)?;
/// socket.listen(16)?;
///
/// let mut caller = UnixStream::from(file.connect(libc::SOCK_STREAM)?);
/// let mut callee = UnixStream::from(socket.accept()?);
/// caller.write_all(b"hi")?;
/// let mut said = [0; 2];
/// callee.read_exact(&mut said)?;
/// assert_eq!(&said, b"hi");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BoundSocket {
    handle: Handle,
    socket: OwnedFd,
}

impl BoundSocket {
    /// Takes over an id that the server has just made; gives it up again if there is no socket.
    pub(super) fn adopt(
        client: &Client,
        id: FdId,
        socket: Option<OwnedFd>,
    ) -> Result<BoundSocket, Error> {
        if id == FdId::INVALID {
            return Err(Error::malformed());
        }
        let handle = Handle::at_once(client, id);
        Ok(BoundSocket {
            handle,
            socket: socket.ok_or_else(missing)?,
        })
    }

    /// The server's id for it.
    #[must_use]
    pub fn id(&self) -> FdId {
        self.handle.id()
    }

    /// listen(2).
    ///
    /// # Errors
    /// The server's.
    pub fn listen(&self, backlog: i32) -> Result<(), Error> {
        let fd = self.handle.id();
        self.handle
            .client()
            .lease()
            .call(&ListenReq { fd, backlog })
    }

    /// accept(2): takes a pending connection. Never waits; the new socket is non-blocking too.
    ///
    /// # Errors
    /// EAGAIN if none is pending, EINVAL before [`listen`](Self::listen); what else the server
    /// says; EBADF when it does not send the connection.
    pub fn accept(&self) -> Result<OwnedFd, Error> {
        let mut lease = self.handle.client().lease();
        lease.call(&AcceptReq {
            fd: self.handle.id(),
        })?;
        lease.take_fd().ok_or_else(missing)
    }
}

/// The socket. It is the server's too: both see its flags.
impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Unix sockets.
impl ControlFile {
    /// connect(2) to this socket; `sock_type` is SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
    ///
    /// # Errors
    /// The server's, ENOTSOCK or EPROTOTYPE among them; EBADF when it does not send the socket.
    pub fn connect(&self, sock_type: i32) -> Result<OwnedFd, Error> {
        let mut lease = self.client().lease();
        lease.call(&ConnectReq {
            fd: self.id(),
            sock_type: sock_type.cast_unsigned(),
        })?;
        lease.take_fd().ok_or_else(missing)
    }

    /// [`connect`](Self::connect) as `uid` and `gid`, which is who the peer sees.
    ///
    /// A server that cannot do that, and an id that is none, make it a plain connect, as gVisor's
    /// client has it.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_as(&self, sock_type: i32, uid: Uid, gid: Gid) -> Result<OwnedFd, Error> {
        if !self.client().supports(Mid::CONNECT_WITH_CREDS)
            || uid.some().is_none()
            || gid.some().is_none()
        {
            return self.connect(sock_type);
        }
        let mut lease = self.client().lease();
        lease.call(&ConnectWithCredsReq {
            fd: self.id(),
            sock_type: sock_type.cast_unsigned(),
            uid,
            gid,
        })?;
        lease.take_fd().ok_or_else(missing)
    }

    /// socket(2) and bind(2): makes a socket called `name` in this directory.
    ///
    /// # Errors
    /// The server's; EBADF when it does not send the socket.
    pub fn bind(
        &self,
        name: impl AsRef<OsStr>,
        how: Create,
        sock_type: i32,
    ) -> Result<(ControlFile, BoundSocket), Error> {
        let request = BindAtReq {
            create: how.at(self)?,
            sock_type: sock_type.cast_unsigned(),
            name: component(name.as_ref())?,
        };
        let mut lease = self.client().lease();
        let bound = lease.call(&request)?;
        let socket = lease.take_fd();
        drop(lease);
        let child = ControlFile::adopt(self.client(), &bound.child);
        let socket = BoundSocket::adopt(self.client(), bound.bound_socket_fd, socket)?;
        Ok((child.checked()?, socket))
    }
}

/// The error for a reply without the descriptor that it is about.
fn missing() -> Error {
    Error::failed(FailureKind::MissingDescriptor)
}
