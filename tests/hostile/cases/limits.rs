//! Every limit, one below it, at it, and one above.

use std::fs;
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{ChannelReq, CloseReq, FdId, Request};
use lisafs_conformance::{Caller, Stop, Verdict, ensure, refused, same};

use crate::case::Case;
use crate::process::within;
use crate::stage::Stage;
use crate::window::Window;

pub(super) const NO_FLAG: &str = "it has no such flag";

pub(super) const CASES: &[Case] = &[
    Case::new("ids_at_the_limit", &["A7"], ids)
        .options(&["--max-ids", "20"])
        .ours_only(NO_FLAG),
    Case::new("descriptors_at_the_limit", &["A7"], descriptors)
        .options(&["--max-fds", "20"])
        .ours_only(NO_FLAG),
    Case::new("channels_at_the_limit", &["A5"], channels)
        .options(&["--max-channels", "3"])
        .ours_only(NO_FLAG),
    Case::new("connections_at_the_limit", &["A7"], connections)
        .options(&["--max-connections", "3"])
        .ours_only(NO_FLAG),
    Case::new("message_size_at_the_limit", &["A1"], message_size),
    Case::new(
        "message_size_at_a_limit_of_ours",
        &["A1", "A2-2"],
        smaller_messages,
    )
    .options(&["--max-message-size", "8192"])
    .ours_only(NO_FLAG),
    Case::new("names_of_a_walk_at_the_limit", &["A8"], names_of_a_walk)
        .options(&["--max-walk", "3"])
        .ours_only(NO_FLAG),
    Case::new(
        "walk_length_at_the_limit",
        &["A7", "A8", "A11"],
        walk_length,
    ),
    Case::new(
        "directory_replies_at_the_limit",
        &["A11", "A2-9"],
        directory,
    ),
    Case::new("attribute_sizes_at_the_limit", &["A11", "A2-11"], xattr),
];

/// Mount has the first of the ids.
fn ids(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    client.mkdir(root, b"d")?;
    let mut held = Vec::new();
    for number in 3..=20 {
        // 19 is one below, 20 is the limit.
        let found = client.find(root, b"d")?;
        held.push(found.control_fd);
        same!(held.len() + 2, number, "ids");
    }
    refused(client.find(root, b"d"), Errno::EMFILE)?;
    refused(client.open(held[0], 0), Errno::EMFILE)?;
    refused(client.mkdir(root, b"e"), Errno::EMFILE)?;
    ensure!(
        !stage.root.join("e").exists(),
        "a refused MkdirAt has made a directory"
    );
    client.close(&held[..1])?;
    held[0] = client.find(root, b"d")?.control_fd;
    refused(client.find(root, b"d"), Errno::EMFILE)?;
    // A walk of two with room for one is refused whole.
    fs::create_dir(stage.root.join("d/d"))?;
    client.close(&held[..1])?;
    refused(client.walk(root, &[b"d", b"d"]), Errno::EMFILE)?;
    client.find(root, b"d")?;
    stage.count_tries(24);
    Ok(())
}

/// Opens a file until the server refuses, which it has to do when there are `most` at the latest.
pub(super) fn open_all(caller: &mut Caller, file: FdId, most: usize) -> Result<Vec<FdId>, Stop> {
    let mut open = Vec::new();
    let errno = loop {
        match caller.open(file, 0) {
            Ok(opened) => open.push(opened.id),
            Err(error) => break error.errno(),
        }
        if open.len() > most {
            return Err(Stop::failed(format_args!("{} open files", open.len())));
        }
    };
    match errno {
        Errno::EMFILE => Ok(open),
        other => Err(Stop::failed(format_args!("{other:?} for too many"))),
    }
}

