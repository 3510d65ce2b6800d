//! What the server itself says that there is.

use std::collections::BTreeMap;

use lisafs::wire::{FdId, FileType, Statx};

use super::Seen;
use crate::calls::O_RDONLY;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::Stop;

/// How much of a file is asked for at a time, and the most of a value or of a list of names, in bytes.
const PIECE: u32 = 32 << 10;

/// Asks for the directory of the case and all that is below it.
pub(super) fn look_below(session: &mut Session) -> Result<BTreeMap<Vec<u8>, Seen>, Stop> {
    let mut seen = BTreeMap::new();
    let scratch = session.scratch;
    let mut left = vec![(Vec::new(), scratch, session.stat(scratch)?)];
    while let Some((path, id, stat)) = left.pop() {
        if stat.file_type() == FileType::Directory {
            for name in session.names(id)? {
                let found = session.find(id, &name)?;
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let below = [&path, separator, &name].concat();
                left.push((below, found.control_fd, found.stat));
            }
        }
        seen.insert(path, look_at(session, id, &stat)?);
        if id != scratch {
            session.close(&[id])?;
        }
    }
    Ok(seen)
}

fn look_at(session: &mut Session, id: FdId, stat: &Statx) -> Result<Seen, Stop> {
    let content = match stat.file_type() {
        FileType::Regular => read(session, id)?,
        FileType::Symlink => session.readlink(id)?,
        _ => Vec::new(),
    };
    let mut attributes = BTreeMap::new();
    if session.needs(Need::UserXattr).is_ok() {
        for name in session.list_xattr(id, u64::from(PIECE))? {
            let value = session.get_xattr(id, &name, PIECE)?;
            attributes.insert(name, value);
        }
    }
    Ok(Seen {
        content,
        attributes,
        ..self::stat(stat)
    })
}

fn read(session: &mut Session, id: FdId) -> Result<Vec<u8>, Stop> {
    let open = session.open(id, O_RDONLY)?.id;
    let mut content = Vec::new();
    loop {
        let more = session.read(open, content.len() as u64, PIECE as usize)?;
        if more.is_empty() {
            break;
        }
        content.extend(more);
    }
    session.close(&[open])?;
    Ok(content)
}

/// What FStat says.
pub(super) fn stat(stat: &Statx) -> Seen {
    let time = |time: lisafs::wire::Timestamp| (time.sec, i64::from(time.nsec));
    Seen {
        identity: (
            u64::from(stat.dev_major) << 32 | u64::from(stat.dev_minor),
            stat.ino,
        ),
        mode: u32::from(stat.mode),
        owner: (stat.uid, stat.gid),
        links: u64::from(stat.nlink),
        size: stat.size,
        modified: time(stat.mtime),
        changed: time(stat.ctime),
        ..Seen::default()
    }
}
