//! The client against real servers: ours, in this process, and gVisor's own.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod either;
#[path = "../interop/gvisor.rs"]
#[allow(dead_code)] // the other direction needs more
mod gvisor;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use either::{Running, Server, Which};
use flipcall::WaitPolicy;
use gvisor::RELEASES;
use libtest_mimic::Trial;
use lisafs::Errno;
use lisafs::client::{
    Client, ClientOptions, ControlFile, Create, Error, File, OpenOptions, SetAttributes,
};
use lisafs::wire::{FileType, Gid, Mid, TimeSpec, Uid};
use lisafs_patience::within;

/// Lists the tests by their names.
macro_rules! tests {
    ($($name:ident)*) => { [$((stringify!($name), $name as fn(Which))),*] };
}

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let both = tests! {
        five_mebibytes_go_there_and_back
        data_is_read_and_written_in_place
        donated_descriptors_are_used_only_when_wanted
        files_read_and_write_like_any_other
        links_are_followed_on_this_side_and_stay_inside
        trees_may_be_deeper_than_a_host_path_can_say
        directories_are_made_listed_and_removed
        names_and_attributes_change
        handles_do_the_rest
        sockets_are_bound_and_connected
        a_fifo_is_read_in_order
    };
    let only_processes = tests! {
        a_killed_server_is_eio_soon
    };
    let ours = both.into_iter().map(|(name, test)| {
        Trial::test(format!("ours::{name}"), move || {
            test(Which::Ours);
            Ok(())
        })
    });
    let gvisors = RELEASES.iter().flat_map(|release| {
        let tests = both.into_iter().chain(only_processes);
        tests.map(move |(name, test)| {
            release.trial(&format!("::{name}"), move || {
                test(Which::Gvisors(release));
                Ok(())
            })
        })
    });
    libtest_mimic::run(&arguments, ours.chain(gvisors).collect()).exit();
}

/// Runs `test` with every way of reaching a server.
fn each_way(which: Which, test: impl Fn(&Client, &Server)) {
    let options = ClientOptions::new;
    for options in [
        options(),
        options().channels(0),
        options().channels(1).donations(false),
        options().wait(WaitPolicy::Spin(Duration::from_micros(50))),
    ] {
        let mut server = Server::start(which);
        let client = server.client(&options);
        test(&client, &server);
    }
}

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    result.unwrap_err().errno()
}

fn five_mebibytes_go_there_and_back(which: Which) {
    let data: Vec<u8> = (0..5 << 20)
        .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    each_way(which, |client, server| {
        client.write("big", &data).unwrap();
        assert_eq!(fs::read(server.path("big")).unwrap(), data);
        assert_eq!(client.read("big").unwrap(), data);
        let file = client.open("big").unwrap();
        let mut end = [0; 100];
        assert_eq!(file.read_at(&mut end, data.len() as u64 - 40).unwrap(), 40);
        assert_eq!(&end[..40], &data[data.len() - 40..]);
        assert_eq!(file.read_at(&mut end, data.len() as u64).unwrap(), 0);
        assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
        assert_eq!(errno(file.write_at(b"x", 0)), Errno::EBADF);
    });
}

fn data_is_read_and_written_in_place(which: Which) {
    each_way(which, |client, server| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .open(client, "f")
            .unwrap();
        let file = file.into_inner();
        let text = b"in place";
        let fill = |room: flipcall::SharedBytes<'_>| {
            assert_eq!(room.len(), 100);
            room.copy_from(0, text).unwrap();
            text.len()
        };
        assert_eq!(file.write_with(100, 3, fill).unwrap(), text.len());
        assert_eq!(fs::read(server.path("f")).unwrap(), b"\0\0\0in place");
        let read = |len, offset| {
            let copy = |data: flipcall::SharedBytes<'_>| {
                let mut copy = vec![0; data.len()];
                data.copy_to(0, &mut copy).unwrap();
                copy
            };
            file.read_with(len, offset, copy)
        };
        assert_eq!(read(usize::MAX, 3).unwrap(), text);
        assert_eq!(read(2, 3).unwrap(), b"in");
        assert!(read(10, 1000).unwrap().is_empty());
        // More data than there is room.
        assert_eq!(file.write_with(2, 0, |_| 3).unwrap(), 2);
        let most = file.write_with(usize::MAX, 0, |room| room.len()).unwrap();
        assert!(most <= client.max_message_size() as usize);
        assert_eq!(server.path("f").metadata().unwrap().len(), most as u64);

        let unreadable = client.create("f").unwrap().into_inner();
        let read = unreadable.read_with(1, 0, |data| data.len());
        assert_eq!(errno(read), Errno::EBADF);
    });
}

