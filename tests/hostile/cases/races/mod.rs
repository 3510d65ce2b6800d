//! Somebody else exchanges directories and files for symlinks that lead out, while all is asked for.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;

use lisafs::client::Error;
use lisafs::wire::{FdId, Inode, SetStat, SetStatReq};
use lisafs_conformance::{Caller, Stop, Verdict, ensure, same};

use crate::accomplice::Accomplice;
use crate::case::Case;
use crate::outside::{ATTRIBUTE, FILE, Outside, SECRET, SOCKET, listen};
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
const O_TRUNC: u32 = libc::O_TRUNC.cast_unsigned();
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

fn walk(a: &mut Try<'_>) -> Verdict {
    // To come to a link is what may go wrong here.
    a.tried += 1;
    a.real(&[DOOR, FILE.as_bytes()])?;
    a.real(&[LEAF])?;
    if let Some(door) = a.real(&[DOOR])?
        && let Some(walked) = refused(a.caller.walk(door, &[FILE.as_bytes()]))?
    {
        for inode in walked.inodes {
            a.check(inode)?;
        }
    }
    Ok(())
}

fn walk_stat(a: &mut Try<'_>) -> Verdict {
    a.tried += 1;
    for path in [&[DOOR, FILE.as_bytes()][..], &[DOOR], &[LEAF], &[PLUG]] {
        let stats = refused(a.caller.walk_stat(a.root, path))?.unwrap_or_default();
        if stats.iter().any(|stat| a.outside.holds(stat)) {
            return Err(a.outside.seen("attributes from outside"));
        }
        if stats.len() == 2 {
            a.seen.0 += 1;
        } else {
            a.seen.1 += 1;
        }
    }
    Ok(())
}

fn open(a: &mut Try<'_>) -> Verdict {
    for path in [&[LEAF][..], &[DOOR, FILE.as_bytes()]] {
        let Some(file) = a.real(path)? else { continue };
        a.tried += 1;
        for flags in [0, O_RDWR, O_RDWR | O_TRUNC] {
            let Some(opened) = refused(a.caller.open(file, flags))? else {
                continue;
            };
            a.made.push(opened.id);
            for donated in opened.donated {
                let mut donated = File::from(donated);
                let mut content = Vec::new();
                if a.outside.is_open_as(&donated) {
                    return Err(a.outside.seen("a descriptor of a file outside"));
                }
                donated.read_to_end(&mut content)?;
                if content == SECRET {
                    return Err(a.outside.seen("the secret, through a descriptor"));
                }
            }
            if refused(a.caller.read(opened.id, 0, 100))?.is_some_and(|read| read == SECRET) {
                return Err(a.outside.seen("the secret"));
            }
            if flags != 0 {
                refused(a.caller.write(opened.id, 0, b"harmless"))?;
            }
        }
    }
    Ok(())
}

fn list(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    let Some(opened) = refused(a.caller.open(door, 0))? else {
        return Ok(());
    };
    a.made.push(opened.id);
    let entries = refused(a.caller.entries(opened.id, 4096))?.unwrap_or_default();
    if entries.iter().any(|entry| entry.name == b"empty") {
        return Err(a.outside.seen("the entries of the directory outside"));
    }
    Ok(())
}

fn create(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    if let Some(created) = refused(a.caller.create(door, b"new", O_RDWR))? {
        a.check(created.inode)?;
        a.made.push(created.open);
    }
    refused(a.caller.unlink(door, b"new"))?;
    // One that replaces what is exchanged: it is there, so it is refused, whatever it is.
    if refused(a.caller.create(a.root, LEAF, O_RDWR))?.is_some() {
        return Err(Stop::failed("a file was created in the place of one"));
    }
    Ok(())
}

fn mkdir(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    if let Some(inode) = refused(a.caller.mkdir(door, b"sub"))? {
        a.check(inode)?;
    }
    refused(a.caller.rmdir(door, b"sub"))?;
    if let Some(inode) = refused(a.caller.mknod(door, b"node", libc::S_IFREG | 0o644))? {
        a.check(inode)?;
    }
    if let Some(inode) = refused(a.caller.symlink(door, b"link", b"/"))? {
        a.check(inode)?;
    }
    for name in [&b"node"[..], b"link"] {
        refused(a.caller.unlink(door, name))?;
    }
    Ok(())
}

fn link(a: &mut Try<'_>) -> Verdict {
    for path in [&[LEAF][..], &[DOOR, FILE.as_bytes()]] {
        let target = a.real(path)?;
        let door = a.real(&[DOOR])?;
        for (dir, target) in [(Some(a.own), target), (door, target)] {
            let (Some(dir), Some(target)) = (dir, target) else {
                continue;
            };
            a.tried += 1;
            if let Some(inode) = refused(a.caller.link(dir, target, b"hard"))? {
                a.check(inode)?;
            }
            refused(a.caller.unlink(dir, b"hard"))?;
        }
    }
    Ok(())
}

fn rename(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    let file = FILE.as_bytes();
    if refused(a.caller.rename((door, file), (a.own, b"moved")))?.is_some() {
        let found = a.caller.find(a.own, b"moved")?;
        a.check(found)?;
        // Back, by whatever the door is now.
        a.caller.rename((a.own, b"moved"), (door, file))?;
    }
    Ok(())
}

