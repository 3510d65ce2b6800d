//! Trees as deep as a client likes.

use std::fs;
use std::path::Path;
use std::process::Command;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{ConnectWithCredsReq, FdId, Gid, SetStat, SetStatReq, Uid};
use lisafs_conformance::{Stop, Verdict, ensure, refused, same};
use nix::unistd::geteuid;

use crate::case::Case;
use crate::stage::{Client, Stage};

pub(super) const CASES: &[Case] = &[
    Case::new("a_deep_tree", &["A13"], |stage| deep(stage, with_tree)).options(POLICY),
    Case::new("a_deep_tree_in_halves", &["A13"], |stage| {
        deep(stage, in_halves)
    }),
];

const POLICY: &[&str] = &["--host-uds", "all"];

const NAME: &[u8] = b"d";
const EXCHANGE: u32 = libc::RENAME_EXCHANGE;
const STREAM: u32 = libc::SOCK_STREAM.cast_unsigned();
const O_RDONLY: u32 = libc::O_RDONLY.cast_unsigned();

/// How many names one walk has. Each is a directory that is open until the next walk.
const STEP: usize = 1000;

/// Attacks with a tree of so many levels, and leaves none of it behind.
fn deep(stage: &mut Stage, attack: fn(&mut Stage, usize) -> Verdict) -> Verdict {
    let levels = usize::try_from(stage.count(10_000, 100_000)).unwrap();
    let result = attack(stage, levels);
    if result.is_err() {
        for entry in fs::read_dir(&stage.root)? {
            remove(&entry?.path())?;
        }
    }
    result
}

/// Removes what is deeper than std's own removal could go.
fn remove(path: &Path) -> Verdict {
    let removed = Command::new("rm").arg("-rf").arg(path).status()?;
    ensure!(removed.success(), "{} is still there", path.display());
    Ok(())
}

/// Makes directories below `top`, each in the last one. Returns the one half way down and the last.
fn build(client: &mut Client, levels: usize) -> Result<(FdId, FdId), Stop> {
    let root = client.root.control_fd;
    let top = client.mkdir(root, b"top")?.control_fd;
    let (mut middle, mut bottom) = (top, top);
    for level in 1..=levels {
        let next = client.mkdir(bottom, NAME)?.control_fd;
        if bottom != middle {
            client.close(&[bottom])?;
        }
        bottom = next;
        if level == levels / 2 {
            client.close(&[middle])?;
            middle = bottom;
        }
    }
    Ok((middle, bottom))
}

/// Every operation on the tree, in a directory that is far down, and between it and the root.
fn operate(client: &mut Client, bottom: FdId, ours: bool) -> Verdict {
    let root = client.root.control_fd;
    let file = client.file(bottom, b"file", b"content")?;
    same!(
        client.names(bottom)?,
        vec![b"file".to_vec()],
        "what is at the bottom"
    );
    same!(client.walk_stat(bottom, &[b"file"])?.len(), 1, "files");
    client.rename((bottom, b"file"), (root, b"from the bottom"))?;
    client.rename((root, b"from the bottom"), (bottom, b"file"))?;
    if ours {
        // gVisor's server links and binds by paths from the root, which are too long for the host.
        let bound = client.bind(bottom, b"socket", STREAM)?;
        let socket = bound.inode.control_fd;
        client.listen(bound.id, 2)?;
        client.connect(socket, STREAM)?;
        client.accept(bound.id)?;
        let own = client.root.stat;
        let connected = client.call(&ConnectWithCredsReq {
            fd: socket,
            sock_type: STREAM,
            uid: Uid(own.uid),
            gid: Gid(own.gid),
        });
        match connected {
            Ok(_) => {
                same!(client.take_fds().len(), 1, "descriptors");
                client.accept(bound.id)?;
            }
            // It takes privileges.
            Err(Error::Remote(Errno::EOPNOTSUPP)) if !geteuid().is_root() => {}
            Err(other) => return Err(other.into()),
        }
        client.close(&[bound.id, bound.inode.control_fd])?;
        client.unlink(bottom, b"socket")?;
        let hard = client.link(bottom, file, b"hard")?;
        same!(client.stat(file)?.ino, hard.stat.ino, "the second name");
        client.link(root, file, b"from the bottom")?;
        client.unlink(root, b"from the bottom")?;
        client.unlink(bottom, b"hard")?;
    }
    client.symlink(bottom, b"link", b"..")?;
    client.mknod(bottom, b"node", libc::S_IFREG | 0o644)?;
    for fd in [file, bottom] {
        let mode = SetStatReq {
            mask: SetStat::MODE.bits(),
            mode: 0o700,
            ..SetStatReq::new(fd)
        };
        same!(
            client.set_stat(&mode)?.failure_mask,
            0,
            "attributes not set"
        );
        match client.set_xattr(fd, b"user.deep", b"value", 0) {
            Ok(()) => {
                let value = client.get_xattr(fd, b"user.deep", 0)?;
                same!(value, b"value", "the value");
                same!(client.list_xattr(fd, 0)?.len(), 1, "attributes");
                client.remove_xattr(fd, b"user.deep")?;
            }
            // There are none here.
            Err(Error::Remote(Errno::EOPNOTSUPP)) => {}
            Err(other) => return Err(other.into()),
        }
    }
    for name in [&b"node"[..], b"link", b"file"] {
        client.unlink(bottom, name)?;
    }
    Ok(())
}

