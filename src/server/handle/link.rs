//! UnlinkAt, RenameAt and RenameAt2: names that go or change.

use std::sync::Arc;

use crate::Errno;
use crate::server::backend::{ControlFdImpl, RenameFlags, ServerImpl};
use crate::server::call::{Answer, Call};
use crate::server::dispatch::Serve;
use crate::server::fd::ControlFd;
use crate::server::guarantee::{Names, Stable};
use crate::wire::{Name, RenameAt2Req, RenameAtReq, UnlinkAtReq};

const REMOVE_DIRECTORY: u32 = libc::AT_REMOVEDIR.cast_unsigned();

impl Serve for UnlinkAtReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let name = Name::new(self.name)?;
        let directory = call.control(self.dir_fd)?;
        directory.directory()?;
        let (server, mut stable) = (call.connection.backend(), call.connection.locks().stable());
        stable.write_entry(server, directory.node(), name, |at| {
            directory.node().live()?;
            let remove_directory = match self.flags {
                0 => false,
                REMOVE_DIRECTORY => true,
                _ => return Err(Errno::EINVAL),
            };
            directory.file().unlink(at, name, remove_directory)?;
            directory.node().unlinked(name);
            Ok(())
        })?;
        drop(stable);
        call.reply::<Self>(&())
    }
}

/// Does either rename; the flags are judged where the host would judge them.
fn rename<S: ServerImpl>(request: &RenameAt2Req<'_>, call: &Call<'_, S>) -> Result<(), Errno> {
    let old_name = Name::new(request.old_name)?;
    let new_name = Name::new(request.new_name)?;
    let old_dir = call.control(request.old_dir)?;
    let new_dir = call.control(request.new_dir)?;
    old_dir.directory()?;
    new_dir.directory()?;
    let (server, locks) = (call.connection.backend(), call.connection.locks());
    let renaming = locks.renaming()?;
    // What takes time is judged before everybody else has to wait.
    let (old_node, new_node) = (old_dir.node(), new_dir.node());
    let mut stable = locks.stable();
    old_node.live()?;
    new_node.live()?;
    if Arc::ptr_eq(old_node, new_node) && old_name == new_name {
        return Ok(());
    }
    let flags = rename_flags(request.flags)?;
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    if old_node.would_close_ring(old_name, new_node, new_name, exchange) {
        let old = exists(&mut stable, server, &old_dir, old_name)?;
        let new = exists(&mut stable, server, &new_dir, new_name)?;
        return Err(refusal(old, new, flags));
    }
    drop(stable);
    let names = Names {
        old_dir: old_node,
        old_name,
        new_dir: new_node,
        new_name,
        exchange,
    };
    renaming.run(server, &names, |at| {
        let (from, to) = (old_dir.file(), new_dir.file());
        if flags.is_empty() {
            from.rename_at(at, old_name, to, new_name)
        } else {
            from.rename_at2(at, old_name, to, new_name, flags)
        }
    })
}

/// Whether the host has something called `name` in `directory`.
fn exists<S: ServerImpl>(
    stable: &mut Stable<'_>,
    server: &S,
    directory: &ControlFd<S>,
    name: Name<'_>,
) -> Result<bool, Errno> {
    stable.read(server, directory.node(), |at| {
        let found = directory.file().walk(at, name);
        Ok(!matches!(found, Err(Errno::ENOENT)))
    })
}

/// What renameat2(2) says to a directory that would come to be below itself: names are judged
/// before.
fn refusal(old_exists: bool, new_exists: bool, flags: RenameFlags) -> Errno {
    if !old_exists || (flags.contains(RenameFlags::EXCHANGE) && !new_exists) {
        Errno::ENOENT
    } else if flags.contains(RenameFlags::NOREPLACE) && new_exists {
        Errno::EEXIST
    } else {
        Errno::EINVAL
    }
}

fn rename_flags(flags: u32) -> Result<RenameFlags, Errno> {
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let not_with_exchange = RenameFlags::NOREPLACE | RenameFlags::WHITEOUT;
    if flags.contains(RenameFlags::EXCHANGE) && flags.intersects(not_with_exchange) {
        return Err(Errno::EINVAL);
    }
    Ok(flags)
}

impl Serve for RenameAtReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let RenameAtReq {
            old_dir,
            new_dir,
            old_name,
            new_name,
        } = self;
        let same = RenameAt2Req {
            old_dir,
            new_dir,
            old_name,
            new_name,
            flags: 0,
        };
        rename(&same, call)?;
        call.reply::<Self>(&())
    }
}

impl Serve for RenameAt2Req<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        rename(&self, call)?;
        call.reply::<Self>(&())
    }
}
