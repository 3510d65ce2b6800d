//! Ids that are guessed, used by others, and closed by everybody at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::FdId;
use lisafs_conformance::{Caller, Stop, Verdict, ensure, same};

use super::liveness::at_once;
use crate::case::Case;
use crate::stage::Stage;

pub(super) const CASES: &[Case] = &[
    Case::new("ids_guessed_from_a_second_channel", &["A12"], guessed)
        .options(&["--host-uds", "all"]),
    Case::new("ids_of_another_connection", &["A12"], foreign),
    Case::new("one_id_closed_by_two_channels", &["A30"], closed_twice),
    Case::new(
        "ids_closed_while_they_are_in_use",
        &["A12", "A30"],
        closed_in_use,
    ),
    Case::new("many_ids", &["A7", "A2-15"], many),
    Case::new("many_ids_of_one_file", &["A7", "A18"], of_one_file)
        .options(&["--max-fds", "64"])
        .ours_only("it opens each file that is walked to"),
];

const O_RDWR: u32 = libc::O_RDWR.cast_unsigned();

/// One channel makes objects, the other closes and uses the ids that they are about to get. What the
/// first one is told of is its own, or gone; it is never something else.
fn guessed(stage: &mut Stage) -> Verdict {
    let rounds = stage.count(1000, 50_000);
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let mut maker = client.channel()?;
    let mut guesser = client.channel()?;
    let over = AtomicBool::new(false);
    let first = maker.mkdir(root, b"dir")?.control_fd;
    let latest = AtomicU64::new(first.0 + 1);
    // What is behind each id, as the maker was told, and as the guesser has seen it.
    let (mut made, mut seen) = (HashMap::new(), HashMap::new());
    thread::scope(|scope| {
        let guessing = scope.spawn(|| -> Verdict {
            while !over.load(Relaxed) {
                let next = latest.load(Relaxed);
                let guesses: Vec<_> = (0..6).map(|ahead| FdId(next + ahead)).collect();
                guesser.close(&guesses)?;
                for id in guesses {
                    match guesser.stat(id) {
                        Ok(stat) => drop(seen.insert(id, (stat.ino, stat.mode))),
                        Err(Error::Remote(Errno::EBADF | Errno::EINVAL)) => {}
                        Err(other) => return Err(other.into()),
                    }
                    let _ = guesser.write(id, 0, b"guessed");
                }
            }
            Ok(())
        });
        let all = (0..rounds).try_for_each(|_| make(&mut maker, first, &latest, &mut made));
        over.store(true, Relaxed);
        let guessed = guessing
            .join()
            .map_err(|_| Stop::failed("the guesser panicked"))?;
        all.and(guessed)
    })?;
    // Never another object than the one that the id was made for.
    for (id, (ino, mode)) in seen {
        match made.get(&id) {
            Some(own) => same!(ino, *own, "the file behind a guessed id"),
            // A socket that was gone before the maker was told of it.
            None => same!(
                u32::from(mode) & libc::S_IFMT,
                libc::S_IFSOCK,
                "what is behind an id that the maker does not know"
            ),
        }
    }
    stage.count_tries(rounds);
    Ok(())
}

