//! Mounts for a process that may make none.
//!
//! A child makes them in a user namespace and hands them over as descriptors: a copy of the tree that is
//! served, and the directory of this process's descriptors, attached nowhere. Both have the attributes
//! that they are given, and their `..` leads nowhere.
//!
//! This process stays in the user namespace that it was started in. From inside of another one, in which
//! nobody but this user exists, all other owners would be 65534, and giving files to them EINVAL.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::waitpid;
use nix::unistd::getpid;

use super::export::{Served, prepare_detached};
use super::layers::Missing;
use super::namespaces;
use crate::sys::{self, Forked};

/// What was made for this process.
#[derive(Debug)]
pub(super) struct Detached {
    /// An O_PATH descriptor of what is served.
    pub(super) root: OwnedFd,
    /// The directory of the descriptors of this process.
    pub(super) procfd: OwnedFd,
}

/// How much the child can say, in bytes.
const MESSAGE: usize = 1024;

/// Has a child make the mounts of what is served, which is `expected`. To be called while there is one
/// thread.
///
/// # Errors
/// If the child could not be started, or could not do it.
pub(super) fn detach(served: &Served<'_>, expected: &OwnedFd) -> Result<Detached, Missing> {
    let failed = |why: Errno| Missing::new(why, "permit fork(2) and socketpair(2)");
    let failed_io = |why| failed(Errno::try_from(why).unwrap_or(Errno::EIO));
    let (ours, theirs) = UnixStream::pair().map_err(failed_io)?;
    let descriptors =
        CString::new(format!("/proc/{}/fd", getpid())).map_err(|_| failed(Errno::EINVAL))?;
    let child = match sys::fork().map_err(failed)? {
        Forked::Child(_) => make_and_send(&theirs, served, expected, &descriptors),
        Forked::Parent(child) => child,
    };
    drop(theirs);
    let root = receive(&ours);
    let procfd = receive(&ours);
    waitpid(child, None).map_err(failed)?;
    Ok(Detached {
        root: root?,
        procfd: procfd?,
    })
}

fn receive(from: &UnixStream) -> Result<OwnedFd, Missing> {
    let mut buffer = [0; MESSAGE];
    let ended = |why: Errno| Missing::new(why, "see why the child that makes the mounts has ended");
    let (length, descriptor) = sys::receive(from, &mut buffer).map_err(ended)?;
    if let Some(descriptor) = descriptor {
        return Ok(descriptor);
    }
    let said = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    match said.split_once('\n') {
        Some((why, advice)) => Err(Missing::new(why, advice)),
        None => Err(ended(Errno::EPIPE)),
    }
}

/// What the child does.
#[expect(clippy::exit, reason = "a child has no `main` to return to")]
fn make_and_send(
    mut to: &UnixStream,
    served: &Served<'_>,
    expected: &OwnedFd,
    descriptors: &CString,
) -> ! {
    match make(served, expected, descriptors) {
        Ok(made) => {
            // If that fails, the other process is told by the end of the connection.
            let _ = send(to, &made.root).and_then(|()| send(to, &made.procfd));
        }
        Err(why) => {
            // At once: what is read at once is the whole.
            let said = format!("{}\n{}", why.why, why.advice);
            let _ = to.write_all(said.as_bytes());
        }
    }
    process::exit(0)
}

fn make(
    served: &Served<'_>,
    expected: &OwnedFd,
    descriptors: &CString,
) -> Result<Detached, Missing> {
    namespaces::enter_user_namespace()?;
    let root = prepare_detached(served, expected)
        .map_err(|why| Missing::new(why, "see that /proc is a procfs, with nothing above it"))?;
    let procfd = sys::clone_mount(None, descriptors, false)
        .map_err(|why| Missing::new(why, "use Linux 5.12 or later"))?;
    Ok(Detached { root, procfd })
}

fn send(to: &UnixStream, file: &OwnedFd) -> Result<(), Errno> {
    let files = [file.as_raw_fd()];
    let files = [ControlMessage::ScmRights(&files)];
    // A descriptor does not go without a byte.
    let byte = [IoSlice::new(b"+")];
    sendmsg::<()>(to.as_raw_fd(), &byte, &files, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}
