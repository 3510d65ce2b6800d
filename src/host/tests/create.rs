use std::fs::{self, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::OFlag;

use super::{Ended, Served, creation, is_root, make_fifo, name};
use crate::Errno;
use crate::host::create::Fresh;
use crate::host::open::OpenFd;
use crate::host::procfd::ProcFd;
use crate::server::{Creation, NodeKind};
use crate::wire::{FileType, Gid, Statx, Uid};

fn kind(file_type: u32, major: u32, minor: u32) -> NodeKind {
    NodeKind {
        file_type,
        major,
        minor,
    }
}

/// As somebody else, whom an ordinary user cannot give files to.
fn foreign(permissions: u32) -> Creation {
    Creation {
        permissions,
        uid: Uid(54_321),
        gid: Gid(12_345),
    }
}

#[test]
fn what_is_created_has_exactly_the_mode_that_was_asked_for() {
    let served = Served::new();
    let root = served.root();
    for mode in [
        0, 0o200, 0o644, 0o777, 0o1777, 0o4755, 0o2755, 0o6111, 0o7777,
    ] {
        let file = format!("file-{mode:o}");
        let (_, stat, _) = served
            .host
            .create_file(root, name(&file), creation(mode), OFlag::O_RDWR)
            .unwrap();
        assert_eq!(stat.permissions(), mode);
        let directory = format!("directory-{mode:o}");
        let (_, stat) = served
            .host
            .mkdir(root, name(&directory), creation(mode))
            .unwrap();
        assert_eq!(stat.permissions(), mode);
        let node = format!("node-{mode:o}");
        let kind = kind(libc::S_IFREG, 7, 7);
        let (_, stat) = served
            .host
            .mknod(root, name(&node), creation(mode), kind)
            .unwrap();
        assert_eq!(stat.permissions(), mode);
        for created in [&file, &directory, &node] {
            let found = fs::symlink_metadata(served.path(created)).unwrap().mode() & 0o7777;
            assert_eq!(found, mode, "{created}");
        }
    }
}

#[test]
fn a_new_file_is_open_as_asked_for_although_its_mode_forbids_it() {
    let served = Served::new();
    let (handle, stat, file) = served
        .host
        .create_file(served.root(), name("file"), creation(0), OFlag::O_RDWR)
        .unwrap();
    let file = OpenFd::regular(&handle, file, served.root().reserve().unwrap());
    let mut data = *b"data";
    assert_eq!(file.write_at((&mut data[..]).into(), 0), Ok(4));
    let mut back = [0; 8];
    assert_eq!(file.read_at((&mut back[..]).into(), 0), Ok(4));
    assert_eq!(&back[..4], b"data");
    assert_eq!(handle.stat().unwrap().ino, stat.ino);
}

#[test]
fn nothing_that_exists_is_created() {
    let served = Served::new();
    fs::write(served.path("taken"), "content").unwrap();
    let (root, taken, host) = (served.root(), name("taken"), &served.host);
    let create = host.create_file(root, taken, creation(0o644), OFlag::O_WRONLY);
    assert_eq!(create.err(), Some(Errno::EEXIST));
    assert_eq!(
        host.mkdir(root, taken, creation(0o755)).err(),
        Some(Errno::EEXIST)
    );
    for file_type in [libc::S_IFREG, libc::S_IFCHR] {
        let mknod = host.mknod(root, taken, creation(0o644), kind(file_type, 0, 0));
        assert_eq!(mknod.err(), Some(Errno::EEXIST));
    }
    let symlink = host.symlink(root, taken, b"target", Uid::NONE, Gid::NONE);
    assert_eq!(symlink.err(), Some(Errno::EEXIST));
    assert_eq!(
        host.link(root, taken, &served.walk("taken")).err(),
        Some(Errno::EEXIST)
    );
    assert_eq!(fs::read(served.path("taken")).unwrap(), b"content");
    assert_eq!(served.names(), ["taken"]);
}

#[test]
fn only_regular_files_and_whiteouts_are_made_by_mknod() {
    let served = Served::new();
    let make = |kind| {
        let made = served
            .host
            .mknod(served.root(), name("node"), creation(0o600), kind);
        made.map(|(handle, _)| handle.file_type())
    };
    for refused in [
        kind(0, 0, 0),
        kind(libc::S_IFCHR, 1, 3),
        kind(libc::S_IFCHR, 0, 1),
        kind(libc::S_IFBLK, 0, 0),
        kind(libc::S_IFIFO, 0, 0),
        kind(libc::S_IFSOCK, 0, 0),
        kind(libc::S_IFDIR, 0, 0),
        kind(libc::S_IFLNK, 0, 0),
    ] {
        assert_eq!(make(refused), Err(Errno::EPERM), "{refused:?}");
        assert_eq!(served.names(), [""; 0]);
    }
    assert_eq!(
        make(kind(libc::S_IFCHR, 0, 0)),
        Ok(FileType::CharacterDevice)
    );
    let found = fs::symlink_metadata(served.path("node")).unwrap();
    assert!(found.file_type().is_char_device());
    assert_eq!((found.rdev(), found.mode() & 0o7777), (0, 0o600));
}

#[test]
fn a_directory_made_in_a_set_group_id_directory_is_set_group_id() {
    let served = Served::new();
    let (parent, _) = served
        .host
        .mkdir(served.root(), name("parent"), creation(0o2775))
        .unwrap();
    let (_, stat) = served
        .host
        .mkdir(&parent, name("child"), creation(0o755))
        .unwrap();
    assert_eq!(stat.permissions(), 0o2755);
    let (_, stat, _) = served
        .host
        .create_file(&parent, name("file"), creation(0o644), OFlag::O_RDONLY)
        .unwrap();
    assert_eq!(stat.permissions(), 0o644);
}

#[test]
fn what_cannot_be_given_its_owner_is_removed_again() {
    let served = Served::new();
    let (host, root) = (&served.host, served.root());
    let descriptors = served.open_descriptors();
    let results = [
        host.create_file(root, name("file"), foreign(0o6755), OFlag::O_WRONLY)
            .map(|made| made.1),
        host.mkdir(root, name("directory"), foreign(0o1755))
            .map(|made| made.1),
        host.mknod(
            root,
            name("node"),
            foreign(0o600),
            kind(libc::S_IFCHR, 0, 0),
        )
        .map(|made| made.1),
        host.symlink(root, name("link"), b"target", Uid(54_321), Gid(12_345))
            .map(|made| made.1),
        host.bind_at(root, name("socket"), foreign(0o2755), 1)
            .map(|made| made.1),
    ];
    if is_root() {
        for (result, mode) in results.iter().zip([0o6755, 0o1755, 0o600, 0o777, 0o2755]) {
            let stat = result.unwrap();
            assert_eq!(
                (stat.uid, stat.gid, stat.permissions()),
                (54_321, 12_345, mode)
            );
        }
    } else {
        assert_eq!(results, [Err(Errno::EPERM); 5]);
        assert_eq!(served.names(), [""; 0]);
    }
    assert_eq!(served.open_descriptors(), descriptors);
}

#[test]
fn undoing_removes_what_was_made_and_nothing_that_took_its_place() {
    let served = Served::new();
    let root = fs::File::open(served.directory.path()).unwrap();
    fs::write(served.path("mine"), "").unwrap();
    fs::write(served.path("moved"), "").unwrap();
    let fresh = |path: &'static str| {
        let mut fresh = Fresh::new(root.as_fd(), name(path), FileType::Regular);
        fresh.identify(&served.walk(path).stat().unwrap());
        fresh
    };
    drop(fresh("mine"));
    let moved = fresh("moved");
    fs::rename(served.path("moved"), served.path("elsewhere")).unwrap();
    fs::write(served.path("moved"), "somebody else's").unwrap();
    drop(moved);
    assert_eq!(served.names(), ["elsewhere", "moved"]);
    // Before it is known which file was made, the type still is.
    std::os::unix::fs::symlink("moved", served.path("link")).unwrap();
    for path in ["link", "elsewhere"] {
        drop(Fresh::new(root.as_fd(), name(path), FileType::Regular));
    }
    assert_eq!(served.names(), ["link", "moved"]);
}

