//! A directory, served to a client.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use flipcall::{Spinners, WaitPolicy};
use lisafs::Errno;
use lisafs::client::{Channel, Communicator, Reply, Socket};
use lisafs::host::{CharacterDevices, HostFifo, HostFs, HostOptions, HostUds, Xattrs};
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::*;
use tempfile::TempDir;

pub(crate) const OPTIONS: HostOptions = HostOptions {
    host_uds: HostUds::All,
    host_fifo: HostFifo::Open,
    character_devices: CharacterDevices::Open,
    xattrs: Xattrs::All,
    donate_root: false,
};

/// SOCK_STREAM on the wire.
pub(crate) const STREAM: u32 = 1;

/// A served directory and its client.
pub(crate) struct Scene {
    pub(crate) directory: TempDir,
    pub(crate) server: Server<HostFs>,
    pub(crate) socket: Socket,
    pub(crate) root: FdId,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        Scene::at(tempfile::tempdir().unwrap())
    }

    pub(crate) fn at(directory: TempDir) -> Scene {
        Scene::with(directory, OPTIONS, ConnectionOpts::default()).0
    }

    /// A served directory, its client, and the descriptor of the root if that was donated.
    pub(crate) fn with(
        directory: TempDir,
        options: HostOptions,
        opts: ConnectionOpts,
    ) -> (Scene, Option<OwnedFd>) {
        let server = Server::new(1);
        let host = HostFs::open(directory.path(), options).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        server.start_connection(theirs, host, opts).unwrap();
        let mut socket = Socket::from(ours);
        let mount = socket.mount().unwrap();
        let scene = Scene {
            directory,
            server,
            socket,
            root: mount.root.control_fd,
        };
        (scene, mount.root_fd)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn channel(&mut self) -> Channel {
        self.socket
            .open_channel(WaitPolicy::Park, &Spinners::new())
            .unwrap()
    }

    pub(crate) fn call<R: Request>(&mut self, request: &R) -> Result<(), Errno> {
        self.socket
            .call(request, &mut Reply::new())
            .map(drop)
            .map_err(|error| error.errno())
    }

    pub(crate) fn refuses<R: Request>(&mut self, request: &R, errno: Errno) {
        assert_eq!(self.call(request), Err(errno), "{}", R::MID);
    }

    pub(crate) fn create(&self, mode: u16) -> CreateCommon {
        CreateCommon {
            dir_fd: self.root,
            uid: Uid::NONE,
            gid: Gid::NONE,
            mode,
        }
    }

    pub(crate) fn walk(&mut self, name: &str) -> FdId {
        let names = StringArrayBuf::collect([name.as_bytes()]).unwrap();
        let mut reply = Reply::new();
        let request = WalkReq {
            dir_fd: self.root,
            path: names.as_array(),
        };
        let walked = self.socket.call(&request, &mut reply).unwrap();
        walked.inodes.iter().next().unwrap().control_fd
    }
}

pub(crate) fn mkdir(on: &mut impl Communicator, create: CreateCommon, name: &str) -> Inode {
    let request = MkdirAtReq {
        create,
        name: name.as_bytes(),
    };
    on.call(&request, &mut Reply::new()).unwrap().child
}
