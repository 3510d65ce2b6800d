//! Extended attributes.

use lisafs::Errno;
use lisafs::wire::{FListXattrReq, FSetXattrReq, FdId, Request};

use crate::caller::encoded;
use crate::calls::O_RDWR;
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, refused, same};

const XATTR: &[Need] = &[Need::UserXattr];
const CREATE: u32 = 1;
const REPLACE: u32 = 2;

pub(crate) const CASES: &[Plain] = &[
    Plain::new("xattr.set_get_list_and_remove", set_get_list_and_remove).needs(XATTR),
    Plain::new("xattr.of_a_directory", of_a_directory).needs(XATTR),
    Plain::new("xattr.create_and_replace", create_and_replace).needs(XATTR),
    Plain::new("xattr.bad_flags", bad_flags).needs(XATTR),
    Plain::new("xattr.sizes_to_get", sizes_to_get).needs(XATTR),
    Plain::new("xattr.sizes_to_list", sizes_to_list).needs(XATTR),
    Plain::new("xattr.any_bytes_and_none", any_bytes).needs(XATTR),
    Plain::new("xattr.longest_value", longest_value).needs(XATTR),
    Plain::new("xattr.value_of_65536_bytes", too_long_a_value).needs(XATTR),
    Plain::new("xattr.names", names).needs(XATTR),
    Plain::new("xattr.missing", missing).needs(XATTR),
    Plain::new("xattr.wants_a_control_fd", wants_a_control_fd).needs(XATTR),
    Plain::new("xattr.of_a_symlink_is_not_the_targets", of_a_symlink).needs(XATTR),
];

fn set_get_list_and_remove(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    same!(s.list_xattr(f, 0)?.len(), 0, "names");
    s.set_xattr(f, b"user.a", b"one", 0)?;
    s.set_xattr(f, b"user.b", b"two", 0)?;
    same!(s.get_xattr(f, b"user.a", 0)?, b"one", "value");
    same!(s.list_xattr(f, 0)?, [b"user.a", b"user.b"], "names");
    s.remove_xattr(f, b"user.a")?;
    refused(s.get_xattr(f, b"user.a", 0), Errno::ENODATA)?;
    same!(s.list_xattr(f, 0)?, [b"user.b"], "names");
    Ok(())
}

fn of_a_directory(s: &mut Session, d: FdId) -> Verdict {
    s.set_xattr(d, b"user.a", b"value", 0)?;
    same!(s.get_xattr(d, b"user.a", 0)?, b"value", "value");
    s.remove_xattr(d, b"user.a")?;
    Ok(())
}

fn create_and_replace(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    refused(s.set_xattr(f, b"user.a", b"x", REPLACE), Errno::ENODATA)?;
    s.set_xattr(f, b"user.a", b"one", CREATE)?;
    refused(s.set_xattr(f, b"user.a", b"x", CREATE), Errno::EEXIST)?;
    same!(s.get_xattr(f, b"user.a", 0)?, b"one", "value");
    s.set_xattr(f, b"user.a", b"two", REPLACE)?;
    same!(s.get_xattr(f, b"user.a", 0)?, b"two", "value");
    Ok(())
}

fn bad_flags(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    for flags in [3, 4, u32::MAX] {
        refused(s.set_xattr(f, b"user.a", b"x", flags), Errno::EINVAL)?;
    }
    same!(s.list_xattr(f, 0)?.len(), 0, "names");
    Ok(())
}

fn sizes_to_get(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    s.set_xattr(f, b"user.a", b"0123456789", 0)?;
    for size in [0, 10, 11, 65_535, 65_536, 65_537, u32::MAX] {
        same!(
            s.get_xattr(f, b"user.a", size)?,
            b"0123456789",
            "value for {size}"
        );
    }
    for size in [1, 9] {
        refused(s.get_xattr(f, b"user.a", size), Errno::ERANGE)?;
    }
    s.set_xattr(f, b"user.a", &[b'v'; 1000], 0)?;
    same!(s.get_xattr(f, b"user.a", 0)?, [b'v'; 1000], "value");
    refused(s.get_xattr(f, b"user.a", 999), Errno::ERANGE)
}