fn donated_descriptors_are_used_only_when_wanted(which: Which) {
    let mut server = Server::start(which);
    fs::write(server.path("f"), "host").unwrap();
    let client = server.client(&ClientOptions::new().channels(1));
    let file = client.open("f").unwrap().into_inner();
    assert!(file.donated_fd().is_some());
    let calls = || {
        let waits = client.wait_stats()[0];
        waits.wakes + waits.elided_wakes
    };
    let mut buf = [0; 10];
    let before = calls();
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
    assert_eq!(calls(), before);
    let file = file.without_donation();
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
    assert_eq!(calls(), before + 1);
    assert!(file.donated_fd().is_some());
}

fn files_read_and_write_like_any_other(which: Which) {
    each_way(which, |client, _| {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .open(client, "f")
            .unwrap();
        writeln!(file, "one").unwrap();
        writeln!(file, "two").unwrap();
        file.seek(SeekFrom::Start(1)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ne\ntwo\n");
        assert_eq!(file.seek(SeekFrom::End(-4)).unwrap(), 4);
        assert_eq!(BufReader::new(file).lines().next().unwrap().unwrap(), "two");

        let file = client.create("f").unwrap();
        assert_eq!(file.metadata().unwrap().size, 0);
        file.as_inner().allocate(0, 0, 8192).unwrap();
        file.sync_all().unwrap();
        file.as_inner().flush().unwrap();
        assert_eq!(client.metadata("f").unwrap().size, 8192);
        let again = OpenOptions::new().write(true).create_new(true);
        assert_eq!(errno(again.open(client, "f")), Errno::EEXIST);
        assert_eq!(
            errno(again.clone().read(true).open(client, "f/")),
            Errno::EISDIR
        );
        assert_eq!(errno(OpenOptions::new().open(client, "f")), Errno::EINVAL);
        assert_eq!(errno(client.open("nope")), Errno::ENOENT);
        assert_eq!(errno(client.create("f/x")), Errno::ENOTDIR);
        assert_eq!(errno(client.create(".")), Errno::EISDIR);
    });
}

fn links_are_followed_on_this_side_and_stay_inside(which: Which) {
    each_way(which, |client, server| {
        fs::create_dir_all(server.path("a/b")).unwrap();
        fs::write(server.path("a/b/f"), "deep").unwrap();
        fs::write(server.path("top"), "top").unwrap();
        for (target, link) in [
            ("b", "a/rel"),
            ("/a/b", "abs"),
            ("../../../../top", "a/b/up"),
            ("abs/f", "chain"),
            ("loop", "loop"),
            ("nowhere", "dangling"),
            ("a/b/", "slash"),
            ("top/", "file-slash"),
            ("../..", "a/b/climb"),
            ("/top", "a/b/absolute"),
        ] {
            symlink(target, server.path(link)).unwrap();
        }
        let read = |path: &str| {
            client
                .read(path)
                .map(|data| String::from_utf8(data).unwrap())
        };
        for path in [
            "a/b/f",
            "/a/b/f",
            "a//b/./f",
            "a/rel/f",
            "abs/f",
            "chain",
            "slash/f",
            "a/rel/../b/f",
            "../../a/b/f",
            "a/b/climb/a/rel/f",
            "abs/../b/f",
        ] {
            assert_eq!(read(path).unwrap(), "deep", "{path}");
        }
        assert_eq!(read("a/b/up").unwrap(), "top");
        assert_eq!(read("a/b/absolute").unwrap(), "top");
        assert_eq!(errno(read("loop")), Errno::ELOOP);
        assert_eq!(errno(read("loop/x")), Errno::ELOOP);
        assert_eq!(errno(read("dangling")), Errno::ENOENT);
        assert_eq!(errno(read("file-slash")), Errno::ENOTDIR);
        assert_eq!(errno(read("top/")), Errno::ENOTDIR);
        assert_eq!(errno(read("top/.")), Errno::ENOTDIR);
        assert_eq!(errno(read("top/..")), Errno::ENOTDIR);
        assert_eq!(errno(read("nope/../top")), Errno::ENOENT);
        assert_eq!(errno(read("")), Errno::ENOENT);
        assert_eq!(errno(read(&"x".repeat(256))), Errno::ENAMETOOLONG);
        assert_eq!(errno(read(&"x".repeat(70_000))), Errno::ENAMETOOLONG);

        let link = |path: &str| client.symlink_metadata(path).unwrap().file_type();
        assert_eq!(link("abs"), FileType::Symlink);
        assert_eq!(link("abs/"), FileType::Directory);
        assert_eq!(
            client.metadata("abs").unwrap().file_type(),
            FileType::Directory
        );
        assert_eq!(client.read_link("abs").unwrap(), Path::new("/a/b"));
        assert_eq!(errno(client.read_link("top")), Errno::EINVAL);
        assert_eq!(
            client.canonicalize("a/b/climb/./abs/f").unwrap(),
            Path::new("/a/b/f")
        );
        assert_eq!(client.canonicalize("..").unwrap(), Path::new("/"));
        assert!(!client.exists("dangling").unwrap());
        assert!(client.exists("/").unwrap());

        // Created where the link leads.
        client.write("dangling", "now").unwrap();
        assert_eq!(fs::read_to_string(server.path("nowhere")).unwrap(), "now");
        let new = OpenOptions::new().write(true).create_new(true);
        assert_eq!(errno(new.open(client, "loop")), Errno::EEXIST);
    });
}

fn trees_may_be_deeper_than_a_host_path_can_say(which: Which) {
    each_way(which, |client, server| {
        let name = "n".repeat(250);
        let mut dir = client.root();
        let mut path = PathBuf::new();
        for _ in 0..60 {
            dir = dir.mkdir(&name, Create::mode(0o755)).unwrap();
            path.push(&name);
        }
        drop(dir);
        path.push("end");
        client.write(&path, "here").unwrap();
        assert_eq!(client.read(&path).unwrap(), b"here");
        assert_eq!(
            client.canonicalize(&path).unwrap(),
            Path::new("/").join(&path)
        );
        client.remove_dir_all(&name).unwrap();
        assert_eq!(fs::read_dir(server.dir.path()).unwrap().count(), 0);
    });
}

fn directories_are_made_listed_and_removed(which: Which) {
    each_way(which, |client, server| {
        client.create_dir("d").unwrap();
        assert_eq!(errno(client.create_dir("d")), Errno::EEXIST);
        assert_eq!(errno(client.create_dir("/")), Errno::EEXIST);
        assert_eq!(errno(client.create_dir("x/y")), Errno::ENOENT);
        client.create_dir_all("d/e/f/").unwrap();
        client.create_dir_all("d/e/f").unwrap();
        client.create_dir_all("/").unwrap();
        client.write("file", "").unwrap();
        assert_eq!(errno(client.create_dir_all("file")), Errno::EEXIST);
        assert_eq!(errno(client.create_dir_all("file/d")), Errno::ENOTDIR);
        let names: Vec<_> = (0..3000)
            .map(|i| format!("{i:0>100}").into_bytes())
            .collect();
        for name in &names {
            fs::write(server.path("d/e").join(OsStr::from_bytes(name)), "").unwrap();
        }
        fs::write(server.path("d/e").join(OsStr::from_bytes(b"\xff\n")), "").unwrap();
        let mut entries = client.read_dir("d/e").unwrap();
        let mut listed: Vec<_> = entries.by_ref().map(Result::unwrap).collect();
        entries.rewind();
        assert_eq!(entries.count(), 3002);
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(listed.len(), 3002);
        assert_eq!(listed[0].name.as_bytes(), names[0]);
        assert_eq!(listed[3000].file_type, FileType::Directory);
        assert_eq!(listed[3001].name.as_bytes(), b"\xff\n");
        let host = fs::metadata(server.path("d/e/f")).unwrap();
        assert_eq!(listed[3000].ino, host.ino());
        assert_eq!(errno(client.read_dir("file")), Errno::ENOTDIR);

        assert_eq!(errno(client.remove_dir("d")), Errno::ENOTEMPTY);
        assert_eq!(errno(client.remove_dir("file")), Errno::ENOTDIR);
        assert_eq!(errno(client.remove_dir(".")), Errno::EBUSY);
        assert_eq!(errno(client.remove_file("d")), Errno::EISDIR);
        assert_eq!(errno(client.remove_file("d/")), Errno::EISDIR);
        assert_eq!(errno(client.remove_file("file/")), Errno::ENOTDIR);
        client.symlink("d", "link").unwrap();
        assert_eq!(errno(client.remove_dir_all("link/")), Errno::ENOTDIR);
        client.remove_dir_all("link").unwrap();
        assert!(server.path("d/e").exists());
        assert_eq!(errno(client.remove_dir_all("file")), Errno::ENOTDIR);
        client.remove_dir_all("d").unwrap();
        client.remove_file("file").unwrap();
        assert_eq!(fs::read_dir(server.dir.path()).unwrap().count(), 0);
    });
}

fn names_and_attributes_change(which: Which) {
    each_way(which, |client, server| {
        client.write("a", "text").unwrap();
        client.set_permissions("a", 0o4711).unwrap();
        assert_eq!(client.metadata("a").unwrap().permissions(), 0o4711);
        let time = |sec| TimeSpec { sec, nsec: 5 };
        let changes = SetAttributes::new().size(2).atime(time(7)).mtime(time(-9));
        client.set_attributes("a", &changes).unwrap();
        let stat = client.metadata("a").unwrap();
        let host = fs::metadata(server.path("a")).unwrap();
        assert_eq!((stat.size, stat.ino, stat.nlink), (2, host.ino(), 1));
        assert_eq!((host.atime(), host.mtime()), (7, -9));
        assert_eq!((stat.mtime.sec, stat.mtime.nsec), (-9, 5));
        let on_dir = client.set_attributes(".", &SetAttributes::new().size(0));
        assert_eq!(errno(on_dir), Errno::EISDIR);

        client.hard_link("a", "b").unwrap();
        assert_eq!(client.metadata("a").unwrap().nlink, 2);
        client.rename("b", "c").unwrap();
        assert_eq!(errno(client.rename("b", "c")), Errno::ENOENT);
        client.create_dir("d").unwrap();
        let keep = client.rename_with("a", "c", libc::RENAME_NOREPLACE);
        if client.supports(Mid::RENAME_AT2) {
            assert_eq!(errno(keep), Errno::EEXIST);
            client.rename_with("a", "d", libc::RENAME_EXCHANGE).unwrap();
        } else {
            // As of a file system that does not know the flag.
            assert_eq!(errno(keep), Errno::EINVAL);
            for (old, new) in [("a", "was-a"), ("d", "a"), ("was-a", "d")] {
                client.rename(old, new).unwrap();
            }
        }
        assert!(server.path("a").is_dir());
        client.rename("a/", "e/").unwrap();
        assert_eq!(errno(client.rename("d/", "f")), Errno::ENOTDIR);
        assert_eq!(errno(client.rename("..", "f")), Errno::EBUSY);
        assert!(client.stat_fs("/").unwrap().blocks > 0);
        client.symlink("any thing", "l").unwrap();
        assert_eq!(
            fs::read_link(server.path("l")).unwrap(),
            Path::new("any thing")
        );
    });
}

fn handles_do_the_rest(which: Which) {
    each_way(which, |client, server| {
        let root = client.root();
        let (file, open) = root.create("f", Create::mode(0o640), libc::O_RDWR).unwrap();
        assert_eq!(open.write_at(b"12345", 3).unwrap(), 5);
        assert_eq!(open.stat().unwrap().size, 8);
        assert_eq!(file.stat().unwrap().permissions(), 0o640);
        drop(open);
        assert_eq!(
            errno(root.create("f", Create::mode(0o640), 0)),
            Errno::EEXIST
        );
        let mode = libc::S_IFREG | 0o600;
        let made = root.mknod("n", Create::mode(mode), (0, 0)).unwrap();
        assert_eq!(made.file_type(), FileType::Regular);
        assert_eq!(errno(root.mkdir("..", Create::mode(0o755))), Errno::EINVAL);
        assert_eq!(errno(root.mkdir("d", Create::mode(1 << 16))), Errno::EINVAL);

        if client.supports(Mid::FLIST_XATTR) {
            attributes_are_kept(&file);
        } else {
            let set = file.set_xattr("user.a", b"value", 0);
            assert_eq!(errno(set), Errno::EOPNOTSUPP);
            assert_eq!(errno(file.list_xattr()), Errno::EOPNOTSUPP);
        }

        let stats = root.walk_stat(&["", "f"]).unwrap();
        assert_eq!(stats.len(), 2);
        assert_eq!(stats[1].ino, file.attributes().ino);
        assert_eq!(root.walk_stat(&["nope", "x"]).unwrap().len(), 0);
        assert_eq!(errno(file.walk(&["x"])), Errno::ENOTDIR);
        assert_eq!(errno(root.walk_one("nope")), Errno::ENOENT);
        assert_eq!(
            fs::metadata(server.path("f")).unwrap().permissions().mode() & 0o7777,
            0o640
        );
    });
}

fn attributes_are_kept(file: &ControlFile) {
    file.set_xattr("user.a", b"value", 0).unwrap();
    assert_eq!(file.get_xattr("user.a").unwrap(), b"value");
    assert_eq!(file.list_xattr().unwrap(), ["user.a"]);
    let again = file.set_xattr("user.a", b"", libc::XATTR_CREATE);
    assert_eq!(errno(again), Errno::EEXIST);
    file.remove_xattr("user.a").unwrap();
    assert_eq!(errno(file.get_xattr("user.a")), Errno::ENODATA);
    let long = vec![0; 65_536];
    assert_eq!(errno(file.set_xattr("user.a", &long, 0)), Errno::E2BIG);
}

fn sockets_are_bound_and_connected(which: Which) {
    each_way(which, |client, server| {
        let root = client.root();
        let how = Create::mode(0o700);
        let (file, socket) = root.bind("s", how, libc::SOCK_STREAM).unwrap();
        assert_eq!(file.file_type(), FileType::Socket);
        assert!(
            fs::metadata(server.path("s"))
                .unwrap()
                .file_type()
                .is_socket()
        );
        socket.listen(4).unwrap();
        assert_eq!(errno(socket.accept()), Errno::EAGAIN);
        let there = client.lookup("s").unwrap();
        assert_eq!(errno(there.connect(libc::SOCK_DGRAM)), Errno::EPROTOTYPE);
        assert_eq!(errno(root.connect(libc::SOCK_STREAM)), Errno::ENOTSOCK);
        let mut ours = UnixStream::from(there.connect(libc::SOCK_STREAM).unwrap());
        let theirs = UnixStream::from(socket.accept().unwrap());
        theirs.set_nonblocking(false).unwrap();
        ours.write_all(b"hello").unwrap();
        let mut buf = [0; 5];
        (&theirs).read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"hello");
        let none = there
            .connect_as(libc::SOCK_STREAM, Uid::NONE, Gid::NONE)
            .unwrap();
        drop(none);
    });
}

