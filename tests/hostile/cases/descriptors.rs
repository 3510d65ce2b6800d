//! Descriptors: those that a client sends, and too many of them.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use lisafs::wire::{Mid, OpenAtReq, Request, StatReq};
use lisafs_conformance::{Verdict, encoded, ensure, same};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::limits::open_all;
use super::sweep::request_with;
use crate::case::Case;
use crate::lingering::{Lingering, beside};
use crate::process::{PATIENCE, within};
use crate::stage::Stage;
use crate::window::{Window, datagram, exchange, mid_of};

pub(super) const CASES: &[Case] = &[
    Case::new("descriptors_sent_with_frames", &["A9"], sent_with_frames),
    Case::new(
        "descriptors_sent_over_the_descriptor_channel",
        &["A9"],
        sent_sideways,
    ),
    Case::new(
        "descriptors_that_hang_when_they_are_closed",
        &["A9"],
        lingering,
    )
    .options(&["--max-connections", "3"])
    .ours_only(NO_LIMIT),
    Case::new("requests_that_announce_descriptors", &["A9"], announced),
    Case::new("more_files_than_descriptors", &["A7", "A2-15"], exhausted)
        .options(&["--max-fds", "100"])
        .ours_only(NO_LIMIT),
    Case::new("a_million_files_held_at_once", &["A7"], held)
        .options(&["--max-fds", MOST, "--max-ids", "2000000"])
        .ours_only(NO_LIMIT),
];

const NO_LIMIT: &str = "it has no such limit: it would be this machine's";

/// How many descriptors [`held`] leaves to the client.
const MOST: &str = "4096";

