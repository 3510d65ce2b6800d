//! Serving the sandbox, once there is nothing else to be reached.
#![forbid(unsafe_code)]

use std::env;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use flipcall::WaitPolicy;
use lisafs::host::{CharacterDevices, HostFs, HostOptions};
use lisafs::server::{ConnectionOpts, Server};
use tracing::info;

use super::argv::Invocation;
use crate::failure::Failure;

/// How many descriptors a connection gets at most, however many there are.
const MOST_FDS: usize = 1 << 20;

/// The variable that says how to wait for requests. runsc has no flag that it would pass on, but its
/// environment it does.
const WAIT: &str = "LISAFS_WAIT";

/// A connection to be.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: UnixStream,
    /// Which path of the tree is its root.
    pub(crate) path: PathBuf,
    pub(crate) readonly: bool,
    /// It is for devices, whatever the policy says: what the sandbox does with them is between its
    /// kernel and the device.
    pub(crate) devices: bool,
}

/// The tree that is served, reached through descriptors alone.
#[derive(Debug)]
pub(crate) struct Files {
    root: OwnedFd,
    ordinary: HostFs,
    with_devices: HostFs,
    /// What is served read-only was bound read-only, too.
    mounted: bool,
    wait: WaitPolicy,
}

impl Files {
    /// The tree below `root`. To be made while there is a procfs.
    pub(crate) fn new(root: OwnedFd, invocation: &Invocation) -> Result<Files, Failure> {
        let options = HostOptions {
            host_uds: invocation.host_uds,
            host_fifo: invocation.host_fifo,
            character_devices: invocation.character_devices,
            donate_root: invocation.directfs,
            ..HostOptions::default()
        };
        let failed = |why| Failure::Setup {
            dir: PathBuf::from("/"),
            why,
        };
        let again = root
            .try_clone()
            .map_err(crate::failure::cannot("cannot open the root again"))?;
        let ordinary = HostFs::new(again, options).map_err(failed)?;
        // Nobody else is left in the namespaces of a sandbox to whom the rest of a procfs could lead, but
        // its files are no files of the container.
        if !invocation.unsafe_nonroot && !ordinary.procfd_is_detached() {
            return Err(Failure::Procfd);
        }
        Ok(Files {
            root,
            // The same descriptors: the system call filter knows of one directory of them.
            with_devices: ordinary.with_options(HostOptions {
                character_devices: CharacterDevices::Open,
                ..options
            }),
            ordinary,
            mounted: !invocation.unsafe_nonroot,
            wait: match env::var_os(WAIT) {
                Some(policy) => policy.to_string_lossy().parse().map_err(Failure::Wait)?,
                None => WaitPolicy::default(),
            },
        })
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What all connections are served from, but for devices.
    pub(crate) fn ordinary(&self) -> &HostFs {
        &self.ordinary
    }

    /// Serves until all connections have ended, with so many descriptors among them.
    pub(crate) fn serve(
        &self,
        server: &Server<HostFs>,
        connections: Vec<Connection>,
        descriptors: usize,
    ) -> Result<(), Failure> {
        let limits = ConnectionOpts {
            // Not a share each: one sandbox is behind all of them, and the root of a container with
            // many mounts needs no less. The rest is for sockets and channels.
            max_fds: (descriptors - descriptors / 4).clamp(1, MOST_FDS),
            wait: self.wait,
            ..ConnectionOpts::default()
        };
        for connection in connections {
            info!(
                path = %connection.path.display(),
                readonly = connection.readonly,
                devices = connection.devices,
                "serving"
            );
            let files = if connection.devices {
                &self.with_devices
            } else {
                &self.ordinary
            };
            let opts = ConnectionOpts {
                mount_path: path_bytes(&connection.path),
                readonly: connection.readonly,
                mounted_readonly: self.mounted,
                ..limits.clone()
            };
            server
                .start_connection(connection.socket, files.clone(), opts)
                .map_err(Failure::Connection)?;
        }
        server.wait();
        info!("the sandbox has hung up");
        Ok(())
    }
}

fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