/// Makes a tree of one directory in another, holding only the last, so that all the nodes between
/// hang on it, and has every operation on the tree meet it. No path is ever so long, and no thread's
/// stack so deep.
fn with_tree(stage: &mut Stage, levels: usize) -> Verdict {
    let mut client = stage.client()?;
    let (_, bottom) = build(&mut client, levels)?;

    // Renamed above all of it, and told of it by nobody: the bottom still is where it was.
    let mut other = stage.client()?;
    let theirs = other.root.control_fd;
    for round in 0..20 {
        let (old, new) = if round % 2 == 0 {
            (&b"top"[..], &b"moved"[..])
        } else {
            (&b"moved"[..], &b"top"[..])
        };
        other.rename((theirs, old), (theirs, new))?;
        client.stat(bottom)?;
    }
    operate(&mut client, bottom, stage.is_ours())?;
    stage.count_tries(levels as u64);

    // Walked through by somebody else, who holds the last of each step alone.
    let path = vec![NAME; STEP];
    let mut at = other.find(theirs, b"top")?.control_fd;
    let mut left = levels;
    while left > 0 {
        let step = left.min(STEP);
        let walked = other.walk(at, &path[..step])?;
        same!(walked.inodes.len(), step, "how far a walk came");
        let ids: Vec<FdId> = walked.inodes.iter().map(|inode| inode.control_fd).collect();
        let (last, passed) = ids.split_last().ok_or_else(|| Stop::failed("no inodes"))?;
        other.close(passed)?;
        other.close(&[at])?;
        (at, left) = (*last, left - step);
    }
    same!(other.stat(at)?.ino, client.stat(bottom)?.ino, "the bottom");
    let open = other.open(at, O_RDONLY)?.id;

    // The end of a connection that holds nothing but the bottom releases all of it.
    drop(client);
    ensure!(
        other.entries(open, 1000)?.is_empty(),
        "something is at the bottom"
    );
    drop(other);

    // Taken down from the top: each next level is moved up and its parent removed, so that the
    // nodes below are moved, too.
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let mut top = client.find(root, b"top")?.control_fd;
    for level in 0..levels {
        let (old, new) = if level % 2 == 0 {
            (&b"top"[..], &b"next"[..])
        } else {
            (&b"next"[..], &b"top"[..])
        };
        client.rename((top, NAME), (root, new))?;
        client.rmdir(root, old)?;
        client.close(&[top])?;
        top = client.find(root, new)?.control_fd;
    }
    let last: &[u8] = if levels.is_multiple_of(2) {
        b"top"
    } else {
        b"next"
    };
    client.rmdir(root, last)?;
    client.stat(top)?;
    ensure!(client.names(root)?.is_empty(), "something is left");
    Ok(())
}

/// Cuts such a tree in two, both of which are deep and held, exchanges them, tries to put each below
/// itself, and at last takes the names of one away.
fn in_halves(stage: &mut Stage, levels: usize) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let (middle, bottom) = build(&mut client, levels)?;
    let ids = [middle, bottom].map(|fd| client.stat(fd).map(|stat| stat.ino));
    let [Ok(of_middle), Ok(of_bottom)] = ids else {
        return Err(Stop::failed("the tree is not what was made"));
    };
    let stays = |client: &mut Client| -> Verdict {
        same!(client.stat(middle)?.ino, of_middle, "the middle");
        same!(client.stat(bottom)?.ino, of_bottom, "the bottom");
        Ok(())
    };
    let (top, half) = ((root, &b"top"[..]), (root, &b"half"[..]));

    // As a whole, the tree cannot be put into its own bottom, whatever the word for it.
    client.mkdir(bottom, b"x")?;
    let below = (bottom, &b"x"[..]);
    refused(client.rename(top, (bottom, b"new")), Errno::EINVAL)?;
    refused(client.rename_with(top, below, EXCHANGE), Errno::EINVAL)?;
    refused(client.rename_with(below, top, EXCHANGE), Errno::EINVAL)?;
    stays(&mut client)?;

    // Two trees, moved and exchanged.
    client.rename((middle, NAME), half)?;
    for _ in 0..4 {
        client.rename_with(top, half, EXCHANGE)?;
        stays(&mut client)?;
    }
    // Each into the bottom of the other, and not both at once.
    client.rename(half, (middle, NAME))?;
    client.rename((middle, NAME), half)?;
    client.rename(top, (bottom, b"top"))?;
    refused(client.rename(half, (middle, NAME)), Errno::EINVAL)?;
    client.rename((bottom, b"top"), top)?;
    stays(&mut client)?;
    stage.count_tries(levels as u64);

    if stage.is_ours() {
        // Somebody on the host has moved away all that is below the top: by the host alone, that could
        // go into it, but for the server it is still above.
        client.rename(half, (middle, NAME))?;
        let (below_top, aside) = (stage.root.join("top/d"), stage.root.join("aside"));
        fs::rename(&below_top, &aside)?;
        refused(client.rename(top, (bottom, b"new")), Errno::EINVAL)?;
        refused(client.rename_with(top, below, EXCHANGE), Errno::EINVAL)?;
        refused(client.rename_with(below, top, EXCHANGE), Errno::EINVAL)?;
        fs::rename(&aside, &below_top)?;
        stays(&mut client)?;
        client.rename((middle, NAME), half)?;
    }

    // Somebody removes what is in there, and the client then the directory: all that it holds below
    // has lost its name, which nothing can be made in.
    remove(&stage.root.join("half").join("d"))?;
    client.rmdir(root, b"half")?;
    ensure!(client.mkdir(bottom, b"new").is_err(), "a directory in none");
    ensure!(
        client.walk(bottom, &[b"x"])?.inodes.is_empty(),
        "an entry of none"
    );
    same!(client.stat(middle)?.ino, of_middle, "the other half");
    client.mkdir(middle, b"new")?;
    // The end of the connection releases both.
    drop(client);
    remove(&stage.root.join("top"))
}