fn sizes_to_list(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    s.set_xattr(f, b"user.a", b"", 0)?;
    s.set_xattr(f, b"user.bc", b"", 0)?;
    // Each name with a NUL.
    let total = 7 + 8;
    for size in [0, total, total + 1, 65_536, 65_537, u64::MAX] {
        same!(s.list_xattr(f, size)?.len(), 2, "names for {size}");
    }
    for size in [1, total - 1] {
        let request = FListXattrReq { fd: f, size };
        s.send(&request)?.refused(Errno::ERANGE)?;
    }
    Ok(())
}

fn any_bytes(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    for value in [&b"\0\xff\n"[..], b""] {
        s.set_xattr(f, b"user.a", value, 0)?;
        same!(s.get_xattr(f, b"user.a", 0)?, value, "value");
    }
    Ok(())
}

fn longest_value(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let value = [b'v'; 65_535];
    let set = s.set_xattr(f, b"user.a", &value, 0);
    match set.map_err(|error| error.errno()) {
        Ok(()) => same!(s.get_xattr(f, b"user.a", 0)?, value, "value"),
        // Most file systems keep them in one block.
        Err(errno) if errno == nix::Error::ENOSPC.into() || errno == Errno::E2BIG => {
            same!(s.list_xattr(f, 0)?.len(), 0, "names");
        }
        Err(other) => return Err(other.into()),
    }
    Ok(())
}

/// What gVisor's client makes of a value of 65,536 bytes: the length wraps to 0.
fn too_long_a_value(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let mut request = encoded(&FSetXattrReq {
        fd: f,
        flags: 0,
        name: b"user.a",
        value: b"",
    })?;
    request.extend([b'v'; 65_536]);
    s.raw(FSetXattrReq::MID, &request)?.refused(Errno::E2BIG)?;
    refused(s.get_xattr(f, b"user.a", 0), Errno::ENODATA)
}

fn names(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    let longest = [&b"user."[..], &[b'n'; 250]].concat();
    s.set_xattr(f, &longest, b"x", 0)?;
    same!(s.get_xattr(f, &longest, 0)?, b"x", "value");
    s.remove_xattr(f, &longest)?;
    let too_long = [&b"user."[..], &[b'n'; 251]].concat();
    for name in [&b""[..], &too_long] {
        refused(s.set_xattr(f, name, b"x", 0), Errno::ERANGE)?;
        refused(s.get_xattr(f, name, 0), Errno::ERANGE)?;
        refused(s.remove_xattr(f, name), Errno::ERANGE)?;
    }
    for name in [&b"user.a\0b"[..], b"\0"] {
        refused(s.set_xattr(f, name, b"x", 0), Errno::EINVAL)?;
        refused(s.get_xattr(f, name, 0), Errno::EINVAL)?;
        refused(s.remove_xattr(f, name), Errno::EINVAL)?;
    }
    refused(s.set_xattr(f, b"no namespace", b"x", 0), Errno::EOPNOTSUPP)?;
    same!(s.list_xattr(f, 0)?.len(), 0, "names");
    Ok(())
}

fn missing(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    refused(s.get_xattr(f, b"user.a", 0), Errno::ENODATA)?;
    refused(s.get_xattr(f, b"user.a", 1), Errno::ENODATA)?;
    refused(s.remove_xattr(f, b"user.a"), Errno::ENODATA)
}

fn wants_a_control_fd(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    refused(s.get_xattr(open, b"user.a", 0), Errno::EINVAL)?;
    refused(s.set_xattr(open, b"user.a", b"x", 0), Errno::EINVAL)?;
    refused(s.list_xattr(open, 0), Errno::EINVAL)?;
    refused(s.remove_xattr(open, b"user.a"), Errno::EINVAL)
}

fn of_a_symlink(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    s.set_xattr(f, b"user.a", b"value", 0)?;
    let l = s.symlink(d, b"l", b"f")?.control_fd;
    // The kernel keeps no `user.` attributes on symlinks.
    refused(s.set_xattr(l, b"user.b", b"x", 0), Errno::EPERM)?;
    same!(
        s.get_xattr(l, b"user.a", 0).is_err(),
        true,
        "whether there is none"
    );
    let own = s.list_xattr(l, 0)?;
    same!(
        own.iter().any(|name| name.starts_with(b"user.")),
        false,
        "whether there are any"
    );
    same!(s.list_xattr(f, 0)?, [b"user.a"], "names of the target");
    Ok(())
}