/// Whether a request failed as it may when somebody else closes what it has just made.
fn own_or_gone<T>(result: Result<T, Error>) -> Result<Option<T>, Stop> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(Error::Remote(Errno::EBADF)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

fn make(
    maker: &mut Caller,
    dir: FdId,
    latest: &AtomicU64,
    made: &mut HashMap<FdId, u64>,
) -> Verdict {
    // The guesser has no way to the directory's own id, nor to its name.
    let created = maker.create(dir, b"file", O_RDWR)?;
    latest.store(created.open.0 + 1, Relaxed);
    let ino = created.inode.stat.ino;
    made.extend([(created.open, ino), (created.inode.control_fd, ino)]);
    if own_or_gone(maker.write(created.open, 0, b"content"))?.is_some()
        && let Some(read) = own_or_gone(maker.read(created.open, 0, 100))?
    {
        // `guessed` is a write of the client's own, too.
        ensure!(
            read == b"content" || read == b"guessed",
            "{read:?} is no content of the file"
        );
    }
    if let Some(stat) = own_or_gone(maker.stat(created.inode.control_fd))? {
        same!(stat.ino, created.inode.stat.ino, "the file behind the id");
    }
    let walked = maker.walk(dir, &[b"file"])?;
    same!(walked.inodes.len(), 1, "inodes of one name");
    made.insert(walked.inodes[0].control_fd, ino);
    same!(
        walked.inodes[0].stat.ino,
        created.inode.stat.ino,
        "the file walked to"
    );
    if let Some(bound) = own_or_gone(maker.bind(dir, b"socket", 1))? {
        latest.store(bound.id.0 + 1, Relaxed);
        let ino = bound.inode.stat.ino;
        made.extend([(bound.id, ino), (bound.inode.control_fd, ino)]);
        own_or_gone(maker.listen(bound.id, 1))?;
        maker.unlink(dir, b"socket")?;
        maker.close(&[bound.id, bound.inode.control_fd])?;
    }
    maker.unlink(dir, b"file")?;
    maker.close(&[
        created.open,
        created.inode.control_fd,
        walked.inodes[0].control_fd,
    ])?;
    Ok(())
}

/// Whatever one connection has, the numbers mean nothing to another.
fn foreign(stage: &mut Stage) -> Verdict {
    let mut owner = stage.client()?;
    let root = owner.root.control_fd;
    let mut highest = root;
    for number in 0..100_u32 {
        let created = owner.create(root, format!("{number}").as_bytes(), O_RDWR)?;
        owner.write(created.open, 0, b"content")?;
        highest = highest.max(created.open).max(created.inode.control_fd);
    }
    let mut thief = stage.client()?;
    let own = thief.root.control_fd;
    for id in (0..=highest.0 + 10).map(FdId).filter(|id| *id != own) {
        for refused in [
            thief.stat(id).map(drop),
            thief.read(id, 0, 10).map(drop),
            thief.write(id, 0, b"stolen"),
            thief.open(id, 0).map(drop),
            thief.walk(id, &[]).map(drop),
        ] {
            match refused {
                Err(Error::Remote(Errno::EBADF)) => {}
                other => return Err(Stop::failed(format_args!("{other:?} for {id}"))),
            }
        }
        thief.close(&[id])?;
        stage.count_tries(1);
    }
    owner.stat(highest)?;
    Ok(())
}

fn closed_twice(stage: &mut Stage) -> Verdict {
    let rounds = stage.count(500, 20_000);
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    client.file(root, b"file", b"content")?;
    let mut channels = [client.channel()?, client.channel()?];
    for _ in 0..rounds {
        let ids: Vec<_> = (0..4)
            .map(|_| Ok(client.find(root, b"file")?.control_fd))
            .collect::<Result<_, Error>>()?;
        let ids = &ids;
        thread::scope(|scope| {
            let closing: Vec<_> = channels
                .iter_mut()
                .map(|channel| scope.spawn(move || channel.close(ids)))
                .collect();
            closing.into_iter().try_for_each(|closing| {
                let closed = closing.join().map_err(|_| Stop::failed("it panicked"))?;
                Ok::<_, Stop>(closed?)
            })
        })?;
        for id in ids {
            match client.stat(*id) {
                Err(Error::Remote(Errno::EBADF)) => {}
                other => return Err(Stop::failed(format_args!("{other:?} after two closes"))),
            }
        }
        stage.count_tries(1);
    }
    Ok(())
}

/// A read and a close of the same id at once: the data or EBADF.
fn closed_in_use(stage: &mut Stage) -> Verdict {
    let rounds = stage.count(500, 20_000);
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let content = vec![7; 100_000];
    let file = client.file(root, b"file", &content)?;
    let mut reader = client.channel()?;
    let mut closer = client.channel()?;
    for _ in 0..rounds {
        let open = client.open(file, 0)?.id;
        thread::scope(|scope| {
            let closing = scope.spawn(|| closer.close(&[open]));
            let read = reader.read(open, 0, content.len());
            let closed = closing.join().map_err(|_| Stop::failed("it panicked"))?;
            closed?;
            match read {
                Ok(read) => ensure!(read == content, "not what is in the file"),
                Err(Error::Remote(Errno::EBADF)) => {}
                Err(other) => return Err(other.into()),
            }
            Ok(())
        })?;
        stage.count_tries(1);
    }
    Ok(())
}

/// As many objects as a client likes, in one directory: the end of its connection is the end of them.
fn many(stage: &mut Stage) -> Verdict {
    let files = stage.count(2000, 20_000);
    for number in 0..files {
        std::fs::write(stage.root.join(format!("{number}")), [])?;
    }
    for _ in 0..2 {
        let mut client = stage.client()?;
        let root = client.root.control_fd;
        for number in 0..files {
            match client.walk(root, &[format!("{number}").as_bytes()]) {
                Ok(walked) => same!(walked.inodes.len(), 1, "inodes of one name"),
                Err(Error::Remote(Errno::EMFILE)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        stage.count_tries(files);
    }
    Ok(())
}

/// As many ids as a client likes, all of one file, which loses its name in both ways: nobody waits for
/// that any longer than for another, and no id is lost.
fn of_one_file(stage: &mut Stage) -> Verdict {
    let ids = stage.count(20_000, 900_000);
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    for by_rename in [false, true] {
        client.file(root, b"file", b"content")?;
        let known: Vec<_> = (0..ids)
            .map(|_| Ok(client.find(root, b"file")?.control_fd))
            .collect::<Result<_, Error>>()?;
        if by_rename {
            client.file(root, b"other", b"other")?;
            at_once("RenameAt", || {
                client.rename((root, b"other"), (root, b"file"))
            })??;
        } else {
            at_once("UnlinkAt", || client.unlink(root, b"file"))??;
        }
        for id in &known {
            same!(client.stat(*id)?.nlink, 0, "names of the file");
        }
        // As many as one message has room for.
        for some in known.chunks(50_000) {
            client.close(some)?;
        }
        stage.count_tries(ids);
    }
    Ok(())
}
