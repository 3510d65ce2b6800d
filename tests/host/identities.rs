//! Files that clients know and that others remove, replace and rename meanwhile.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use lisafs::Errno;
use lisafs::client::{Communicator, Reply, Socket};
use lisafs::host::HostFs;
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::*;
use lisafs_patience::Ended;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs};
use tempfile::TempDir;

use crate::scene::{OPTIONS, Scene};

const EXCHANGE: u32 = 2;

/// How long anything may take that should take no time. Generous, as it only shows in failures.
const PATIENCE: Duration = Duration::from_secs(120);

/// A directory on a file system where files can be known by their identity.
pub(crate) fn ground() -> Option<TempDir> {
    let remembers = |place: &PathBuf| {
        let kind = statfs(place).map(|stat| stat.filesystem_type());
        kind.is_ok_and(|kind| {
            [
                EXT4_SUPER_MAGIC,
                TMPFS_MAGIC,
                XFS_SUPER_MAGIC,
                BTRFS_SUPER_MAGIC,
            ]
            .contains(&kind)
        })
    };
    [std::env::temp_dir(), "/dev/shm".into()]
        .into_iter()
        .filter(remembers)
        .find_map(|place| TempDir::new_in(place).ok())
}

pub(crate) fn settled(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    // A file of the current tick of the clock is opened by the walk to it. Without births all are.
    let Ok(birth) = fs::metadata(path).and_then(|file| file.created()) else {
        return;
    };
    while birth.elapsed().map_or(0, |age| age.as_millis()) < 20 {
        thread::yield_now();
    }
}

fn lookup(on: &mut impl Communicator, dir_fd: FdId, name: &str) -> Result<Inode, Errno> {
    let names = StringArrayBuf::collect([name.as_bytes()]).unwrap();
    let (path, mut reply) = (names.as_array(), Reply::new());
    let walked = on.call(&WalkReq { dir_fd, path }, &mut reply);
    let walked = walked.map_err(|error| error.errno())?;
    walked.inodes.iter().next().ok_or(Errno::ENOENT)
}

fn stat(on: &mut impl Communicator, fd: FdId) -> Result<Statx, Errno> {
    on.call(&StatReq { fd }, &mut Reply::new())
        .map_err(|error| error.errno())
}

/// Opens the file and reads it through the server.
fn read(on: &mut impl Communicator, fd: FdId) -> Result<String, Errno> {
    let mut reply = Reply::new();
    let errno = |error: lisafs::client::Error| error.errno();
    let open = OpenAtReq { fd, flags: 0 };
    let fd = on.call(&open, &mut reply).map_err(errno)?.open_fd;
    let request = PReadReq {
        offset: 0,
        fd,
        count: 64,
    };
    let content = on.call(&request, &mut reply).map_err(errno)?;
    let content = String::from_utf8(content.data.0.to_vec()).unwrap();
    close(on, &[fd]);
    Ok(content)
}

/// What a create says of a file is what its descriptors say of it, and when it was made as well.
pub(crate) fn what_is_created_looks_the_same_to_all_who_ask() {
    let directory = ground().unwrap();
    let mut scene = Scene::at(directory);
    let request = OpenCreateAtReq {
        create: scene.create(0o640),
        flags: libc::O_RDWR.cast_unsigned(),
        name: b"file",
    };
    let mut reply = Reply::new();
    let made = scene.socket.call(&request, &mut reply).unwrap();
    let (child, open) = (made.child, made.new_fd);
    let born = fs::metadata(scene.path("file")).unwrap().created().unwrap();
    let born = born.duration_since(UNIX_EPOCH).unwrap();
    let btime = child.stat.btime;
    assert_eq!(
        (btime.sec.cast_unsigned(), btime.nsec),
        (born.as_secs(), born.subsec_nanos())
    );
    let look = |scene: &mut Scene| [open, child.control_fd].map(|fd| stat(&mut scene.socket, fd));
    assert_eq!(look(&mut scene), [Ok(child.stat); 2]);
    // Nor do they come apart when it changes, or loses its name.
    fs::write(scene.path("file"), "content").unwrap();
    let [by_open, by_control] = look(&mut scene);
    assert_eq!(by_open, by_control);
    let changed = by_open.unwrap();
    assert_eq!((changed.size, changed.btime), (7, btime));
    let root = scene.root;
    let walked = lookup(&mut scene.socket, root, "file").unwrap();
    assert_eq!(walked.stat, changed);
    unlink(&mut scene.socket, root, "file");
    let [by_open, by_control] = look(&mut scene);
    assert_eq!(by_open, by_control);
    let gone = by_open.unwrap();
    assert_eq!((gone.nlink, gone.btime), (0, btime));
}