/// An open file has one, and the root.
fn descriptors(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    fs::write(stage.root.join("file"), "content")?;
    // The handle of a file that is younger than a tick of the clock keeps its descriptor, and gives it
    // up to the next open file later: there would be room for one more than was found.
    thread::sleep(Duration::from_millis(50));
    let file = client.find(root, b"file")?.control_fd;
    let mut open = open_all(&mut client, file, 20)?;
    // All but that of the root: the handle has none any more.
    same!(open.len(), 19, "open files");
    for _ in 0..3 {
        let last: Vec<_> = open.pop().into_iter().collect();
        client.close(&last)?;
        // One below, and at the limit again.
        open.push(client.open(file, 0)?.id);
        refused(client.open(file, 0), Errno::EMFILE)?;
        let created = client.create(root, b"new", 0);
        refused(created, Errno::EMFILE)?;
        ensure!(
            !stage.root.join("new").exists(),
            "a refused OpenCreateAt has made a file"
        );
        stage.count_tries(3);
    }
    Ok(())
}

fn channels(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(client.channel()?);
    }
    let above = client.raw(ChannelReq::MID, &[])?.errno();
    same!(above, Some(Errno::ENOMEM), "a fourth channel");
    for channel in &mut open {
        channel.stat(root)?;
    }
    // Those that have ended leave their place.
    open.pop();
    let mut again = Window::open_again(&mut client)?.connect(&client)?;
    let above = client.raw(ChannelReq::MID, &[])?.errno();
    same!(above, Some(Errno::ENOMEM), "a fourth channel again");
    let length = again.send_recv(0);
    ensure!(length.is_err(), "an empty datagram was answered");
    stage.count_tries(5);
    Ok(())
}

fn connections(stage: &mut Stage) -> Verdict {
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(stage.client()?);
    }
    let mut above = stage.stream()?;
    above.set_read_timeout(Some(Duration::from_secs(10)))?;
    let turned_away = match above.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    ensure!(turned_away, "a fourth client is kept");
    for client in &mut clients {
        let root = client.root.control_fd;
        client.stat(root)?;
    }
    clients.pop();
    ensure!(
        within(Duration::from_secs(10), || stage.client().is_ok()),
        "no place was left"
    );
    stage.count_tries(5);
    Ok(())
}

fn message_size(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let max = client.max_message_size() as usize;
    for (len, errno) in [(max - 1, None), (max, None), (max + 1, Some(Errno::EIO))] {
        // A Close of nothing, and bytes behind it.
        let answer = client.raw(CloseReq::MID, &vec![0; len])?;
        same!(answer.errno(), errno, "a message of {len} bytes");
        stage.count_tries(1);
    }
    client.stat(root)?;
    // Writes and reads, whose data are what is large.
    let open = client
        .create(root, b"file", libc::O_RDWR.cast_unsigned())?
        .open;
    client.write(open, 0, &vec![1; max - 20])?;
    same!(client.read(open, 0, max - 8)?.len(), max - 20, "bytes read");
    refused(client.read(open, 0, max - 7), Errno::ENOBUFS)?;
    Ok(())
}

fn smaller_messages(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    same!(client.max_message_size(), 8192, "bytes are announced");
    let root = client.root.control_fd;
    // Over a channel too, whose window is as small.
    let mut channel = client.channel()?;
    let long = [&b"../"[..]; 1365].concat();
    let link = channel.symlink(root, b"link", &long)?.control_fd;
    same!(channel.readlink(link)?, long, "a target");
    let open = channel
        .create(root, b"big", libc::O_RDWR.cast_unsigned())?
        .open;
    channel.write(open, 0, &[1; 8192 - 20])?;
    same!(channel.read(open, 0, 8192 - 8)?.len(), 8192 - 20, "bytes");
    refused(channel.read(open, 0, 8192 - 7), Errno::ENOBUFS)?;
    for number in 0..100 {
        fs::write(stage.root.join(format!("{number:0>255}")), [])?;
    }
    let listed = channel.open(root, 0)?.id;
    same!(channel.list(listed, i32::MAX)?.len(), 102, "entries");
    message_size(stage)
}

/// Of those that exist and of those that do not.
fn names_of_a_walk(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let mut dir = root;
    for _ in 0..3 {
        dir = client.mkdir(dir, b"d")?.control_fd;
    }
    for len in [2, 3] {
        let path = vec![&b"d"[..]; len];
        same!(client.walk(root, &path)?.inodes.len(), len, "inodes");
        same!(client.walk_stat(root, &path)?.len(), len, "files");
        stage.count_tries(2);
    }
    for len in [4, 5, 1000] {
        let path = vec![&b"d"[..]; len];
        refused(client.walk(root, &path), Errno::ENAMETOOLONG)?;
        refused(client.walk_stat(root, &path), Errno::ENAMETOOLONG)?;
        stage.count_tries(2);
    }
    Ok(())
}

