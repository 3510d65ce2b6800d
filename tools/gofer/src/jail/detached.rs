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
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::waitpid;
use nix::unistd::getpid;

use super::export::{Served, prepare_detached};
use super::layers::Missing;
use super::mount_error::{MountError, system};
use super::namespaces;
use crate::failure::NO_PROCFS;
use crate::sys::{self, Forked};

/// What was made for this process.
#[derive(Debug)]
pub(super) struct Detached {
    /// An O_PATH descriptor of what is served.
    pub(super) root: OwnedFd,
    /// The directory of the descriptors of this process.
    pub(super) procfd: OwnedFd,
}

/// How much the child can say, in bytes: there may be two paths in it, with each byte escaped. A socket
/// holds more, so it does not wait for a reader.
const MESSAGE: u64 = 64 << 10;

/// Has a child make the mounts of what is served, which is `expected`. To be called while there is one
/// thread.
///
/// # Errors
/// If the child could not be started, or could not do it.
pub(super) fn detach(served: &Served<'_>, expected: &OwnedFd) -> Result<Detached, Missing> {
    let failed = |why: Errno| {
        let advice = match why {
            Errno::ENOENT => NO_PROCFS,
            _ => "permit fork(2) and socketpair(2)",
        };
        Missing::new(why, advice)
    };
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
    drop(ours);
    match waitpid(child, None) {
        // Whoever has started this ignores SIGCHLD, and so it does.
        Ok(_) | Err(Errno::ECHILD) => {}
        Err(why) => return Err(failed(why)),
    }
    Ok(Detached {
        root: root?,
        procfd: procfd?,
    })
}

fn receive(from: &UnixStream) -> Result<OwnedFd, Missing> {
    let ended = |why: Errno| Missing::new(why, "see why the child that makes the mounts has ended");
    let ended_io = |why| ended(Errno::try_from(why).unwrap_or(Errno::EIO));
    let mut first = [0];
    let (length, descriptor) = sys::receive(from, &mut first).map_err(ended)?;
    if let Some(descriptor) = descriptor {
        return Ok(descriptor);
    }
    let mut said: Vec<u8> = first.into_iter().take(length).collect();
    from.take(MESSAGE)
        .read_to_end(&mut said)
        .map_err(ended_io)?;
    let (why, advice) =
        serde_json::from_slice::<(String, String)>(&said).map_err(|_| ended(Errno::EPIPE))?;
    Err(Missing::new(why, advice))
}

/// Says why there are no mounts.
fn tell(mut to: &UnixStream, missing: &Missing) -> io::Result<()> {
    let said = serde_json::to_vec(&(&missing.why, &missing.advice))?;
    to.write_all(&said)
}

/// What the child does.
#[expect(clippy::exit, reason = "a child has no `main` to return to")]
fn make_and_send(
    to: &UnixStream,
    served: &Served<'_>,
    expected: &OwnedFd,
    descriptors: &CString,
) -> ! {
    match make(served, expected, descriptors) {
        Ok(made) => {
            // If that fails, the other process is told by the end of the connection.
            let _ = send(to, &made.root).and_then(|()| send(to, &made.procfd));
        }
        // Likewise.
        Err(missing) => drop(tell(to, &missing)),
    }
    process::exit(0)
}

fn make(
    served: &Served<'_>,
    expected: &OwnedFd,
    descriptors: &CString,
) -> Result<Detached, Missing> {
    namespaces::enter_user_namespace()?;
    let failed = |why: MountError| Missing::new(&why, why.advice(true));
    let root = prepare_detached(served, expected).map_err(failed)?;
    let procfd = sys::clone_mount(None, descriptors, false)
        .map_err(system("cannot bind the directory of descriptors"))
        .map_err(failed)?;
    Ok(Detached { root, procfd })
}

fn send(to: &UnixStream, file: &OwnedFd) -> Result<(), Errno> {
    let files = [file.as_raw_fd()];
    let files = [ControlMessage::ScmRights(&files)];
    // A descriptor does not go without a byte.
    let byte = [IoSlice::new(b"+")];
    sendmsg::<()>(to.as_raw_fd(), &byte, &files, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_comes_whole() {
        let missing = Missing::new("a\nname, ".repeat(2000), "advice\nof two lines");
        let (ours, theirs) = UnixStream::pair().unwrap();
        tell(&theirs, &missing).unwrap();
        drop(theirs);
        assert_eq!(receive(&ours).unwrap_err(), missing);
    }

    #[test]
    fn a_child_that_says_nothing_is_told() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let missing = receive(&ours).unwrap_err();
        assert!(missing.advice.contains("the child"), "{missing}");
    }
}
