//! Files and directories: come to, opened, connected to and changed.

use std::fs::File;
use std::io::Read;

use lisafs::wire::{SetStat, SetStatReq};
use lisafs_conformance::{Stop, Verdict, same};

use super::{DOOR, LEAF, O_RDWR, PLUG, STREAM, Try, refused};
use crate::outside::{ATTRIBUTE, FILE, SECRET, SOCKET};

const O_TRUNC: u32 = libc::O_TRUNC.cast_unsigned();

pub(super) fn walk(a: &mut Try<'_>) -> Verdict {
    // To come to a link is what may go wrong here.
    a.tried += 1;
    a.real(&[DOOR, FILE.as_bytes()])?;
    a.real(&[LEAF])?;
    if let Some(door) = a.real(&[DOOR])?
        && let Some(walked) = refused(a.caller.walk(door, &[FILE.as_bytes()]))?
    {
        for inode in walked.inodes {
            a.check(inode)?;
        }
    }
    Ok(())
}

pub(super) fn walk_stat(a: &mut Try<'_>) -> Verdict {
    a.tried += 1;
    for path in [&[DOOR, FILE.as_bytes()][..], &[DOOR], &[LEAF], &[PLUG]] {
        let stats = refused(a.caller.walk_stat(a.root, path))?.unwrap_or_default();
        if stats.iter().any(|stat| a.outside.holds(stat)) {
            return Err(a.outside.seen("attributes from outside"));
        }
        if stats.len() == 2 {
            a.seen.0 += 1;
        } else {
            a.seen.1 += 1;
        }
    }
    Ok(())
}

pub(super) fn open(a: &mut Try<'_>) -> Verdict {
    for path in [&[LEAF][..], &[DOOR, FILE.as_bytes()]] {
        let Some(file) = a.real(path)? else { continue };
        a.tried += 1;
        for flags in [0, O_RDWR, O_RDWR | O_TRUNC] {
            let Some(opened) = refused(a.caller.open(file, flags))? else {
                continue;
            };
            a.made.push(opened.id);
            for donated in opened.donated {
                let mut donated = File::from(donated);
                let mut content = Vec::new();
                if a.outside.is_open_as(&donated) {
                    return Err(a.outside.seen("a descriptor of a file outside"));
                }
                donated.read_to_end(&mut content)?;
                if content == SECRET {
                    return Err(a.outside.seen("the secret, through a descriptor"));
                }
            }
            if refused(a.caller.read(opened.id, 0, 100))?.is_some_and(|read| read == SECRET) {
                return Err(a.outside.seen("the secret"));
            }
            if flags != 0 {
                refused(a.caller.write(opened.id, 0, b"harmless"))?;
            }
        }
    }
    Ok(())
}

pub(super) fn list(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    let Some(opened) = refused(a.caller.open(door, 0))? else {
        return Ok(());
    };
    a.made.push(opened.id);
    let entries = refused(a.caller.entries(opened.id, 4096))?.unwrap_or_default();
    if entries.iter().any(|entry| entry.name == b"empty") {
        return Err(a.outside.seen("the entries of the directory outside"));
    }
    Ok(())
}

/// That nobody has come to the socket outside is looked at afterwards.
pub(super) fn connect(a: &mut Try<'_>) -> Verdict {
    for path in [&[PLUG][..], &[DOOR, SOCKET.as_bytes()]] {
        if let Some(socket) = a.real(path)? {
            a.tried += 1;
            // The listeners inside accept nobody, and are full after a while.
            refused(a.caller.connect(socket, STREAM))?;
        }
    }
    Ok(())
}

/// That nothing outside has changed is looked at afterwards.
pub(super) fn set_stat(a: &mut Try<'_>) -> Verdict {
    let (uid, gid) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    for path in [&[LEAF][..], &[DOOR], &[PLUG], &[DOOR, FILE.as_bytes()]] {
        let Some(found) = a.real(path)? else { continue };
        a.tried += 1;
        let mode = if path == [DOOR] { 0o777 } else { 0o666 };
        let mut request = SetStatReq {
            mask: (SetStat::MODE | SetStat::ATIME | SetStat::MTIME | SetStat::UID | SetStat::GID)
                .bits(),
            mode,
            uid: lisafs::wire::Uid(uid),
            gid: lisafs::wire::Gid(gid),
            ..SetStatReq::new(found)
        };
        refused(a.caller.set_stat(&request))?;
        request.mask = SetStat::SIZE.bits();
        refused(a.caller.set_stat(&request))?;
    }
    Ok(())
}

pub(super) fn xattr(a: &mut Try<'_>) -> Verdict {
    if !a.outside.has_attributes {
        return Err(Stop::skipped("there are no extended attributes here"));
    }
    for path in [&[LEAF][..], &[DOOR], &[DOOR, FILE.as_bytes()]] {
        let Some(found) = a.real(path)? else { continue };
        a.tried += 1;
        // What is inside has none of that name.
        let secret = ATTRIBUTE.as_bytes();
        if let Some(value) = refused(a.caller.get_xattr(found, secret, 0))? {
            let what = format!("an attribute from outside, {value:?}");
            return Err(a.outside.seen(&what));
        }
        refused(a.caller.set_xattr(found, b"user.trace", b"value", 0))?;
        if let Some(value) = refused(a.caller.get_xattr(found, b"user.trace", 0))? {
            same!(value, b"value", "the value");
        }
        let names = refused(a.caller.list_xattr(found, 0))?.unwrap_or_default();
        if names.iter().any(|name| name == secret) {
            return Err(a.outside.seen("the names of attributes outside"));
        }
        refused(a.caller.remove_xattr(found, b"user.trace"))?;
    }
    Ok(())
}
