//! Walk and WalkStat: along a path, one component after the other, never through a symlink.

use std::sync::Arc;

use crate::Errno;
use crate::server::backend::{ControlFdImpl, ServerImpl};
use crate::server::call::{Answer, Call};
use crate::server::dispatch::Serve;
use crate::server::fd::ControlFd;
use crate::server::fds::Fd;
use crate::server::guarantee::Stable;
use crate::server::quota::Share;
use crate::wire::{
    Array, FileType, Inode, Name, Statx, StringArray, WalkReq, WalkResp, WalkStatReq, WalkStatResp,
};

/// A file that was walked to, and its attributes.
type Walked<S> = (Arc<ControlFd<S>>, Statx);

/// Walks to `name` in `directory`, as a rule on the way to something in it if the walk `goes_on`; `None`
/// if there is no such file.
///
/// The node is found or made under the directory's lock, so a file that is unlinked through this
/// server meanwhile cannot get a live node.
fn step<S: ServerImpl>(
    stable: &mut Stable<'_>,
    server: &S,
    directory: &ControlFd<S>,
    name: Name<'_>,
    share: Share,
    goes_on: bool,
) -> Result<Option<Walked<S>>, Errno> {
    stable.read(server, directory.node(), |at| {
        if at.node().is_deleted() {
            return Ok(None);
        }
        let walked = if goes_on {
            directory.file().walk_through(at, name)
        } else {
            directory.file().walk(at, name)
        };
        match walked {
            Ok((file, stat)) => Ok(Some((directory.child(name, file, &stat, share), stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    })
}

/// Refuses a path of too many names, and one whose reply could be longer than a message.
fn bound_path<S: ServerImpl>(
    call: &Call<'_, S>,
    fixed: usize,
    element: usize,
    path: StringArray<'_>,
) -> Result<(), Errno> {
    if path.len() > call.connection.opts().max_walk {
        return Err(Errno::ENAMETOOLONG);
    }
    let worst = element.saturating_mul(path.len()).saturating_add(fixed);
    if worst > call.connection.max_message_size() {
        Err(Errno::EIO)
    } else {
        Ok(())
    }
}

impl Serve for WalkReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let connection = call.connection;
        let mut current = call.control(self.dir_fd)?;
        current.directory()?;
        bound_path(call, 3, size_of::<Inode>(), self.path)?;

        let mut inodes = core::mem::take(&mut call.scratch.inodes);
        inodes.clear();
        let mut pending = connection.fds().pending();
        let mut stable = connection.locks().stable();
        let mut status = WalkResp::SUCCESS;
        let mut names = self.path.iter().peekable();
        while let Some(name) = names.next() {
            let name = Name::new(name)?;
            if current.file_type() == FileType::Symlink {
                status = WalkResp::COMPONENT_SYMLINK;
                break;
            }
            let (id, share) = pending.reserve()?;
            let (server, goes_on) = (connection.backend(), names.peek().is_some());
            let step = step(&mut stable, server, &current, name, share, goes_on)?;
            let Some((fd, stat)) = step else {
                status = WalkResp::COMPONENT_DOES_NOT_EXIST;
                break;
            };
            pending.fill(id, Fd::Control(Arc::clone(&fd)));
            inodes.push(Inode {
                control_fd: id,
                stat,
            });
            current = fd;
        }
        drop(stable);
        let answer = call.reply::<Self>(&WalkResp {
            status,
            inodes: Array::new(&inodes),
        });
        call.scratch.inodes = inodes;
        Ok(answer?.publishing(pending))
    }
}

impl Serve for WalkStatReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let start = call.control(self.dir_fd)?;
        let names = self.path.iter();
        let wants_start = names.clone().next().is_some_and(<[u8]>::is_empty);
        let names = names.skip(usize::from(wants_start));
        if !start.is_directory() && names.clone().next().is_some() {
            return Err(Errno::ENOTDIR);
        }
        for name in names.clone() {
            Name::new(name)?;
        }
        bound_path(call, 2, size_of::<Statx>(), self.path)?;

        let mut stats = core::mem::take(&mut call.scratch.stats);
        stats.clear();
        let result = walk_stat(call, &start, wants_start, names, &mut stats);
        let answer = result.and_then(|()| {
            call.reply::<Self>(&WalkStatResp {
                stats: Array::new(&stats),
            })
        });
        call.scratch.stats = stats;
        answer
    }
}

fn walk_stat<'n, S: ServerImpl>(
    call: &Call<'_, S>,
    start: &Arc<ControlFd<S>>,
    wants_start: bool,
    names: impl Iterator<Item = &'n [u8]> + Clone,
    stats: &mut Vec<Statx>,
) -> Result<(), Errno> {
    if wants_start {
        stats.push(call.fd_shared(start.node(), |at| start.file().stat(at))?);
    }
    if !start.is_directory() {
        return Ok(());
    }
    // All names have been judged, so none is lost here.
    let names = names.filter_map(|name| Name::new(name).ok());
    let (server, mut stable) = (call.connection.backend(), call.connection.locks().stable());
    if server.opts().walk_stat_supported {
        let before = stats.len();
        return stable.pass_through(|stable| {
            stats.truncate(before);
            stable.read(server, start.node(), |at| {
                let mut record = |stat| stats.push(stat);
                start.file().walk_stat(at, &mut names.clone(), &mut record)
            })
        });
    }
    let mut current = Arc::clone(start);
    for name in names {
        let share = call.connection.fds().share()?;
        let Some((fd, stat)) = step(&mut stable, server, &current, name, share, true)? else {
            break;
        };
        stats.push(stat);
        if stat.file_type() == FileType::Symlink {
            break;
        }
        current = fd;
    }
    Ok(())
}
