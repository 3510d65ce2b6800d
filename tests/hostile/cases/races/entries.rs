//! Entries of a directory: made, moved and removed.

use lisafs_conformance::{Stop, Verdict};

use super::{DOOR, LEAF, O_RDWR, STREAM, Try, refused};
use crate::outside::FILE;

/// The name of a file in the directory that nobody else exchanges.
const OWN: &[u8] = b"mine";

const EXCHANGE: u32 = libc::RENAME_EXCHANGE;
const NO_REPLACE: u32 = libc::RENAME_NOREPLACE;

pub(super) fn create(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    if let Some(created) = refused(a.caller.create(door, b"new", O_RDWR))? {
        a.check(created.inode)?;
        a.made.push(created.open);
    }
    refused(a.caller.unlink(door, b"new"))?;
    // One that replaces what is exchanged: it is there, so it is refused, whatever it is.
    if refused(a.caller.create(a.root, LEAF, O_RDWR))?.is_some() {
        return Err(Stop::failed("a file was created in the place of one"));
    }
    Ok(())
}

pub(super) fn mkdir(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    if let Some(inode) = refused(a.caller.mkdir(door, b"sub"))? {
        a.check(inode)?;
    }
    refused(a.caller.rmdir(door, b"sub"))?;
    if let Some(inode) = refused(a.caller.mknod(door, b"node", libc::S_IFREG | 0o644))? {
        a.check(inode)?;
    }
    if let Some(inode) = refused(a.caller.symlink(door, b"link", b"/"))? {
        a.check(inode)?;
    }
    for name in [&b"node"[..], b"link"] {
        refused(a.caller.unlink(door, name))?;
    }
    Ok(())
}

pub(super) fn link(a: &mut Try<'_>) -> Verdict {
    for path in [&[LEAF][..], &[DOOR, FILE.as_bytes()]] {
        let target = a.real(path)?;
        let door = a.real(&[DOOR])?;
        for (dir, target) in [(Some(a.own), target), (door, target)] {
            let (Some(dir), Some(target)) = (dir, target) else {
                continue;
            };
            a.tried += 1;
            if let Some(inode) = refused(a.caller.link(dir, target, b"hard"))? {
                a.check(inode)?;
            }
            refused(a.caller.unlink(dir, b"hard"))?;
        }
    }
    Ok(())
}

pub(super) fn rename(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    let file = FILE.as_bytes();
    if refused(a.caller.rename((door, file), (a.own, b"moved")))?.is_some() {
        let found = a.caller.find(a.own, b"moved")?;
        a.check(found)?;
        // Back, by whatever the door is now.
        a.caller.rename((a.own, b"moved"), (door, file))?;
    }
    Ok(())
}

/// A file of the client's own for the one behind the door, and back.
pub(super) fn exchange(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    let (own, there) = ((a.own, OWN), (door, FILE.as_bytes()));
    own_file(a)?;
    for (from, to) in [(own, there), (there, own)] {
        if refused(a.caller.rename_with(from, to, EXCHANGE))?.is_none() {
            continue;
        }
        let found = a.caller.find(a.own, OWN)?;
        a.check(found)?;
        // Back, by whatever the door is now.
        a.caller.rename_with(to, from, EXCHANGE)?;
    }
    Ok(())
}

/// Both files are there, so neither gives way to the other.
pub(super) fn no_replace(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    let (own, there) = ((a.own, OWN), (door, FILE.as_bytes()));
    own_file(a)?;
    for (from, to) in [(own, there), (there, own)] {
        if refused(a.caller.rename_with(from, to, NO_REPLACE))?.is_some() {
            return Err(Stop::failed("a file was moved over another one"));
        }
    }
    Ok(())
}

/// Sees that the client has a file to exchange.
fn own_file(a: &mut Try<'_>) -> Verdict {
    if !a.caller.exists(a.own, OWN)? {
        let created = a.caller.create(a.own, OWN, O_RDWR)?;
        a.check(created.inode)?;
        a.made.push(created.open);
    }
    Ok(())
}

pub(super) fn unlink(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    let file = FILE.as_bytes();
    if refused(a.caller.unlink(door, file))?.is_some() {
        let created = a.caller.create(door, file, O_RDWR)?;
        a.check(created.inode)?;
        a.made.push(created.open);
    }
    Ok(())
}

pub(super) fn bind(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    if let Some(bound) = refused(a.caller.bind(door, b"bound", STREAM))? {
        a.check(bound.inode)?;
        a.made.push(bound.id);
    }
    refused(a.caller.unlink(door, b"bound"))?;
    Ok(())
}