/// Whether nobody has the reader of a pipe any more.
fn is_unread(writer: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(writer.as_fd(), PollFlags::empty())];
    let timeout = PollTimeout::from(5000_u16);
    let ready = poll(&mut polled, timeout).unwrap_or(0);
    ready == 1
        && polled[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// Descriptors that come with a frame are refused by the kernel or closed, however many there are.
fn sent_with_frames(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let stream = stage.stream()?;
    let (reader, writer) = nix::unistd::pipe()?;
    let frame = [
        &8_u32.to_le_bytes()[..],
        &Mid::FSTAT.0.to_le_bytes(),
        &[0, 0],
        &[0xff; 8],
    ]
    .concat();
    for count in [1, 2, 253] {
        let fds: Vec<RawFd> = vec![reader.as_raw_fd(); count];
        for _ in 0..20 {
            let gift = [ControlMessage::ScmRights(&fds)];
            let iov = [IoSlice::new(&frame)];
            match sendmsg::<()>(stream.as_raw_fd(), &iov, &gift, MsgFlags::empty(), None) {
                Ok(_) | Err(nix::Error::EPERM) => {}
                Err(other) => return Err(other.into()),
            }
            stage.count_tries(1);
        }
    }
    // The server is done with what was sent when it has answered what came behind it.
    (&stream).write_all(&frame)?;
    let mut answer = [0; 12];
    std::io::Read::read_exact(&mut &stream, &mut answer)?;
    client.stat(root)?;
    drop(reader);
    // In a queue it would be held, too: the connection is over when it has ended.
    drop(stream);
    ensure!(
        is_unread(&writer),
        "somebody still has a descriptor that was sent"
    );
    Ok(())
}

/// Who closes the socket that they were sent to is held up, or nobody where the kernel refuses them: sent
/// before the client is accepted, by as many as are served and more that are turned away.
fn lingering(stage: &mut Stage) -> Verdict {
    let mut sent: Vec<_> = (0..6).map(|_| Lingering::new()).collect();
    let count = sent.len();
    stage.while_stopped(|| -> Verdict {
        for lingering in &mut sent {
            match lingering.leave_in(stage.stream()?) {
                Ok(()) => {}
                Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {}
                Err(why) => return Err(why.into()),
            }
        }
        Ok(())
    })?;
    stage.count_tries(count as u64);
    // They leave their places, as who has a thread stuck in the host.
    beside(sent, || {
        let mut others = Vec::new();
        let all_served = within(PATIENCE, || {
            others.extend(stage.client());
            others.len() == 3
        });
        ensure!(all_served, "{} others are served", others.len());
        for other in &mut others {
            let root = other.root.control_fd;
            other.stat(root)?;
        }
        Ok(())
    })
}

fn sent_sideways(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let window = Window::open(&mut client)?;
    let mut channel = window.connect(&client)?;
    let (reader, writer) = nix::unistd::pipe()?;
    let mut sent = 0;
    for _ in 0..100 {
        let fds = [reader.as_raw_fd()];
        let gift = [ControlMessage::ScmRights(&fds)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let number = window.gifts().as_raw_fd();
        match sendmsg::<()>(number, &[IoSlice::new(b"x")], &gift, flags, None) {
            Ok(_) => sent += 1,
            Err(_) => break,
        }
    }
    if stage.is_ours() {
        same!(sent, 0, "messages that the server's end has taken");
    }
    let body = encoded(&StatReq { fd: root })?;
    // Such as would fetch them, in gVisor's server.
    let reply = exchange(&mut channel, &datagram(StatReq::MID, 4, &body))?;
    same!(mid_of(&reply), Some(Mid::FSTAT), "the reply");
    drop(reader);
    drop(channel);
    drop(window);
    drop(client);
    ensure!(
        is_unread(&writer),
        "somebody still has a descriptor that was sent"
    );
    Ok(())
}

/// What a header says about descriptors of a request is nothing to the server.
fn announced(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let file = client.file(root, b"file", b"content")?;
    let window = Window::open(&mut client)?;
    let mut channel = window.connect(&client)?;
    let body = encoded(&OpenAtReq { fd: file, flags: 0 })?;
    for num_fds in [0, 1, 2, 255] {
        let reply = exchange(&mut channel, &datagram(Mid::OPEN_AT, num_fds, &body))?;
        same!(
            mid_of(&reply),
            Some(Mid::OPEN_AT),
            "OpenAt that announces {num_fds}"
        );
        let donated = window.take_gift();
        ensure!(donated.is_some(), "no descriptor came");
        ensure!(window.take_gift().is_none(), "more than one came");
        stage.count_tries(1);
    }
    Ok(())
}

/// Makes directories with numbers for names, and files in them with numbers for names.
pub(super) fn make_files(root: &Path, directories: u64, files: u64) -> io::Result<()> {
    for outer in 0..directories {
        let path = root.join(outer.to_string());
        fs::create_dir(&path)?;
        for inner in 0..files {
            File::create(path.join(inner.to_string()))?;
        }
    }
    Ok(())
}

/// Files that a client knows cost no descriptor each, and all of them can be used.
fn held(stage: &mut Stage) -> Verdict {
    let directories = stage.count(20, 1000);
    let files = 1000;
    make_files(&stage.root, directories, files)?;
    // Younger than a tick of the clock they could not be told apart for good.
    thread::sleep(Duration::from_millis(50));
    stage.allow_memory(directories * files * 1024);
    let most = MOST.parse::<usize>().unwrap() + stage.open_descriptors();
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let mut channel = client.channel()?;
    let mut known = Vec::new();
    let mut peak = 0;
    for outer in 0..directories {
        let outer = channel.find(root, outer.to_string().as_bytes())?;
        for inner in 0..files {
            let inner = channel.find(outer.control_fd, inner.to_string().as_bytes())?;
            known.push((inner.control_fd, inner.stat.ino));
        }
        peak = peak.max(stage.open_descriptors());
    }
    // Far apart, so that none of them is still open from before.
    for (id, ino) in known.iter().step_by(977) {
        let open = channel.open(*id, 0)?;
        same!(channel.stat(open.id)?.ino, *ino, "the inode of a file");
        channel.close(&[open.id])?;
    }
    peak = peak.max(stage.open_descriptors());
    // The sockets, the window and the memory of the connection and its channel are not the back end's.
    ensure!(peak <= most + 8, "{peak} descriptors are open, not {most}");
    stage.count_tries(directories * files);
    Ok(())
}

/// What a client can have open is bounded, and its end gives all of it back.
fn exhausted(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let file = client.file(root, b"file", b"content")?;
    let mut open = open_all(&mut client, file, 100)?;
    // Every message that needs another one says so, and leaves nothing half done.
    for message in lisafs::wire::messages() {
        let needs_none = [Mid::ERROR, Mid::MOUNT, Mid::CHANNEL, Mid::CLOSE];
        if !needs_none.contains(&message.mid) {
            client.raw(message.mid, &request_with(message, root, None)?)?;
            stage.count_tries(1);
        }
    }
    let one = open.pop().into_iter().collect::<Vec<_>>();
    client.close(&one)?;
    open.push(client.open(file, 0)?.id);
    // Others have their own.
    let mut other = stage.client()?;
    let root = other.root.control_fd;
    let theirs = other.find(root, b"file")?.control_fd;
    other.open(theirs, 0)?;
    Ok(())
}
