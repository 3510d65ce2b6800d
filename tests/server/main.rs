//! The server runtime by itself: ids, nodes, locks, threads and the ends of connections.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)] // a test may panic

mod brittle;
mod direct;
mod donations;
mod ends;
mod listing;
mod model;
mod outsiders;
mod panics;
mod phantom;
mod queues;
mod stuck_renames;
mod totals;
mod windows;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use flipcall::{Spinners, WaitPolicy};
use lisafs::Errno;
use lisafs::client::{Channel, Communicator, Error, Reply, Socket};
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::*;
use lisafs_patience::within;
use phantom::{PhantomFs, Stage};

/// Ten times what anything here takes: some are refused three times, after two seconds each.
const DEADLINE: Duration = Duration::from_secs(60);

struct Scene {
    server: Server<PhantomFs>,
    stage: Arc<Stage>,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(Server::new(16))
    }

    fn with(server: Server<PhantomFs>) -> Scene {
        Scene {
            server,
            stage: Arc::default(),
        }
    }

    fn connect(&self, opts: ConnectionOpts) -> Result<(Socket, FdId), Errno> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let backend = PhantomFs::on(&self.stage);
        self.server.start_connection(theirs, backend, opts)?;
        let mut socket = Socket::from(ours);
        let root = socket.mount().map_err(|error| error.errno())?.root;
        Ok((socket, root.control_fd))
    }

    fn client(&self) -> (Socket, FdId) {
        self.connect(ConnectionOpts::default()).unwrap()
    }

    fn events(&self) -> Vec<String> {
        self.stage.events.lock().unwrap().clone()
    }
}

fn channel(socket: &mut Socket) -> Channel {
    socket
        .open_channel(WaitPolicy::Park, &Spinners::new())
        .unwrap()
}

/// The socket of a client, to hang up with while it is in use.
fn stream(socket: &Socket) -> UnixStream {
    UnixStream::from(socket.as_fd().try_clone_to_owned().unwrap())
}

fn walk(on: &mut impl Communicator, from: FdId, path: &[&str]) -> Result<Vec<FdId>, Errno> {
    let names = StringArrayBuf::collect(path.iter().map(|name| name.as_bytes())).unwrap();
    let mut reply = Reply::new();
    let walked = on.call(
        &WalkReq {
            dir_fd: from,
            path: names.as_array(),
        },
        &mut reply,
    );
    let walked = walked.map_err(|error| error.errno())?;
    Ok(walked.inodes.iter().map(|inode| inode.control_fd).collect())
}

fn one(on: &mut impl Communicator, from: FdId, name: &str) -> FdId {
    walk(on, from, &[name]).unwrap()[0]
}

fn close(on: &mut impl Communicator, fds: &[FdId]) {
    on.call(
        &CloseReq {
            fds: Array::new(fds),
        },
        &mut Reply::new(),
    )
    .unwrap();
}

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    result.expect_err("the server refuses").errno()
}

/// What is made in a directory, for whoever the server takes the client for.
fn create_in(dir_fd: FdId, mode: u16) -> CreateCommon {
    CreateCommon {
        dir_fd,
        uid: Uid::NONE,
        gid: Gid::NONE,
        mode,
    }
}

fn mkdir(on: &mut impl Communicator, dir_fd: FdId, name: &str) -> Result<FdId, Errno> {
    let create = create_in(dir_fd, 0o755);
    let name = name.as_bytes();
    let made = on.call(&MkdirAtReq { create, name }, &mut Reply::new());
    let made = made.map_err(|error| error.errno())?;
    Ok(made.child.control_fd)
}

fn unlink(on: &mut impl Communicator, dir_fd: FdId, name: &str) -> Result<(), Error> {
    on.call(
        &UnlinkAtReq {
            dir_fd,
            flags: 0,
            name: name.as_bytes(),
        },
        &mut Reply::new(),
    )
}

fn rename(
    on: &mut impl Communicator,
    (old_dir, old_name): (FdId, &str),
    (new_dir, new_name): (FdId, &str),
) -> Result<(), Error> {
    let (old_name, new_name) = (old_name.as_bytes(), new_name.as_bytes());
    on.call(
        &RenameAtReq {
            old_dir,
            new_dir,
            old_name,
            new_name,
        },
        &mut Reply::new(),
    )
}

