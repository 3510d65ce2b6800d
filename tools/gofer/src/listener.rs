//! The socket on which clients connect: one that this process makes, or one that is passed to it.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use flipcall::refuse_descriptors;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

use crate::failure::{Failure, cannot_see};
use crate::keeper::Keeper;
use crate::socket_name::SocketName;
use crate::turn::Turn;

/// A listening socket. One that was made here takes its name along when it goes.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    name: Option<OwnName>,
}

/// The name of a socket that was made here. Removed when this is dropped.
#[derive(Debug)]
struct OwnName {
    name: SocketName,
    /// Who removes it instead, if this process is not going to reach it.
    keeper: Option<Keeper>,
}

impl Listener {
    /// Makes a socket at `path` that only this user can connect to, in place of one that nobody
    /// listens on.
    ///
    /// The umask has to be 0 by then.
    pub(crate) fn bind(path: &Path) -> Result<Listener, Failure> {
        let failed = |source: Errno| Failure::Listen {
            path: path.to_owned(),
            source: source.into(),
        };
        let address = UnixAddr::new(path).map_err(|_| Failure::LongPath {
            path: path.to_owned(),
        })?;
        let socket = new_socket().map_err(failed)?;
        // Until it listens: what has a name and does not answer looks as if it were left behind.
        let _turn = Turn::take(path);
        match bind(socket.as_raw_fd(), &address) {
            Err(Errno::EADDRINUSE) => {
                remove_stale(path, &address)?;
                bind(socket.as_raw_fd(), &address).map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
        let name = SocketName::of(path);
        refuse_descriptors(socket.as_fd()).map_err(failed)?;
        // From here on an error has to remove the name again, which the drop does.
        let listener = Listener {
            socket: UnixListener::from(socket),
            name: Some(OwnName { name, keeper: None }),
        };
        listen(&listener.socket, Backlog::MAXCONN).map_err(failed)?;
        Ok(listener)
    }

    /// Accepts on a socket that others may accept on as well, and whose name is theirs. Who has connected
    /// by now may have sent descriptors.
    pub(crate) fn adopt(socket: UnixListener) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        refuse_descriptors(socket.as_fd())?;
        Ok(Listener { socket, name: None })
    }

    /// Whether this was made here, and `path` leads to it.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.name.as_ref().is_some_and(|own| own.name.is_at(path))
    }

    /// Has another process remove the name, since this one is about to lose sight of it. To be called
    /// while there is one thread.
    ///
    /// # Errors
    /// If there can be no other process.
    pub(crate) fn entrust_name(&mut self) -> Result<(), Failure> {
        if let Some(own) = &mut self.name {
            let keeper = Keeper::start(&own.name);
            own.keeper = Some(keeper.map_err(cannot_see(
                "cannot start the process that removes the socket in the end",
            ))?);
        }
        Ok(())
    }

    /// Removes the name, and returns what is to be closed: that can hang, for what clients have sent who
    /// were not accepted.
    pub(crate) fn into_socket(self) -> OwnedFd {
        let Listener { socket, name } = self;
        drop(name);
        socket.into()
    }

