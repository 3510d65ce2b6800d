//! Trees as deep as a client likes.

use lisafs::wire::FdId;
use lisafs_conformance::{Stop, Verdict, ensure, same};

use crate::case::Case;
use crate::stage::Stage;

pub(super) const CASES: &[Case] = &[Case::new("a_deep_tree", &["A13"], deep)];

const NAME: &[u8] = b"d";
const O_RDONLY: u32 = libc::O_RDONLY.cast_unsigned();

/// How many names one walk has. Each is a directory that is open until the next walk.
const STEP: usize = 1000;

/// Makes a tree of one directory in another, holding only the last, so that all the nodes between
/// hang on it, and has every operation on the tree meet it. No path is ever so long, and no thread's
/// stack so deep.
fn deep(stage: &mut Stage) -> Verdict {
    let levels = usize::try_from(stage.count(10_000, 100_000)).unwrap();
    let result = with_tree(stage, levels);
    if result.is_err() {
        // Deeper than std's own removal could go.
        std::process::Command::new("rm")
            .arg("-rf")
            .arg(stage.root.join("top"))
            .status()?;
    }
    result
}

fn with_tree(stage: &mut Stage, levels: usize) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let mut bottom = client.mkdir(root, b"top")?.control_fd;
    for _ in 0..levels {
        let next = client.mkdir(bottom, NAME)?.control_fd;
        client.close(&[bottom])?;
        bottom = next;
    }

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
    // Every operation at the bottom.
    client.file(bottom, b"file", b"content")?;
    same!(
        client.names(bottom)?,
        vec![b"file".to_vec()],
        "what is at the bottom"
    );
    client.rename((bottom, b"file"), (root, b"from the bottom"))?;
    client.rename((root, b"from the bottom"), (bottom, b"file"))?;
    client.symlink(bottom, b"link", b"..")?;
    client.unlink(bottom, b"link")?;
    client.unlink(bottom, b"file")?;
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
