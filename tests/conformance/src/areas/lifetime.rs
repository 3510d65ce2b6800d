//! Ids, their end, and the order of messages.

use std::collections::HashSet;

use lisafs::Errno;
use lisafs::wire::{FdId, FileType, Mid, MountReq, Request, messages};

use crate::calls::{O_RDONLY, O_RDWR};
use crate::case::Plain;
use crate::line::Via;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("ids.are_never_used_again", never_again),
    Plain::new(
        "ids.of_one_connection_mean_nothing_to_another",
        per_connection,
    ),
    Plain::new("close.of_unknown_ids", close_unknown),
    Plain::new("close.of_an_id_twice", close_twice),
    Plain::new("close.of_65535_ids", close_many),
    Plain::new("close.of_the_root", close_root),
    Plain::new("mount.tells_what_is_supported", supported),
    Plain::new("mount.twice", mount_twice).over(&[Via::Socket]),
    Plain::new("mount.ignores_a_payload", mount_with_payload),
    Plain::new("order.nothing_has_an_id_before_mount", before_mount),
    Plain::new("order.channel_before_mount", channel_before_mount).over(&[Via::Socket]),
    Plain::new("order.unknown_messages", unknown_messages),
    Plain::new("order.unsupported_messages", unsupported_messages),
    Plain::new("tree.is_one_for_all_connections", one_tree).needs(&[Need::SharedTree]),
];

fn never_again(s: &mut Session, d: FdId) -> Verdict {
    let mut seen = HashSet::from([s.root.control_fd, d]);
    for round in 0..100 {
        let created = s.create(d, format!("f{round}").as_bytes(), O_RDWR)?;
        let open = s.open(created.inode.control_fd, O_RDONLY)?.id;
        // Those of a walk that fails are not used again either.
        refused(s.walk(d, &[b"."]), Errno::EINVAL)?;
        let ids = [created.inode.control_fd, created.open, open];
        for id in ids {
            ensure!(id != FdId::INVALID, "an id of 0");
            ensure!(seen.insert(id), "{id} once more");
        }
        s.close(&ids)?;
    }
    Ok(())
}

fn per_connection(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let mut other = s.attach(false)?;
    let theirs: Vec<_> = (0..10)
        .map(|_| s.open(f, O_RDONLY))
        .collect::<Result<_, _>>()?;
    for opened in &theirs {
        if opened.id > other.scratch {
            refused(other.read(opened.id, 0, 1), Errno::EBADF)?;
        }
    }
    // The end of one connection is not the end of the other's ids.
    drop(other);
    s.stat(f)?;
    Ok(())
}

fn close_unknown(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    s.close(&[])?;
    s.close(&[FdId::INVALID, FdId(u64::MAX), FdId(1 << 40)])?;
    s.close(&[FdId(u64::MAX), f])?;
    refused(s.stat(f), Errno::EBADF)
}

fn close_twice(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let g = s.find(d, b"f")?.control_fd;
    s.close(&[f, f])?;
    s.close(&[f])?;
    refused(s.stat(f), Errno::EBADF)?;
    s.stat(g)?;
    Ok(())
}

fn close_many(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let mut ids = vec![FdId(u64::MAX); 65_534];
    ids.push(f);
    s.close(&ids)?;
    refused(s.stat(f), Errno::EBADF)
}

fn close_root(s: &mut Session, d: FdId) -> Verdict {
    let root = s.root.control_fd;
    s.close(&[root])?;
    refused(s.stat(root), Errno::EBADF)?;
    s.file(d, b"f", b"")?;
    Ok(())
}

fn supported(s: &mut Session, _: FdId) -> Verdict {
    for mid in [Mid::MOUNT, Mid::CHANNEL, Mid::FSTAT, Mid::WALK, Mid::CLOSE] {
        ensure!(s.supported.contains(mid), "{mid} is not offered");
    }
    ensure!(
        !s.supported.contains(Mid::ERROR),
        "errors are offered as a message"
    );
    ensure!(
        s.max_message_size() >= 1 << 16,
        "{} bytes are few",
        s.max_message_size()
    );
    same!(
        s.root.stat.file_type(),
        FileType::Directory,
        "type of the root"
    );
    Ok(())
}

fn mount_twice(s: &mut Session, _: FdId) -> Verdict {
    let first = s.root;
    let second = s.mount()?.root;
    ensure!(first.control_fd != second.control_fd, "one id for both");
    same!(first.stat.ino, second.stat.ino, "the root");
    s.close(&[first.control_fd])?;
    s.stat(second.control_fd)?;
    Ok(())
}

/// The path is not the client's to choose.
fn mount_with_payload(s: &mut Session, _: FdId) -> Verdict {
    let root = s.root.stat.ino;
    let answer = s.raw(MountReq::MID, b"\x05\0/etc/")?;
    same!(answer.mid, Mid::MOUNT, "the number of the reply");
    let id = answer
        .body
        .first_chunk()
        .map(|id| FdId(u64::from_le_bytes(*id)));
    let again = s.stat(id.ok_or(Errno::EIO)?)?;
    same!(again.ino, root, "the root");
    Ok(())
}

fn before_mount(s: &mut Session, _: FdId) -> Verdict {
    // The connection lives as long as its socket does.
    let mut socket = s.unmounted()?;
    let mut channel = match s.via() {
        Via::Socket => None,
        Via::Channel => Some(socket.channel()?),
    };
    let caller = channel.as_mut().unwrap_or(&mut socket);
    refused(caller.stat(FdId(1)), Errno::EBADF)?;
    refused(caller.walk(FdId(1), &[]), Errno::EBADF)?;
    refused(caller.open(FdId(1), O_RDONLY), Errno::EBADF)?;
    refused(caller.mkdir(FdId(1), b"x"), Errno::EBADF)?;
    caller.close(&[FdId(1)])?;
    Ok(())
}

fn channel_before_mount(s: &mut Session, _: FdId) -> Verdict {
    let mut socket = s.unmounted()?;
    let mut channel = socket.channel()?;
    refused(channel.stat(FdId(1)), Errno::EBADF)?;
    let root = socket.mount()?.root.control_fd;
    channel.stat(root)?;
    Ok(())
}

fn unknown_messages(s: &mut Session, d: FdId) -> Verdict {
    let last = messages().map(|message| message.mid.0).max().unwrap_or(0);
    for mid in [0, last + 1, 99, 255, 256, 999, u16::MAX] {
        s.raw(Mid(mid), &[])?.refused(Errno::EOPNOTSUPP)?;
        s.raw(Mid(mid), &[0xff; 100])?.refused(Errno::EOPNOTSUPP)?;
    }
    s.stat(d)?;
    Ok(())
}

fn unsupported_messages(s: &mut Session, _: FdId) -> Verdict {
    for message in messages().filter(|message| message.mid != Mid::FLUSH) {
        if !s.supported.contains(message.mid) {
            s.raw(message.mid, &[])?.refused(Errno::EOPNOTSUPP)?;
        }
    }
    Ok(())
}

fn one_tree(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let mut other = s.attach(false)?;
    let scratch = other.scratch;
    let theirs = other.find(scratch, b"f")?.control_fd;
    other.unlink(scratch, b"f")?;
    refused(s.link(d, f, b"g"), Errno::EINVAL)?;
    refused(other.link(scratch, theirs, b"g"), Errno::EINVAL)?;
    // What one has closed the other still has.
    s.close(&[f])?;
    same!(other.stat(theirs)?.nlink, 0, "links");
    drop(other);
    s.stat(d)?;
    Ok(())
}