fn close(on: &mut impl Communicator, fds: &[FdId]) {
    let fds = Array::new(fds);
    on.call(&CloseReq { fds }, &mut Reply::new()).unwrap();
}

fn try_rename(
    on: &mut impl Communicator,
    dir: FdId,
    [old, new]: [&str; 2],
    flags: u32,
) -> Result<(), Errno> {
    let request = RenameAt2Req {
        old_dir: dir,
        new_dir: dir,
        old_name: old.as_bytes(),
        new_name: new.as_bytes(),
        flags,
    };
    let renamed = on.call(&request, &mut Reply::new());
    renamed.map(drop).map_err(|error| error.errno())
}

fn rename(on: &mut impl Communicator, dir: FdId, old: &str, new: &str, flags: u32) {
    try_rename(on, dir, [old, new], flags).unwrap();
}

/// However long the machine keeps somebody who looks for the file from going on.
fn rename_patiently(on: &mut impl Communicator, dir: FdId, names: [&str; 2], flags: u32) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(errno) = try_rename(on, dir, names, flags) {
        assert_eq!(errno, Errno::EBUSY);
        assert!(Instant::now() < deadline, "{names:?} are still in use");
    }
}

fn unlink(on: &mut impl Communicator, dir_fd: FdId, name: &str) {
    let (flags, name) = (0, name.as_bytes());
    let request = UnlinkAtReq {
        dir_fd,
        flags,
        name,
    };
    on.call(&request, &mut Reply::new()).unwrap();
}

/// Two connections to one directory.
fn pair(directory: &Path) -> (Server<HostFs>, [(Socket, FdId); 2]) {
    let server = Server::new(2);
    let host = HostFs::open(directory, OPTIONS).unwrap();
    let client = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let opts = ConnectionOpts::default();
        server.start_connection(theirs, host.clone(), opts).unwrap();
        let mut socket = Socket::from(ours);
        let root = socket.mount().unwrap().root.control_fd;
        (socket, root)
    };
    let clients = [client(), client()];
    (server, clients)
}

pub(crate) fn what_is_removed_or_replaced_here_keeps_working_for_all_connections() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let (_server, [(mut one, one_root), (mut other, other_root)]) = pair(directory.path());
    for name in ["removed", "replaced", "a", "b", "moved"] {
        settled(&path(name), name);
    }
    let names = ["removed", "replaced", "a", "b", "moved"];
    let known = names.map(|name| lookup(&mut other, other_root, name).unwrap().control_fd);
    unlink(&mut one, one_root, "removed");
    rename(&mut one, one_root, "a", "b", EXCHANGE);
    rename(&mut one, one_root, "moved", "replaced", 0);
    rename(&mut one, one_root, "b", "a", EXCHANGE);
    rename(&mut one, one_root, "b", "c", 0);
    for (fd, (name, links)) in known
        .into_iter()
        .zip(names.into_iter().zip([0, 0, 1, 1, 1]))
    {
        assert_eq!(stat(&mut other, fd).unwrap().nlink, links, "{name}");
        assert_eq!(read(&mut other, fd).unwrap(), name);
    }
}

