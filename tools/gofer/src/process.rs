//! What the process is set to before it serves.
#![forbid(unsafe_code)]

use std::os::fd::RawFd;
use std::{fs, io};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};

use crate::failure::{Failure, cannot, cannot_see};
use crate::sys;

/// Sets the process up, and returns how many descriptors it may have. What it was started with is
/// closed, but for the standard streams and what has been taken over, `kept`. To be called before
/// there are other threads.
pub(crate) fn prepare(kept: Option<RawFd>) -> Result<usize, Failure> {
    let failed = cannot_see("cannot look at the inherited descriptors");
    for number in open_descriptors().map_err(failed)? {
        if number > 2 && Some(number) != kept {
            match sys::take_inherited(number) {
                // Not inherited, such as the directory that was read, which is closed since.
                Ok(_) | Err(Errno::EBADF) => {}
                Err(why) => return Err(cannot("cannot close an inherited descriptor")(why)),
            }
        }
    }
    settle()
}

/// Sets up what programs that are executed are not to inherit, and returns how many descriptors the
/// process may have. To be called before there are other threads.
pub(crate) fn settle() -> Result<usize, Failure> {
    // Clients say which mode a new file gets, and mean it.
    umask(Mode::empty());
    let descriptors =
        raise_descriptor_limit().map_err(cannot("cannot raise the limit of open files"))?;
    // A client that has left, or a file that may not grow, is an error of one request. The default
    // is to end the process.
    for signal in [Signal::SIGPIPE, Signal::SIGXFSZ] {
        sys::ignore(signal).map_err(cannot("cannot ignore a signal"))?;
    }
    Ok(descriptors)
}

/// The numbers of the descriptors that are open, and perhaps one that was open meanwhile.
pub(crate) fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    Ok(numbers)
}

/// How many threads there are.
pub(crate) fn threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// Files are held open for clients, so there can be as many as the system permits. Returns how
/// many that is.
fn raise_descriptor_limit() -> nix::Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}