/// As many inodes as fit in a reply. None of them stays behind when there is one too many.
fn walk_length(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let max = client.max_message_size() as usize;
    let fit = (max - 3) / 152;
    let mut dir = root;
    for _ in 0..3 {
        dir = client.mkdir(dir, b"d")?.control_fd;
    }
    for (len, refusal) in [(fit - 1, None), (fit, None), (fit + 1, Some(Errno::EIO))] {
        let path = vec![&b"d"[..]; len];
        match (client.walk(root, &path), refusal) {
            (Ok(walked), None) => {
                same!(walked.inodes.len(), 3, "of three levels");
                let ids: Vec<_> = walked.inodes.iter().map(|inode| inode.control_fd).collect();
                client.close(&ids)?;
            }
            (result, Some(errno)) => refused(result, errno)?,
            (Err(why), None) => return Err(why.into()),
        }
        let fit_stats = (max - 2) / 144;
        let stats = client.walk_stat(root, &vec![&b"d"[..]; len + fit_stats - fit]);
        match (stats, refusal) {
            (Ok(stats), None) => same!(stats.len(), 3, "of three levels"),
            (result, Some(errno)) => refused(result, errno)?,
            (Err(why), None) => return Err(why.into()),
        }
        stage.count_tries(2);
    }
    Ok(())
}

/// Whatever is asked for, a reply fits in a message, ends at an entry, and loses none.
fn directory(stage: &mut Stage) -> Verdict {
    let entries = 8000;
    for number in 0..entries {
        // Of the greatest length, so that the replies are.
        fs::write(stage.root.join(format!("{number:0>255}")), [])?;
    }
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let open = client.open(root, 0)?.id;
    let max = i32::try_from(client.max_message_size()).unwrap();
    for count in [300, 65_536, max - 1, max, max + 1, i32::MAX] {
        let all = client.list(open, count)?;
        same!(all.len(), entries, "entries with a count of {count}");
        stage.count_tries(1);
    }
    // What cannot be negated rewinds as others do.
    let first = client.entries(open, i32::MIN)?;
    ensure!(!first.is_empty(), "nothing from the start");
    Ok(())
}

/// A value has at most 65,535 bytes on the wire, and never another length than it was sent with.
fn xattr(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let file = client.file(root, b"file", b"")?;
    let too_much = [nix::Error::ENOSPC, nix::Error::E2BIG, nix::Error::EDQUOT].map(Errno::from);
    let mut stored = 0;
    for len in [1, 255, 4000, 65_534, 65_535] {
        let since = Instant::now();
        match client.set_xattr(file, b"user.value", &vec![b'x'; len], 0) {
            Ok(()) => {
                stored = len;
                let value = client.get_xattr(file, b"user.value", 0)?;
                same!(value.len(), len, "bytes of the value");
            }
            // The file system has a limit of its own.
            Err(Error::Remote(errno)) if too_much.contains(&errno) => {}
            Err(other) => return Err(other.into()),
        }
        ensure!(since.elapsed() < Duration::from_secs(10), "it took long");
        stage.count_tries(1);
    }
    ensure!(stored >= 255, "no value was stored");
    let stored = u32::try_from(stored).unwrap();
    refused(
        client.get_xattr(file, b"user.value", stored - 1),
        Errno::ERANGE,
    )?;
    for buf_size in [stored, stored + 1, 0, 65_536, 65_537, u32::MAX] {
        let value = client.get_xattr(file, b"user.value", buf_size)?;
        same!(value.len(), stored as usize, "with room for {buf_size}");
        stage.count_tries(1);
    }
    for size in [0, 65_536, 65_537, u64::MAX] {
        same!(
            client.list_xattr(file, size)?.len(),
            1,
            "names with room for {size}"
        );
    }
    Ok(())
}