pub(crate) fn what_an_outsider_removes_or_replaces_is_stale() {
    let directory = ground().unwrap();
    let mut scene = Scene::at(directory);
    settled(&scene.path("file"), "oldest");
    let root = scene.root;
    let second = lookup(&mut scene.socket, root, "file").unwrap().control_fd;
    settled(&scene.path("other"), "old");
    fs::rename(scene.path("other"), scene.path("file")).unwrap();
    let [first, same] =
        [(); 2].map(|()| lookup(&mut scene.socket, root, "file").unwrap().control_fd);
    // One that is open stays what it is, whichever id it was opened by.
    assert_eq!(read(&mut scene.socket, first).unwrap(), "old");
    settled(&scene.path("other"), "new");
    fs::rename(scene.path("other"), scene.path("file")).unwrap();
    assert_eq!(read(&mut scene.socket, same).unwrap(), "old");
    assert_eq!(stat(&mut scene.socket, second).err(), Some(Errno::ESTALE));
    assert_eq!(read(&mut scene.socket, second).err(), Some(Errno::ESTALE));
    assert_eq!(read(&mut scene.socket, first).unwrap(), "old");
    let third = lookup(&mut scene.socket, root, "file").unwrap().control_fd;
    assert_eq!(read(&mut scene.socket, third).unwrap(), "new");
    // All three are on one node: what is stale must not keep the others from being held.
    let again = lookup(&mut scene.socket, root, "file").unwrap().control_fd;
    unlink(&mut scene.socket, root, "file");
    assert_eq!(read(&mut scene.socket, again).unwrap(), "new");
    assert_eq!(stat(&mut scene.socket, second).err(), Some(Errno::ESTALE));
    scene.refuses(&StatReq { fd: second }, Errno::ESTALE);
}

/// The server renames `a`, `b` and `c` in a ring while an outsider replaces `d` and clients use all
/// of them: what answers is the file that was walked to, or nothing.
pub(crate) fn no_request_ever_meets_another_file() {
    const ROUNDS: usize = 2000;
    let ground = ground();
    // Elsewhere each file is opened by the walk to it.
    let can_be_stale = ground.is_some();
    let directory = ground.unwrap_or_else(|| tempfile::tempdir().unwrap());
    let path = |name: &str| directory.path().join(name);
    let (_server, [(mut one, one_root), (mut other, other_root)]) = pair(directory.path());
    let names = ["a", "b", "c"];
    for name in names {
        settled(&path(name), name);
    }
    settled(&path("d"), "d");
    let done = AtomicBool::new(false);
    let (mut stale, mut found) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    let known = names.map(|name| {
        let inode = lookup(&mut other, other_root, name).unwrap();
        (inode.control_fd, inode.stat.ino, name)
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                rename_patiently(&mut one, one_root, ["a", "b"], EXCHANGE);
                for names in [["c", "x"], ["b", "c"], ["x", "b"]] {
                    rename_patiently(&mut one, one_root, names, 0);
                }
            }
        });
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                fs::write(path("new"), format!("d{number}")).unwrap();
                fs::rename(path("new"), path("d")).unwrap();
                // Where all share a CPU, the file is used only when this one lets go of it.
                thread::yield_now();
            }
        });
        let _ended = Ended(&done);
        let mut rounds = 0;
        while rounds < ROUNDS || found == 0 || can_be_stale && stale == 0 {
            assert!(Instant::now() < deadline, "{found} found, {stale} stale");
            rounds += 1;
            let (fd, ino, name) = known[rounds % 3];
            assert_eq!(stat(&mut other, fd).map(|stat| stat.ino), Ok(ino));
            assert_eq!(read(&mut other, fd).as_deref(), Ok(name));
            let Ok(inode) = lookup(&mut other, other_root, "d") else {
                continue;
            };
            // The size tells more than the number, which may be that of a successor.
            let (size, born) = (inode.stat.size, inode.stat.btime);
            match stat(&mut other, inode.control_fd) {
                Ok(stat) => {
                    found += 1;
                    assert_eq!((stat.ino, stat.size), (inode.stat.ino, size));
                    assert_eq!((stat.btime.sec, stat.btime.nsec), (born.sec, born.nsec));
                }
                Err(errno) => {
                    stale += 1;
                    assert_eq!(errno, Errno::ESTALE);
                }
            }
            close(&mut other, &[inode.control_fd]);
        }
    });
    eprintln!("{found} found, {stale} stale");
    // The names that the three have now are known to the server as they are to the host.
    for name in names {
        let inode = lookup(&mut other, other_root, name).unwrap();
        assert_eq!(inode.stat.ino, fs::metadata(path(name)).unwrap().ino());
    }
}