    /// Takes a connection; `None` if it was given up meanwhile, or somebody else has taken it.
    pub(crate) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.socket.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(why)
                if matches!(
                    why.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for OwnName {
    fn drop(&mut self) {
        match self.keeper.take() {
            Some(keeper) => drop(keeper),
            None => self.name.remove(),
        }
    }
}

/// A socket whose name will have mode 0600 from the moment it exists: bind(2) takes the mode of
/// the nameless inode, less the umask.
fn new_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(socket)
}

/// Removes the socket at `path` that a server has left behind. To be called in one's turn.
fn remove_stale(path: &Path, address: &UnixAddr) -> Result<(), Failure> {
    let failed = |why: io::Error| Failure::Listen {
        path: path.to_owned(),
        source: why.into(),
    };
    // connect(2) refuses what is no socket in the same way as a socket that nobody listens on.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Failure::NotASocket {
                path: path.to_owned(),
            });
        }
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    let client = new_socket().map_err(|why| failed(why.into()))?;
    match connect(client.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(failed),
        Err(Errno::ENOENT) => Ok(()),
        // It does not block, so a server that has too much to do says so; one of another type is alive
        // as well.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(Failure::Live {
            path: path.to_owned(),
        }),
        // Nobody has said that it can go.
        Err(why) => Err(failed(why.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use std::time::Instant;

    use flipcall::{FrameSocket, SendError, SharedBytes};

    use super::*;
    use crate::turn::PATIENCE;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn the_socket_is_for_its_owner_only_and_goes_with_the_listener() {
        let dir = dir();
        let path = dir.path().join("s");
        let listener = Listener::bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        // The umask of a test is not 0, but takes nothing from the owner as a rule.
        assert_eq!(mode & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(listener.accept().unwrap().is_some());
        assert!(listener.accept().unwrap().is_none());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn descriptors_are_refused_before_a_client_is_accepted() {
        fn send(client: UnixStream) -> Result<(), SendError> {
            let client = FrameSocket::from(client);
            client.send(0, SharedBytes::from(&mut [][..]), &[io::stdin().as_fd()])
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        refuse_descriptors(ours.as_fd()).unwrap();
        // Before Linux 6.16 they arrive.
        let can_refuse = send(theirs).is_err();
        let dir = dir();
        for (name, adopted) in [("bound", false), ("adopted", true)] {
            let path = dir.path().join(name);
            let listener = if adopted {
                Listener::adopt(UnixListener::bind(&path).unwrap()).unwrap()
            } else {
                Listener::bind(&path).unwrap()
            };
            let sent = send(UnixStream::connect(&path).unwrap());
            assert_eq!(sent.is_err(), can_refuse, "{name}: {sent:?}");
            assert!(listener.accept().unwrap().is_some());
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = dir();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(Failure::Live { .. })));
        UnixStream::connect(&path).unwrap();
        drop(listener);
    }

    /// Between bind(2) and listen(2), a socket looks as if it were left behind.
    #[test]
    fn a_server_that_is_about_to_listen_keeps_its_name() {
        let dir = dir();
        let path = dir.path().join("s");
        let start = Instant::now();
        let turn = Turn::take(&path);
        let starting = new_socket().unwrap();
        bind(starting.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        let (bound, was_in_time) = std::thread::scope(|scope| {
            let other = scope.spawn(|| Listener::bind(&path));
            // Long enough for whoever does not wait, and not what others wait for at most.
            std::thread::sleep(std::time::Duration::from_millis(100));
            listen(&starting, Backlog::MAXCONN).unwrap();
            let was_in_time = start.elapsed() < PATIENCE;
            drop(turn);
            (other.join().unwrap(), was_in_time)
        });
        // If this was not scheduled for as long as others wait, the name is the other's.
        let is_as_expected = matches!(bound, Err(Failure::Live { .. })) || !was_in_time;
        assert!(is_as_expected, "{bound:?}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_directory_that_stays_locked_is_no_obstacle() {
        let dir = dir();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let _held = Turn::take(&path);
        let listener = Listener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(Failure::Live { .. })));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_server_that_has_too_much_to_do_is_not_waited_for() {
        let dir = dir();
        let path = dir.path().join("s");
        let address = UnixAddr::new(&path).unwrap();
        let busy = new_socket().unwrap();
        bind(busy.as_raw_fd(), &address).unwrap();
        listen(&busy, Backlog::new(0).unwrap()).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = new_socket().unwrap();
            match connect(client.as_raw_fd(), &address) {
                Ok(()) => waiting.push(client),
                Err(why) => {
                    assert_eq!(why, Errno::EAGAIN);
                    break;
                }
            }
        }
        assert!(matches!(Listener::bind(&path), Err(Failure::Live { .. })));
    }

    #[test]
    fn a_socket_of_another_type_is_alive() {
        let dir = dir();
        let path = dir.path().join("s");
        let _datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(Failure::Live { .. })));
    }

    #[test]
    fn what_may_not_be_connected_to_is_not_called_alive() {
        let dir = dir();
        let path = dir.path().join("s");
        let _live = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let refused = Listener::bind(&path).unwrap_err();
        let is_as_expected = match UnixStream::connect(&path) {
            Ok(_) => matches!(refused, Failure::Live { .. }),
            Err(_) => matches!(
                refused,
                Failure::Listen {
                    source: lisafs::Errno::EACCES,
                    ..
                }
            ),
        };
        assert!(is_as_expected, "{refused}");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = dir();
        let path = dir.path().join("file");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            Listener::bind(&path),
            Err(Failure::NotASocket { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let long = dir.path().join("x".repeat(200));
        assert!(matches!(
            Listener::bind(&long),
            Err(Failure::LongPath { .. })
        ));
        let nowhere = dir.path().join("no/s");
        assert!(matches!(
            Listener::bind(&nowhere),
            Err(Failure::Listen {
                source: lisafs::Errno::ENOENT,
                ..
            })
        ));
    }

    #[test]
    fn a_socket_that_was_passed_on_keeps_its_name() {
        let dir = dir();
        let path = dir.path().join("s");
        let owner = UnixListener::bind(&path).unwrap();
        let listener = Listener::adopt(owner.try_clone().unwrap()).unwrap();
        assert!(listener.accept().unwrap().is_none());
        UnixStream::connect(&path).unwrap();
        assert!(listener.accept().unwrap().is_some());
        drop(listener);
        UnixStream::connect(&path).unwrap();
        drop(owner);
    }

    #[test]
    fn a_name_that_has_become_somebody_elses_stays() {
        let dir = dir();
        let path = dir.path().join("s");
        let listener = Listener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "new").unwrap();
        drop(listener);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
