//! The messages about sockets, and who is at the other end of one.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use lisafs::client::Error;
use lisafs::wire::{
    AcceptReq, BindAtReq, ConnectReq, ConnectWithCredsReq, FdId, Gid, ListenReq, Uid,
};
use nix::sys::socket::{getsockopt, sockopt};

use super::seat::Seat;
use super::step::{CLOSED, Choice, Kind, Step};

impl Seat {
    pub(super) fn ask_about_sockets(&mut self, step: &Step) -> Result<String, Error> {
        match *step {
            Step::Bind(dir, name, sock_type, mode) => {
                let request = BindAtReq {
                    create: self.create(dir, mode),
                    sock_type,
                    name: name.as_bytes(),
                };
                let reply = self.call(&request)?;
                self.bounds.push(reply.bound_socket_fd);
                self.sockets.push(reply.child.control_fd);
                let fds = self.line().take_fds();
                let seen = format!("{} {}", self.described(&reply.child.stat), fds.len());
                self.donated.extend(fds);
                Ok(seen)
            }
            Step::Listen(fd, backlog) => {
                let fd = self.id(Kind::Bound, fd);
                self.call(&ListenReq { fd, backlog })?;
                Ok(String::new())
            }
            Step::Accept(fd) => {
                let fd = self.id(Kind::Bound, fd);
                let peer = self.call(&AcceptReq { fd })?.peer_addr.to_vec();
                let fds = self.line().take_fds();
                let peers: Vec<_> = fds.into_iter().map(other_end).collect();
                Ok(format!("{peer:?} {peers:?}"))
            }
            Step::Connect(fd, sock_type) => {
                let fd = self.connectable(fd);
                self.call(&ConnectReq { fd, sock_type })?;
                Ok(self.connected())
            }
            Step::ConnectAs(fd, sock_type, uid, gid) => {
                let request = ConnectWithCredsReq {
                    fd: self.connectable(fd),
                    sock_type,
                    uid: Uid(uid),
                    gid: Gid(gid),
                };
                self.call(&request)?;
                Ok(self.connected())
            }
            _ => unreachable!("{step:?} is for others to ask"),
        }
    }

    /// Mostly a socket of this connection's, else any file.
    fn connectable(&self, choice: Choice) -> FdId {
        match self.sockets.len() {
            len if len > 0 && choice < CLOSED && choice % 4 != 3 => {
                self.sockets[usize::from(choice) % len]
            }
            _ => self.control(choice),
        }
    }

    /// Sends the number of the connection along, for whoever accepts it.
    fn connected(&mut self) -> String {
        let number = self.table.connections.get();
        self.table.connections.set(number.wrapping_add(1));
        let fds = self.line().take_fds();
        let streams: Vec<_> = fds.into_iter().map(UnixStream::from).collect();
        let send = |mut stream: &UnixStream| {
            stream.set_nonblocking(true)?;
            stream.write(&[number])
        };
        let sent: Vec<_> = streams.iter().map(|stream| said(send(stream))).collect();
        self.donated.extend(streams.into_iter().map(OwnedFd::from));
        format!("{sent:?}")
    }
}

/// What the peer has said, and who it was.
fn other_end(socket: OwnedFd) -> String {
    let creds = getsockopt(&socket, sockopt::PeerCredentials);
    let creds = creds.map(|creds| (creds.uid(), creds.gid()));
    let mut stream = UnixStream::from(socket);
    let mut read = || {
        let mut numbers = [0; 8];
        stream.set_nonblocking(true)?;
        let length = stream.read(&mut numbers)?;
        Ok(numbers[..length].to_vec())
    };
    format!("{} from {creds:?}", said(read()))
}

fn said<T: std::fmt::Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind()),
    }
}