/// A client looks at a file and reads it while another one removes it, or renames a file over it: it
/// answers as what was walked to, with or without its name. The name is of the old file, the new one or
/// none.
pub(crate) fn what_others_remove_or_replace_through_the_server_is_never_lost() {
    const FILES: usize = 300;
    let directory = tempfile::tempdir().unwrap();
    let (_server, [(mut one, one_root), (mut other, other_root)]) = pair(directory.path());
    let names: Vec<_> = (0..FILES).map(|number| format!("file{number}")).collect();
    for name in &names {
        fs::write(directory.path().join(name), name).unwrap();
        fs::write(directory.path().join(format!("new-{name}")), "another").unwrap();
    }
    settled(&directory.path().join("last"), "");
    let known: Vec<_> = names
        .iter()
        .map(|name| lookup(&mut other, other_root, name).unwrap())
        .collect();
    let (turn, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    // Odd while a file is used and is to go.
    let removed = |round: usize| turn.load(Ordering::Acquire) > 2 * round + 1;
    thread::scope(|scope| {
        let remover = scope.spawn(|| {
            for (round, name) in names.iter().enumerate() {
                while turn.load(Ordering::Acquire) != 2 * round + 1 {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    thread::yield_now();
                }
                if round % 2 == 0 {
                    unlink(&mut one, one_root, name);
                } else {
                    rename(&mut one, one_root, &format!("new-{name}"), name, 0);
                }
                turn.fetch_add(1, Ordering::Release);
            }
        });
        let _ended = Ended(&ended);
        for (round, (name, inode)) in names.iter().zip(&known).enumerate() {
            turn.fetch_add(1, Ordering::Release);
            let mut is_last = false;
            while !is_last {
                let has_ended = remover.is_finished();
                is_last = removed(round);
                assert!(is_last || !has_ended);
                let seen = stat(&mut other, inode.control_fd).unwrap();
                let size = name.len() as u64;
                assert_eq!((seen.ino, seen.size), (inode.stat.ino, size));
                assert_eq!(read(&mut other, inode.control_fd).as_ref(), Ok(name));
                match lookup(&mut other, other_root, name) {
                    Ok(found) => {
                        let is_known = found.stat.ino == inode.stat.ino;
                        assert!(!is_last || round % 2 == 1 && !is_known);
                        let content = if is_known { name } else { "another" };
                        let read = read(&mut other, found.control_fd);
                        assert_eq!(read.as_deref(), Ok(content));
                        close(&mut other, &[found.control_fd]);
                    }
                    Err(errno) => {
                        assert_eq!((errno, round % 2), (Errno::ENOENT, 0));
                    }
                }
            }
            assert_eq!(stat(&mut other, inode.control_fd).unwrap().nlink, 0);
        }
    });
}

/// WalkStat goes on with the directories that the client holds, unless others have put another one
/// in the place of one of them.
pub(crate) fn what_is_looked_at_by_way_of_held_directories_is_what_is_there() {
    let mut scene = Scene::new();
    for side in ["a", "b"] {
        fs::create_dir_all(scene.path(side).join("c/d")).unwrap();
        fs::write(scene.path(side).join("c/d/file"), side.repeat(7)).unwrap();
    }
    fs::write(scene.path("a/c/d/file"), "short").unwrap();
    let held = ["a", "c", "d"].into_iter().fold(scene.root, |fd, name| {
        lookup(&mut scene.socket, fd, name).unwrap().control_fd
    });
    lookup(&mut scene.socket, held, "file").unwrap();
    let names = StringArrayBuf::collect(["a", "c", "d", "file"].map(str::as_bytes)).unwrap();
    let look = |scene: &mut Scene| -> Vec<(u64, u64)> {
        let (dir_fd, path) = (scene.root, names.as_array());
        let mut reply = Reply::new();
        let walked = scene.socket.call(&WalkStatReq { dir_fd, path }, &mut reply);
        let stats = walked.unwrap().stats;
        stats.iter().map(|stat| (stat.ino, stat.size)).collect()
    };
    let (before, swap) = (look(&mut scene), |scene: &Scene| {
        for (old, new) in [("a", "x"), ("b", "a"), ("x", "b")] {
            fs::rename(scene.path(old), scene.path(new)).unwrap();
        }
    });
    assert_eq!(before.last().unwrap().1, 5);
    for (round, size) in [7, 5, 7, 5].into_iter().enumerate() {
        swap(&scene);
        let seen = look(&mut scene);
        assert_eq!((seen.len(), seen.last().unwrap().1), (4, size), "{round}");
        assert_eq!(seen == before, size == 5);
    }
    // One that the server itself has moved is where it is now, and its old name is nobody's.
    rename(&mut scene.socket, scene.root, "a", "gone", 0);
    assert_eq!(look(&mut scene), []);
    rename(&mut scene.socket, scene.root, "b", "a", 0);
    assert_eq!(look(&mut scene).last().unwrap().1, 7);
}

pub(crate) fn more_files_are_known_than_there_are_descriptors() {
    const LIMIT: usize = 64;
    const DIRECTORIES: usize = 10 * LIMIT;
    const FILES: usize = 8;
    let directory = ground().unwrap();
    for outer in 0..DIRECTORIES {
        let path = directory.path().join(outer.to_string());
        fs::create_dir(&path).unwrap();
        (0..FILES).for_each(|inner| fs::write(path.join(inner.to_string()), "x").unwrap());
    }
    settled(&directory.path().join("last"), "last");
    let opts = ConnectionOpts {
        max_fds: LIMIT,
        ..ConnectionOpts::default()
    };
    let (mut scene, _) = Scene::with(directory, OPTIONS, opts);
    let (root, socket) = (scene.root, &mut scene.socket);
    let mut known = Vec::new();
    for outer in 0..DIRECTORIES {
        let outer = lookup(socket, root, &outer.to_string()).unwrap().control_fd;
        let inner = (0..FILES).map(|inner| lookup(socket, outer, &inner.to_string()));
        known.extend(inner.map(|inode| inode.unwrap().control_fd));
    }
    for fd in &known {
        assert_eq!(stat(socket, *fd).unwrap().size, 1);
        assert_eq!(read(socket, *fd).unwrap(), "x");
    }
    // What the client holds open itself is limited.
    let mut reply = Reply::new();
    let opened: Vec<_> = known
        .iter()
        .map_while(|fd| {
            let open = OpenAtReq { fd: *fd, flags: 0 };
            socket.call(&open, &mut reply).ok().map(|open| open.open_fd)
        })
        .collect();
    // All but the one of the root.
    assert_eq!(opened.len(), LIMIT - 1);
    let fd = known[known.len() - 1];
    scene.refuses(&OpenAtReq { fd, flags: 0 }, Errno::EMFILE);
    close(&mut scene.socket, &opened);
    assert_eq!(read(&mut scene.socket, fd).unwrap(), "x");
}

/// However often a file is walked to, and whatever the limit: when its name goes, all who know it do.
pub(crate) fn a_file_known_by_more_ids_than_there_are_descriptors_outlives_its_name() {
    const LIMIT: usize = 16;
    let directory = ground().unwrap();
    for name in ["unlinked", "replaced", "last"] {
        settled(&directory.path().join(name), name);
    }
    let opts = ConnectionOpts {
        max_fds: LIMIT,
        ..ConnectionOpts::default()
    };
    let (mut scene, _) = Scene::with(directory, OPTIONS, opts);
    let (root, socket) = (scene.root, &mut scene.socket);
    let mut walk = |name| -> Vec<FdId> {
        let walks = (0..100 * LIMIT).map(|_| lookup(socket, root, name).unwrap().control_fd);
        walks.collect()
    };
    let known = [walk("unlinked"), walk("replaced")];
    let (name, flags) = (&b"unlinked"[..], 0);
    let unlink = UnlinkAtReq {
        dir_fd: root,
        flags,
        name,
    };
    scene.call(&unlink).unwrap();
    rename(&mut scene.socket, root, "last", "replaced", 0);
    for (ids, content) in known.iter().zip(["unlinked", "replaced"]) {
        for fd in ids {
            assert_eq!(stat(&mut scene.socket, *fd).unwrap().nlink, 0);
            assert_eq!(read(&mut scene.socket, *fd).unwrap(), content);
        }
    }
}
