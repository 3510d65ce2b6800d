//! Mount and Channel: what a client starts with.

use std::sync::Arc;
use std::time::Duration;

use crate::Errno;
use crate::server::backend::{Mounted, ServerImpl};
use crate::server::call::{Answer, Call, Gift};
use crate::server::dispatch::Serve;
use crate::server::fd::ControlFd;
use crate::server::fds::Fd;
use crate::wire::{Array, ChannelReq, ChannelResp, Inode, MountReq, MountResp};

impl Serve for MountReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let connection = call.connection;
        let server = connection.backend();
        let mut pending = connection.fds().pending();
        let (id, share) = pending.reserve()?;
        let mut stable = connection.locks().stable();
        let mut node = Arc::clone(connection.tree().root());
        for name in connection.opts().mount_names()? {
            node = stable.read(server, &node, |at| {
                if at.node().is_deleted() {
                    Err(Errno::ENOENT)
                } else {
                    Ok(node.child(name))
                }
            })?;
        }
        let (root, stat, donation) = stable.read(server, &node, |at| {
            if at.node().is_deleted() {
                return Err(Errno::ENOENT);
            }
            let Mounted {
                control,
                stat,
                donation,
            } = server.mount(at)?;
            let root = ControlFd::new(control, stat.file_type(), Arc::clone(&node), share);
            Ok((root, stat, donation))
        })?;
        drop(stable);
        pending.fill(id, Fd::Control(root));
        let root_fd = donation.filter(|_| connection.donates_directories());
        let answer = call.reply::<Self>(&MountResp {
            root: Inode {
                control_fd: id,
                stat,
            },
            max_message_size: u32::try_from(connection.max_message_size())
                .map_err(|_| Errno::EINVAL)?,
            supported_mids: Array::new(connection.supported()),
        })?;
        Ok(answer
            .publishing(pending)
            .donating(root_fd.map_or(Gift::None, Gift::Optional)))
    }
}

impl Serve for ChannelReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let channel = call.connection.channels().open(call.connection)?;
        let answer = call.reply::<Self>(&ChannelResp {
            data_offset: i64::try_from(channel.window.offset).map_err(|_| Errno::EOVERFLOW)?,
            data_length: channel.window.length,
        })?;
        let closer = channel.closer;
        Ok(answer
            .donating(Gift::Required(vec![channel.memfd, channel.socket]))
            // Nobody will ever connect then, and the channel's slot must not stay taken.
            .or_undo(move || {
                closer.shutdown(Duration::ZERO);
            }))
    }
}
