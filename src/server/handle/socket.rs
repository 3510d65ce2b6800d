//! Connect, ConnectWithCreds, BindAt, Listen and Accept: Unix sockets in the tree.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::create::creation;
use crate::Errno;
use crate::observe::rarely;
use crate::server::backend::{BoundSocketFdImpl, ControlFdImpl, ServerImpl};
use crate::server::call::{Answer, Call, Gift};
use crate::server::connection::Connection;
use crate::server::dispatch::Serve;
use crate::server::fd::{BoundSocketFd, ControlFd};
use crate::server::fd_locks::FdShared;
use crate::server::fds::Fd;
use crate::wire::{
    AcceptReq, AcceptResp, BindAtReq, BindAtResp, ConnectReq, ConnectWithCredsReq, FdId, FileType,
    Inode, ListenReq, Name,
};

/// Runs `connect` on the socket `id`.
fn connect<S: ServerImpl>(
    call: &Call<'_, S>,
    id: FdId,
    connect: impl FnOnce(&S::ControlFd, FdShared<'_, S>) -> Result<OwnedFd, Errno>,
) -> Result<Gift<S>, Errno> {
    let fd = call.control(id)?;
    if fd.file_type() != FileType::Socket {
        return Err(Errno::ENOTSOCK);
    }
    let socket = call.fd_shared(fd.node(), |at| {
        fd.node().live()?;
        connect(fd.file(), at)
    })?;
    Ok(Gift::Required(vec![socket]))
}

impl Serve for ConnectReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let socket = connect(call, self.fd, |file, at| file.connect(at, self.sock_type))?;
        Ok(call.reply::<Self>(&())?.donating(socket))
    }
}

impl Serve for ConnectWithCredsReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let socket = connect(call, self.fd, |file, at| {
            file.connect_with_creds(at, self.sock_type, self.uid, self.gid)
        })?;
        Ok(call.reply::<Self>(&())?.donating(socket))
    }
}

impl Serve for BindAtReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let connection = call.connection;
        let name = Name::new(self.name)?;
        let directory = call.control(self.create.dir_fd)?;
        directory.directory()?;
        let mut pending = connection.fds().pending();
        let (child_id, child_share) = pending.reserve()?;
        let (bound_id, bound_share) = pending.reserve()?;
        let (child, stat, socket) = call.exclusive(directory.node(), |at| {
            directory.node().live()?;
            let create = creation(&self.create);
            let made = directory.file().bind_at(at, name, create, self.sock_type)?;
            let (child, stat, socket) = made;
            let child = directory.child(name, child, &stat, child_share);
            Ok((child, stat, socket))
        })?;
        let bound = BoundSocketFd::new(socket, Arc::clone(&child), bound_share);
        pending.fill(child_id, Fd::Control(Arc::clone(&child)));
        pending.fill(bound_id, Fd::Bound(Arc::clone(&bound)));
        let answer = call.reply::<Self>(&BindAtResp {
            child: Inode {
                control_fd: child_id,
                stat,
            },
            bound_socket_fd: bound_id,
        })?;
        let name: Box<[u8]> = self.name.into();
        Ok(answer
            .publishing(pending)
            .donating(Gift::Bound(bound))
            .or_undo(move || unbind(connection, &directory, &child, &name)))
    }
}

/// Removes a socket that its client could not be given: a failed request leaves nothing behind.
fn unbind<S: ServerImpl>(
    connection: &Connection<S>,
    directory: &ControlFd<S>,
    child: &ControlFd<S>,
    name: &[u8],
) {
    let Ok(name) = Name::new(name) else { return };
    let (server, mut stable) = (connection.backend(), connection.locks().stable());
    let unbound = stable.write_entry(server, directory.node(), name, |at| {
        // The locks were released in between: another request may have moved the socket.
        let still_there = directory.node().existing_child(name);
        if still_there.is_some_and(|node| Arc::ptr_eq(&node, child.node())) {
            directory.file().unlink(at, name, false)?;
            directory.node().unlinked(name);
        }
        Ok(())
    });
    if let Err(errno) = unbound {
        rarely!(warn, ?name, %errno, "a socket that its client was not given stays");
    }
}

impl Serve for ListenReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.bound(self.fd)?;
        let node = fd.control().node();
        call.shared(node, |at| {
            node.live()?;
            fd.socket().listen(at, self.backlog)
        })?;
        call.reply::<Self>(&())
    }
}

impl Serve for AcceptReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.bound(self.fd)?;
        let node = fd.control().node();
        let accepting = call.connection.accepting();
        let (socket, peer_addr) = call.fd_shared(node, |at| {
            node.live()?;
            accepting.run(&fd, || fd.socket().accept(at))
        })?;
        let answer = call.reply::<Self>(&AcceptResp {
            peer_addr: &peer_addr,
        })?;
        Ok(answer.donating(Gift::Required(vec![socket])))
    }
}