/// What becomes of a name, and how that comes about.
type Change<'c> = (&'c str, &'c dyn Fn(&Path));

/// Opens a file once more.
type Reopen = fn(&ProcFd, BorrowedFd<'_>) -> Result<OwnedFd, Errno>;

/// Whatever an outsider does to the name between the creation of a file and the opening of its handle.
#[test]
fn the_handle_of_a_new_file_is_its_own_whatever_has_its_name_by_now() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let changes: [Change<'_>; 8] = [
        ("nothing", &|_| ()),
        ("linked", &|path| {
            fs::hard_link(path, path.with_extension("link")).unwrap();
        }),
        ("removed", &|path| fs::remove_file(path).unwrap()),
        ("moved", &|path| {
            fs::rename(path, path.with_extension("away")).unwrap();
        }),
        ("another file", &|path| {
            fs::write(path.with_extension("new"), "another").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("a directory", &|path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("a symlink", &|path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(outside.path().join("secret"), path).unwrap();
        }),
        ("a FIFO", &|path| {
            fs::remove_file(path).unwrap();
            make_fifo(path);
        }),
    ];
    let new: Reopen = |procfd, file| procfd.path_of(file);
    let old: Reopen = |procfd, file| procfd.reopen(file, OFlag::O_PATH);
    for reopen in [new, old] {
        let served = Served::new();
        let root = served.root();
        for (what, change) in changes {
            let path = served.path(what);
            let file = fs::File::create_new(&path).unwrap();
            let ino = file.metadata().unwrap().ino();
            change(&path);
            let mut identified = None;
            let share = root.reserve().unwrap();
            let identify = |stat: &Statx| identified = Some(stat.ino);
            let reopen = || reopen(&served.host.procfd, file.as_fd());
            let (handle, stat) = root
                .created(name(what), file.as_fd(), share, identify, reopen)
                .unwrap();
            assert_eq!(identified, Some(ino), "{what}");
            assert_eq!((stat.ino, handle.stat().unwrap().ino), (ino, ino), "{what}");
            assert_eq!(handle.file_type(), FileType::Regular, "{what}");
        }
    }
}

#[test]
fn files_are_created_while_others_take_their_names_away() {
    let served = Served::new();
    fs::create_dir(served.path("theirs")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (file, other) = (served.path("file"), served.path("other"));
            while !done.load(Ordering::Relaxed) {
                let _ = fs::write(&other, "theirs");
                let _ = fs::set_permissions(&other, Permissions::from_mode(0o604));
                let _ = fs::rename(&other, &file);
                let _ = fs::remove_file(&file);
            }
        });
        let _ended = Ended(&done);
        let mut made = 0;
        while made < 2000 {
            let mode = creation(0o6755);
            let created = served
                .host
                .create_file(served.root(), name("file"), mode, OFlag::O_RDWR);
            let (handle, stat, file) = match created {
                Ok(created) => created,
                Err(errno) => {
                    assert_eq!(errno, Errno::EEXIST);
                    continue;
                }
            };
            made += 1;
            let file = fs::File::from(file).metadata().unwrap();
            assert_eq!(
                (handle.stat().unwrap().ino, stat.ino),
                (file.ino(), file.ino())
            );
            assert_eq!((file.mode() & 0o7777, file.len()), (0o6755, 0));
        }
    });
}

