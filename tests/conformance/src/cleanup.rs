//! Removes what a case has made.

use lisafs::client::Error;
use lisafs::wire::{FdId, SetStat, SetStatReq};

use crate::caller::Caller;
use crate::calls::{MANY, O_RDONLY};
use crate::verdict::Verdict;

/// Removes the directory `name` in `parent` and all that is in it.
pub(crate) fn remove(caller: &mut Caller, parent: FdId, name: &[u8]) -> Verdict {
    // Each directory on the way down: its parent, its name, itself.
    let mut path = vec![(parent, name.to_vec(), caller.find(parent, name)?.control_fd)];
    while let Some((parent, name, directory)) = path.pop() {
        match first_directory(caller, directory)? {
            Some(child) => {
                let found = caller.find(directory, &child)?.control_fd;
                path.push((parent, name, directory));
                path.push((directory, child, found));
            }
            None => {
                caller.rmdir(parent, &name)?;
                caller.close(&[directory])?;
            }
        }
    }
    Ok(())
}

/// Unlinks all but directories, of which it returns one.
fn first_directory(caller: &mut Caller, directory: FdId) -> Result<Option<Vec<u8>>, Error> {
    // A case may have left a mode that forbids what follows, which then says so.
    caller.set_stat(&SetStatReq {
        mask: SetStat::MODE.bits(),
        mode: 0o700,
        ..SetStatReq::new(directory)
    })?;
    let open = caller.open(directory, O_RDONLY)?;
    let entries = caller.list(open.id, MANY)?;
    caller.close(&[open.id])?;
    let mut found = None;
    for entry in entries {
        if entry.d_type == libc::DT_DIR {
            found = Some(entry.name);
        } else {
            caller.unlink(directory, &entry.name)?;
        }
    }
    Ok(found)
}
