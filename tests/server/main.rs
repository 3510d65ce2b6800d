//! The server runtime by itself: ids, nodes, locks, threads and the ends of connections.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)] // a test may panic

mod abandoned;
mod brittle;
mod direct;
mod donations;
mod ends;
mod lingering;
mod listing;
mod model;
mod nodes;
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

/// Whoever guesses them finds nothing, however far the request has come that makes them.
#[test]
fn ids_are_known_with_the_reply_that_tells_of_them() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let mut guesser = channel(&mut socket);
    let last = one(&mut socket, root, "d");
    thread::scope(|scope_of_threads| {
        let walking = scope_of_threads.spawn(|| walk(&mut socket, root, &["a", "b", "hangs"]));
        scene.stage.wait_until_stuck(1);
        let mut reply = Reply::new();
        for ahead in 1..10 {
            let fd = FdId(last.0 + ahead);
            let guessed = guesser.call(&StatReq { fd }, &mut reply);
            assert_eq!(errno(guessed), Errno::EBADF, "{fd}");
        }
        scene.stage.release();
        scene.stage.release_walks();
        let walked = walking.join().unwrap().unwrap();
        assert_eq!(walked.len(), 3);
        for fd in walked {
            assert!(
                (last.0 + 1..last.0 + 10).contains(&fd.0),
                "{fd} was not guessed"
            );
            guesser.call(&StatReq { fd }, &mut reply).unwrap();
        }
    });
}

#[test]
fn an_id_that_is_there_often_is_synced_once() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let mut reply = Reply::new();
    let mut open = |name| {
        let fd = one(&mut socket, root, name);
        let opened = socket.call(&OpenAtReq { fd, flags: 0 }, &mut reply);
        opened.unwrap().open_fd
    };
    let [one, two] = ["f-one", "f-two"].map(&mut open);
    let mut many = vec![one; 30_000];
    many.extend([two, one, two]);
    let fds = Array::new(&many);
    for _ in 0..2 {
        socket.call(&FSyncReq { fds }, &mut reply).unwrap();
    }
    let mut synced = scene.events();
    synced.retain(|event| event.starts_with("sync"));
    let once = ["sync f-one", "sync f-two"];
    assert_eq!(synced, [once, once].concat());
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