#[test]
fn ids_are_bounded_counted_and_never_used_again() {
    let scene = Scene::new();
    let opts = ConnectionOpts {
        max_ids: 4,
        ..ConnectionOpts::default()
    };
    let (mut socket, root) = scene.connect(opts).unwrap();
    let below = walk(&mut socket, root, &["a", "b"]).unwrap();
    assert_eq!(scene.server.census().ids, 3);
    // One too many: nothing of the walk stays behind.
    assert_eq!(walk(&mut socket, root, &["c", "d"]), Err(Errno::EMFILE));
    assert_eq!(scene.server.census().ids, 3);
    let last = one(&mut socket, root, "e");
    assert_eq!(walk(&mut socket, root, &["f"]), Err(Errno::EMFILE));
    close(&mut socket, &[below[0], below[0], FdId(999), FdId::INVALID]);
    let reused = one(&mut socket, root, "g");
    assert!(reused > last, "{reused} was handed out after {last}");
}

#[test]
fn objects_are_bounded_with_an_id_or_without() {
    let scene = Scene::new();
    let opts = ConnectionOpts {
        max_fds: 4,
        ..ConnectionOpts::default()
    };
    let (mut socket, root) = scene.connect(opts).unwrap();
    let open = |socket: &mut Socket, fd| {
        let opened = socket.call(&OpenAtReq { fd, flags: 0 }, &mut Reply::new());
        opened.map(|opened| opened.open_fd)
    };
    let f = one(&mut socket, root, "f");
    let first = open(&mut socket, f).unwrap();
    let second = open(&mut socket, f).unwrap();
    assert_eq!(errno(open(&mut socket, f)), Errno::EMFILE);
    assert_eq!(walk(&mut socket, root, &["g"]), Err(Errno::EMFILE));
    // The open files keep the position that they were opened from.
    close(&mut socket, &[f]);
    assert_eq!(scene.server.census().ids, 3);
    assert_eq!(scene.server.census().objects, 4);
    assert_eq!(walk(&mut socket, root, &["g"]), Err(Errno::EMFILE));
    close(&mut socket, &[first, second]);
    assert_eq!(scene.server.census().objects, 1);
    walk(&mut socket, root, &["g"]).unwrap();
}

#[test]
fn a_failed_walk_leaves_no_id_and_no_node() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let held = || (scene.server.census(), scene.server.count_nodes());
    let before = held();
    assert_eq!(
        walk(&mut socket, root, &["a", "b", "denied"]),
        Err(Errno::EACCES)
    );
    assert_eq!(
        walk(&mut socket, root, &["a", "b", "x/y"]),
        Err(Errno::EINVAL)
    );
    assert_eq!(held(), before);
}

#[test]
fn nodes_live_as_long_as_something_refers_to_them() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let path = walk(&mut socket, root, &["a", "b", "f"]).unwrap();
    assert_eq!(scene.server.count_nodes(), 4);
    let mut reply = Reply::new();
    let open = socket
        .call(
            &OpenAtReq {
                fd: path[2],
                flags: 0,
            },
            &mut reply,
        )
        .unwrap()
        .open_fd;
    close(&mut socket, &path);
    assert_eq!(
        scene.server.count_nodes(),
        4,
        "the open file holds its path"
    );
    close(&mut socket, &[open]);
    assert_eq!(scene.server.count_nodes(), 1);
}

#[test]
fn a_tree_of_any_depth_is_renamed_deleted_and_dropped() {
    let scene = Scene::new();
    let opts = ConnectionOpts {
        max_fds: 200_000,
        ..ConnectionOpts::default()
    };
    let (mut socket, root) = scene.connect(opts).unwrap();
    let step = vec!["d"; 10_000];
    let (mut deepest, mut upper) = (root, Vec::new());
    for _ in 0..10 {
        let walked = walk(&mut socket, deepest, &step).unwrap();
        deepest = *walked.last().unwrap();
        upper.extend(walked);
    }
    upper.pop();
    // From here on only the deepest id holds 100,000 nodes.
    for ids in upper.chunks(60_000) {
        close(&mut socket, ids);
    }
    assert_eq!(scene.server.count_nodes(), 100_001);
    rename(&mut socket, (root, "d"), (root, "e")).unwrap();
    unlink(&mut socket, root, "e").unwrap();
    assert_eq!(walk(&mut socket, deepest, &["f"]).unwrap(), []);
    close(&mut socket, &[deepest]);
    assert_eq!(scene.server.count_nodes(), 1);
}