#[test]
fn symlinks_say_any_bytes_but_nul() {
    let served = Served::new();
    let link = |target: &[u8]| {
        served
            .host
            .symlink(served.root(), name("link"), target, Uid::NONE, Gid::NONE)
    };
    assert_eq!(link(b"").err(), Some(Errno::ENOENT));
    assert_eq!(link(b"a\0b").err(), Some(Errno::EINVAL));
    assert_eq!(link(&[b'x'; 4096]).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(served.names(), [""; 0]);
    let longest = [&b"\xff/"[..], &[b'x'; 4093]].concat();
    let (handle, stat) = link(&longest).unwrap();
    assert_eq!(stat.file_type(), FileType::Symlink);
    let mut target = b"kept".to_vec();
    crate::host::names::readlink(&handle, &mut target).unwrap();
    assert_eq!(target, [b"kept", &longest[..]].concat());
}

#[test]
fn links_are_made_of_files_and_symlinks_themselves() {
    let served = Served::new();
    fs::write(served.path("file"), "").unwrap();
    std::os::unix::fs::symlink("file", served.path("link")).unwrap();
    fs::create_dir(served.path("directory")).unwrap();
    for (target, file_type) in [("file", FileType::Regular), ("link", FileType::Symlink)] {
        let target = served.walk(target);
        let new = format!("new-{file_type:?}");
        let (handle, stat) = served
            .host
            .link(served.root(), name(&new), &target)
            .unwrap();
        assert_eq!((stat.nlink, stat.file_type()), (2, file_type));
        assert_eq!(stat.ino, target.stat().unwrap().ino);
        assert_eq!(
            handle.stat().unwrap().ino,
            served.walk(&new).stat().unwrap().ino
        );
    }
    let directory = served.walk("directory");
    let linked = served.host.link(served.root(), name("new"), &directory);
    assert_eq!(linked.err(), Some(Errno::EPERM));

    let gone = served.walk("file");
    gone.hold().unwrap();
    fs::remove_file(served.path("file")).unwrap();
    fs::remove_file(served.path("new-Regular")).unwrap();
    fs::write(served.path("file"), "another").unwrap();
    assert_eq!(
        served.host.link(served.root(), name("new"), &gone).err(),
        Some(Errno::ENOENT)
    );
}
