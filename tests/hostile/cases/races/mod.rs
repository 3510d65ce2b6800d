//! Somebody else exchanges directories and files for symlinks that lead out, while all is asked for.

mod entries;
mod files;
mod stale;

use std::fs;
use std::os::unix::fs::symlink;

use lisafs::client::Error;
use lisafs::wire::{FdId, Inode};
use lisafs_conformance::{Caller, Stop, Verdict, ensure};

use self::entries::{bind, create, exchange, link, mkdir, no_replace, rename, unlink};
use self::files::{connect, list, open, set_stat, walk, walk_stat, xattr};
use self::stale::replaced;
use crate::accomplice::Accomplice;
use crate::case::Case;
use crate::outside::{FILE, Outside, SOCKET, listen};
use crate::stage::Stage;

const POLICY: &[&str] = &["--host-uds", "all"];

pub(super) const CASES: &[Case] = &[
    Case::new("swapped_while_walking", &["A14", "A16", "A3-5"], |stage| {
        race(stage, &[walk, walk_stat])
    })
    .options(POLICY),
    Case::new("swapped_while_opening", &["A16", "A21", "A3-5"], |stage| {
        race(stage, &[open, list])
    })
    .options(POLICY),
    Case::new(
        "swapped_while_creating",
        &["A16", "A3-5", "A2-15"],
        |stage| race(stage, &[create, mkdir]),
    )
    .options(POLICY),
    Case::new(
        "swapped_while_linking",
        &["A16", "A3-5", "A2-13"],
        |stage| race(stage, &[link]),
    )
    .options(POLICY),
    Case::new("swapped_while_renaming", &["A16", "A3-5"], |stage| {
        race(stage, &[rename, unlink])
    })
    .options(POLICY),
    Case::new("swapped_while_exchanging", &["A16", "A3-5"], |stage| {
        race(stage, &[exchange, no_replace])
    })
    .options(POLICY),
    Case::new(
        "swapped_while_binding",
        &["A14", "A16", "A3-5", "A2-8", "A2-13"],
        |stage| race(stage, &[bind]),
    )
    .options(POLICY),
    Case::new(
        "swapped_while_connecting",
        &["A14", "A16", "A3-5", "A2-13"],
        |stage| race(stage, &[connect]),
    )
    .options(POLICY),
    Case::new(
        "swapped_while_setting_attributes",
        &["A14", "A3-5"],
        |stage| race(stage, &[set_stat]),
    )
    .options(POLICY),
    Case::new(
        "swapped_while_at_extended_attributes",
        &["A14", "A3-5", "A2-13"],
        |stage| race(stage, &[xattr]),
    )
    .options(POLICY),
    Case::new(
        "what_was_unlinked_is_a_symlink_now",
        &["A14", "A2-8"],
        replaced,
    )
    .options(POLICY),
];

const O_RDWR: u32 = libc::O_RDWR.cast_unsigned();
const STREAM: u32 = libc::SOCK_STREAM.cast_unsigned();

/// What is exchanged: a directory for a link to the one outside, with the same names in it; a file and
/// a socket for links to theirs.
const DOOR: &[u8] = b"door";
const LEAF: &[u8] = b"leaf";
const PLUG: &[u8] = b"plug";

/// What an attempt works with.
struct Try<'t> {
    caller: &'t mut Caller,
    root: FdId,
    /// A directory that nobody exchanges.
    own: FdId,
    outside: &'t Outside,
    /// Ids to be closed after the attempt.
    made: Vec<FdId>,
    /// How often the operation in question was asked for: what ended before, since a link was there
    /// just then, was no try.
    tried: u64,
    /// How often what was there was real, and how often a link.
    seen: (u64, u64),
}

type Attempt = fn(&mut Try<'_>) -> Verdict;

/// Makes the attempts again and again while the names are exchanged.
fn race(stage: &mut Stage, attempts: &[Attempt]) -> Verdict {
    let count = stage.count(1000, 112_000);
    let (root, out) = (stage.root.clone(), stage.outside.dir().to_owned());
    let inside = |name: &str| root.join(name);
    fs::create_dir(inside("door"))?;
    fs::create_dir(inside("own"))?;
    fs::write(inside("door").join(FILE), b"harmless")?;
    fs::write(inside("leaf"), b"harmless")?;
    let _plugged = listen(&inside("plug"))?;
    let _within = listen(&inside("door").join(SOCKET))?;
    symlink(&out, inside("door'"))?;
    symlink(out.join(FILE), inside("leaf'"))?;
    symlink(out.join(SOCKET), inside("plug'"))?;
    let pairs = ["door", "door'", "leaf", "leaf'", "plug", "plug'"].map(inside);
    let pairs: Vec<_> = pairs.iter().map(std::path::PathBuf::as_path).collect();

    let mut client = stage.client()?;
    let (root, mut channel) = (client.root.control_fd, client.channel()?);
    let own = channel.find(root, b"own")?.control_fd;
    let accomplice = Accomplice::exchanging(&pairs)?;
    let mut attempt = Try {
        caller: &mut channel,
        root,
        own,
        outside: &stage.outside,
        made: Vec::new(),
        tried: 0,
        seen: (0, 0),
    };
    let mut rounds = 0;
    for make in attempts.iter().cycle() {
        if attempt.tried >= count {
            break;
        }
        rounds += 1;
        ensure!(
            rounds < 100 * count,
            "only {} of {rounds} attempts met anything real",
            attempt.tried
        );
        make(&mut attempt)?;
        let made = std::mem::take(&mut attempt.made);
        attempt.caller.close(&made)?;
    }
    let (seen, tried) = (attempt.seen, attempt.tried);
    let exchanged = accomplice.finish()?;
    stage.count_tries(tried);
    ensure!(exchanged > 0, "nothing was exchanged");
    ensure!(
        seen.0 > 0 && seen.1 > 0,
        "of real things and links only {seen:?} were seen"
    );
    Ok(())
}

impl Try<'_> {
    /// Remembers to close it, and sees that it is inside.
    fn check(&mut self, inode: Inode) -> Result<FdId, Stop> {
        self.made.push(inode.control_fd);
        if self.outside.holds(&inode.stat) {
            return Err(self.outside.seen("an inode outside"));
        }
        Ok(inode.control_fd)
    }

    /// Walks, and returns the last inode if it came to the end and that is no symlink.
    fn real(&mut self, path: &[&[u8]]) -> Result<Option<FdId>, Stop> {
        let Some(walked) = refused(self.caller.walk(self.root, path))? else {
            return Ok(None);
        };
        let mut last = None;
        for inode in &walked.inodes {
            self.check(*inode)?;
            last = Some(*inode);
        }
        let is_link = |inode: &Inode| u32::from(inode.stat.mode) & libc::S_IFMT == libc::S_IFLNK;
        match last {
            Some(inode) if walked.inodes.len() == path.len() && !is_link(&inode) => {
                self.seen.0 += 1;
                Ok(Some(inode.control_fd))
            }
            _ => {
                self.seen.1 += 1;
                Ok(None)
            }
        }
    }
}

/// What the server says to something that is away or another thing by now is its own affair: what
/// matters is where it has been. A broken connection is not.
fn refused<T>(result: Result<T, Error>) -> Result<Option<T>, Stop> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(Error::Remote(_) | Error::Local(_)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}