#[test]
fn a_mount_path_of_any_depth_is_renamed_opened_below_and_dropped() {
    const DEPTH: usize = 100_000;
    let scene = Scene::new();
    let opts = ConnectionOpts {
        mount_path: b"/d".repeat(DEPTH),
        ..ConnectionOpts::default()
    };
    let (mut socket, bottom) = scene.connect(opts).unwrap();
    assert_eq!(scene.server.count_nodes(), DEPTH + 1);
    let (mut other, root) = scene.client();
    rename(&mut other, (root, "d"), (root, "e")).unwrap();
    let f = one(&mut socket, bottom, "f");
    let open = OpenAtReq { fd: f, flags: 0 };
    socket.call(&open, &mut Reply::new()).unwrap();
    let opened = scene.events().pop().unwrap();
    let path = format!("open /e{}/f", "/d".repeat(DEPTH - 1));
    assert!(opened == path, "it is not opened where it is");
    drop((socket, other));
    scene.server.wait();
    assert_eq!(scene.server.count_nodes(), 1);
}

/// What is deleted is no part of the tree, and keeps nothing that is or was in it.
#[test]
fn a_deleted_node_keeps_no_other() {
    const DEPTH: usize = 1000;
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    for by_rename in [false, true] {
        let chain = walk(&mut socket, root, &["d"; DEPTH]).unwrap();
        let (leaf, above) = chain.split_last().unwrap();
        // Each is held from below alone, once it is deleted.
        for (left, dir) in above.iter().enumerate().rev() {
            if by_rename {
                rename(&mut socket, (root, "new"), (*dir, "d")).unwrap();
            } else {
                unlink(&mut socket, *dir, "d").unwrap();
            }
            assert_eq!(scene.stage.nodes.load(SeqCst), 1 + left + 1 + 1);
            close(&mut socket, &[*dir]);
        }
        assert_eq!(scene.server.count_nodes(), 1);
        assert_eq!(scene.stage.nodes.load(SeqCst), 2);
        close(&mut socket, &[*leaf]);
        assert_eq!(scene.stage.nodes.load(SeqCst), 1);
    }
}

/// A name that goes at the top takes with it what clients hold far below.
#[test]
fn what_is_deleted_with_what_is_above_keeps_no_other() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let chain = walk(&mut socket, root, &["d"; 1000]).unwrap();
    let (leaf, above) = chain.split_last().unwrap();
    close(&mut socket, above);
    assert_eq!(scene.stage.nodes.load(SeqCst), 1001);
    unlink(&mut socket, root, "d").unwrap();
    assert_eq!(scene.stage.nodes.load(SeqCst), 2);
    assert_eq!(errno(unlink(&mut socket, *leaf, "d")), Errno::EINVAL);
    close(&mut socket, &[*leaf]);
    assert_eq!(scene.stage.nodes.load(SeqCst), 1);
}

#[test]
fn a_deleted_node_does_not_take_its_successor_along() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let old = one(&mut socket, root, "d");
    unlink(&mut socket, root, "d").unwrap();
    let new = one(&mut socket, root, "d");
    assert_eq!(
        walk(&mut socket, old, &["f"]).unwrap(),
        [],
        "the old one is deleted"
    );
    close(&mut socket, &[old]);
    // The tree still knows the new one under this name, so unlinking marks it.
    assert_eq!(walk(&mut socket, new, &["f"]).unwrap().len(), 1);
    unlink(&mut socket, root, "d").unwrap();
    assert_eq!(walk(&mut socket, new, &["f"]).unwrap(), []);
}

#[test]
fn renames_move_nodes_and_tell_whoever_asked() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let (a, b) = (one(&mut socket, root, "a"), one(&mut socket, root, "b"));
    let f = walk(&mut socket, a, &["sub", "f"]).unwrap()[1];
    let open = |socket: &mut Socket, fd| {
        socket
            .call(&OpenAtReq { fd, flags: 0 }, &mut Reply::new())
            .unwrap();
    };
    open(&mut socket, f);
    rename(&mut socket, (a, "sub"), (b, "moved")).unwrap();
    open(&mut socket, f);
    let events = scene.events();
    for event in [
        "open /a/sub/f",
        "control renamed /b/moved",
        "control renamed /b/moved/f",
    ] {
        assert!(
            events.iter().any(|seen| seen == event),
            "{event} is not in {events:?}"
        );
    }
    assert!(
        events.contains(&"open renamed /b/moved/f".to_owned()),
        "{events:?}"
    );
    assert_eq!(events.last().unwrap(), "open /b/moved/f");
}