fn unlink(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    let file = FILE.as_bytes();
    if refused(a.caller.unlink(door, file))?.is_some() {
        let created = a.caller.create(door, file, O_RDWR)?;
        a.check(created.inode)?;
        a.made.push(created.open);
    }
    Ok(())
}

fn bind(a: &mut Try<'_>) -> Verdict {
    let Some(door) = a.real(&[DOOR])? else {
        return Ok(());
    };
    a.tried += 1;
    if let Some(bound) = refused(a.caller.bind(door, b"bound", STREAM))? {
        a.check(bound.inode)?;
        a.made.push(bound.id);
    }
    refused(a.caller.unlink(door, b"bound"))?;
    Ok(())
}

/// That nobody has come to the socket outside is looked at afterwards.
fn connect(a: &mut Try<'_>) -> Verdict {
    for path in [&[PLUG][..], &[DOOR, SOCKET.as_bytes()]] {
        if let Some(socket) = a.real(path)? {
            a.tried += 1;
            // The listeners inside accept nobody, and are full after a while.
            refused(a.caller.connect(socket, STREAM))?;
        }
    }
    Ok(())
}

/// That nothing outside has changed is looked at afterwards.
fn set_stat(a: &mut Try<'_>) -> Verdict {
    let (uid, gid) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    for path in [&[LEAF][..], &[DOOR], &[PLUG], &[DOOR, FILE.as_bytes()]] {
        let Some(found) = a.real(path)? else { continue };
        a.tried += 1;
        let mode = if path == [DOOR] { 0o777 } else { 0o666 };
        let mut request = SetStatReq {
            mask: (SetStat::MODE | SetStat::ATIME | SetStat::MTIME | SetStat::UID | SetStat::GID)
                .bits(),
            mode,
            uid: lisafs::wire::Uid(uid),
            gid: lisafs::wire::Gid(gid),
            ..SetStatReq::new(found)
        };
        refused(a.caller.set_stat(&request))?;
        request.mask = SetStat::SIZE.bits();
        refused(a.caller.set_stat(&request))?;
    }
    Ok(())
}

fn xattr(a: &mut Try<'_>) -> Verdict {
    if !a.outside.has_attributes {
        return Err(Stop::skipped("there are no extended attributes here"));
    }
    for path in [&[LEAF][..], &[DOOR], &[DOOR, FILE.as_bytes()]] {
        let Some(found) = a.real(path)? else { continue };
        a.tried += 1;
        // What is inside has none of that name.
        let secret = ATTRIBUTE.as_bytes();
        if let Some(value) = refused(a.caller.get_xattr(found, secret, 0))? {
            let what = format!("an attribute from outside, {value:?}");
            return Err(a.outside.seen(&what));
        }
        refused(a.caller.set_xattr(found, b"user.trace", b"value", 0))?;
        if let Some(value) = refused(a.caller.get_xattr(found, b"user.trace", 0))? {
            same!(value, b"value", "the value");
        }
        let names = refused(a.caller.list_xattr(found, 0))?.unwrap_or_default();
        if names.iter().any(|name| name == secret) {
            return Err(a.outside.seen("the names of attributes outside"));
        }
        refused(a.caller.remove_xattr(found, b"user.trace"))?;
    }
    Ok(())
}

/// An object whose name leads elsewhere by now: what is done to it is done to it or refused.
fn replaced(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let out = stage.outside.dir().to_owned();
    let bytes =
        |path: &std::path::Path| std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec();
    for round in 0..stage.count(20, 1000) {
        let name = format!("{round}").into_bytes();
        let bound = client.bind(root, &name, STREAM)?;
        client.unlink(root, &name)?;
        client.symlink(root, &name, &bytes(&out.join(FILE)))?;
        let stale = bound.inode.control_fd;
        let dir_name = [&name[..], b" dir"].concat();
        let dir = client.mkdir(root, &dir_name)?.control_fd;
        // One handle is closed late, so that its node is the last that goes.
        let late = client.find(root, &dir_name)?.control_fd;
        client.rmdir(root, &dir_name)?;
        client.symlink(root, &dir_name, &bytes(&out))?;
        client.close(&[late])?;
        let mode = SetStatReq {
            mask: SetStat::MODE.bits(),
            mode: 0o777,
            ..SetStatReq::new(stale)
        };
        refused(client.set_stat(&mode))?;
        let times = SetStatReq {
            mask: (SetStat::ATIME | SetStat::MTIME | SetStat::SIZE).bits(),
            ..SetStatReq::new(stale)
        };
        refused(client.set_stat(&times))?;
        refused(client.set_xattr(stale, b"user.trace", b"value", 0))?;
        refused(client.connect(stale, STREAM))?;
        refused(client.link(root, stale, b"hard"))?;
        refused(client.bind(dir, b"bound", STREAM))?;
        refused(client.create(dir, b"new", O_RDWR))?;
        refused(client.mkdir(dir, b"sub"))?;
        refused(client.symlink(dir, b"link", b"/"))?;
        refused(client.rename((root, &name), (dir, b"moved")))?;
        stage.count_tries(10);
    }
    Ok(())
}