fn a_fifo_is_read_in_order(which: Which) {
    let mut server = Server::start(which);
    let fifo = server.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let client = server.client(&ClientOptions::new());
    // Keeps both ends open, so that no open waits.
    let mut host = fs::File::options()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    let mut file: File = client.open("fifo").unwrap();
    assert!(!file.is_seekable());
    host.write_all(b"first second").unwrap();
    let mut buf = [0; 6];
    file.read_exact(&mut buf).unwrap();
    file.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"second");
    assert_eq!(
        file.seek(SeekFrom::Start(0)).unwrap_err().raw_os_error(),
        Some(libc::ESPIPE)
    );
}

/// How long callers may take to notice that the server is gone, on a machine that does ten other things:
/// they must not wait for ever.
const SOON: Duration = Duration::from_secs(20);

fn a_killed_server_is_eio_soon(which: Which) {
    let mut server = Server::start(which);
    let client = server.client(&ClientOptions::new());
    fs::write(server.path("f"), vec![1; 100]).unwrap();
    let file = client.open("f").unwrap().into_inner().without_donation();
    // Busy callers on all communicators, until the server dies under them.
    let ends: Vec<_> = (0..6)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || {
                loop {
                    if let Err(why) = client.root().stat() {
                        return why.errno();
                    }
                }
            })
        })
        .collect();
    while client.wait_stats().len() < 2 {
        std::thread::yield_now();
    }
    let Running::Gvisors(process) = &mut server.running else {
        panic!("only a process can be killed");
    };
    process.kill().unwrap();
    let has_noticed = || ends.iter().all(JoinHandle::is_finished);
    assert!(within(SOON, has_noticed));
    for end in ends {
        assert_eq!(end.join().unwrap(), Errno::EIO);
    }
    assert_eq!(errno(file.read_at(&mut [0; 10], 0)), Errno::EIO);
    assert_eq!(errno(client.read("f")), Errno::EIO);
}