#[test]
fn a_rename_between_links_of_one_file_changes_nothing() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let (f, other) = (
        one(&mut socket, root, "f"),
        one(&mut socket, root, "f-other-link"),
    );
    rename(&mut socket, (root, "f"), (root, "f-other-link")).unwrap();
    for fd in [f, other] {
        socket
            .call(&OpenAtReq { fd, flags: 0 }, &mut Reply::new())
            .unwrap();
    }
}

#[test]
fn an_exchange_deletes_neither_side() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let (a, b) = (one(&mut socket, root, "a"), one(&mut socket, root, "b"));
    let request = RenameAt2Req {
        old_dir: root,
        new_dir: root,
        old_name: b"a",
        new_name: b"b",
        flags: 2,
    };
    socket.call(&request, &mut Reply::new()).unwrap();
    for fd in [a, b] {
        assert_eq!(walk(&mut socket, fd, &["f"]).unwrap().len(), 1);
    }
    unlink(&mut socket, root, "a").unwrap();
    assert_eq!(
        walk(&mut socket, b, &["f"]).unwrap(),
        [],
        "b is called a now"
    );
    assert_eq!(walk(&mut socket, a, &["f"]).unwrap().len(), 1);
}

#[test]
fn connections_and_channels_are_bounded_and_given_back() {
    let scene = Scene::with(Server::new(1));
    let (mut socket, root) = scene.client();
    assert_eq!(
        scene.connect(ConnectionOpts::default()).err(),
        Some(Errno::EMFILE)
    );
    let mut channels: Vec<Channel> = (0..4).map(|_| channel(&mut socket)).collect();
    let fifth = socket.open_channel(WaitPolicy::Park, &Spinners::new());
    assert_eq!(errno(fifth), Errno::ENOMEM);
    one(channels.last_mut().unwrap(), root, "a");

    channels.pop();
    let is_free = || scene.server.census().channels < 4;
    assert!(within(DEADLINE, is_free));
    channels.push(channel(&mut socket));
    one(channels.last_mut().unwrap(), root, "b");
    drop((socket, channels));
    scene.server.wait();
    assert_eq!(scene.server.count_nodes(), 1);
    scene.client();
}

#[test]
fn a_connection_lives_below_its_mount_path() {
    let scene = Scene::new();
    let opts = ConnectionOpts {
        mount_path: b"/mnt//data/".to_vec(),
        ..ConnectionOpts::default()
    };
    let (_socket, _) = scene.connect(opts).unwrap();
    assert_eq!(scene.events(), ["mount /mnt/data"]);
    for bad in [&b"relative"[..], b"", b"/a/../b", b"/a/./b", b"/a\0b"] {
        let opts = ConnectionOpts {
            mount_path: bad.to_vec(),
            ..ConnectionOpts::default()
        };
        assert_eq!(
            scene.connect(opts).err(),
            Some(Errno::EINVAL),
            "{}",
            bad.escape_ascii()
        );
    }
}

#[test]
fn a_reply_never_exceeds_the_limit() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let mut channel = channel(&mut socket);
    let f = one(&mut socket, root, "f");
    let open = socket
        .call(&OpenAtReq { fd: f, flags: 0 }, &mut Reply::new())
        .unwrap()
        .open_fd;
    let mut buffer = vec![0; DEFAULT_MAX_MESSAGE_SIZE as usize - 7];
    let most = buffer.len() - 1;
    for (count, expected) in [(most, Ok(most)), (most + 1, Err(Errno::ENOBUFS))] {
        let read = channel.pread(open, 0, &mut buffer[..count], &mut Reply::new());
        assert_eq!(read.map_err(|error| error.errno()), expected);
    }
    let longest = (DEFAULT_MAX_MESSAGE_SIZE as usize - 3) / size_of::<Inode>();
    assert_eq!(
        walk(&mut channel, root, &vec!["d"; longest]).unwrap().len(),
        longest
    );
    assert_eq!(
        walk(&mut channel, root, &vec!["d"; longest + 1]),
        Err(Errno::EIO)
    );
}
