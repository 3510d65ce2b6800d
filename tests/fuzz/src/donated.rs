//! What may come with a reply besides its bytes.

use std::os::fd::{AsFd, OwnedFd};

use lisafs::wire::Mid;
use lisafs::wire::schema::Value;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};

use crate::Scratch;

/// Judges the descriptors that came with a successful reply to the message `asked`, which was
/// `request`.
///
/// # Panics
/// If there are more than the message can bring, or fewer than make sense; if one leads anywhere but
/// to a file of the export or to a socket that was asked for; or if it can do more than was asked for.
pub(crate) fn judge_donated(asked: Mid, request: &Value, donated: &[OwnedFd], scratch: &Scratch) {
    let most = asked.message().map_or(0, |message| message.max_fds);
    assert!(donated.len() <= most, "{asked}: {} fds", donated.len());
    let sockets = matches!(
        asked,
        Mid::BIND_AT | Mid::CONNECT | Mid::CONNECT_WITH_CREDS | Mid::ACCEPT
    );
    assert!(!sockets || donated.len() == 1, "{asked}: no socket");
    for fd in donated {
        let stat = fstat(fd).expect("it is open");
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if sockets {
            assert_eq!(kind, SFlag::S_IFSOCK, "{asked}: no socket, {stat:?}");
            continue;
        }
        let donable = [SFlag::S_IFREG, SFlag::S_IFIFO, SFlag::S_IFCHR];
        assert!(donable.contains(&kind), "{asked}: {kind:?}, {stat:?}");
        assert!(
            !scratch.is_outside(stat.st_dev, stat.st_ino),
            "{asked} gave the outside away: {stat:?}"
        );
        let has = rights(access(fd));
        let wanted = rights(flags(request));
        assert!(
            has.0 <= wanted.0 && has.1 <= wanted.1,
            "{asked}: {request:?} was given {has:?}"
        );
    }
}

/// Whether such a file can be read, and written.
fn rights(flags: OFlag) -> (bool, bool) {
    let access = flags & OFlag::O_ACCMODE;
    (
        access == OFlag::O_RDONLY || access == OFlag::O_RDWR,
        access == OFlag::O_WRONLY || access == OFlag::O_RDWR,
    )
}

fn access(fd: impl AsFd) -> OFlag {
    OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).expect("it is open"))
}

/// The flags that the request has; none stands for those of reading.
fn flags(request: &Value) -> OFlag {
    match request.get("flags") {
        Some(Value::Unsigned(flags)) => OFlag::from_bits_truncate(*flags as i32),
        _ => OFlag::O_RDONLY,
    }
}
