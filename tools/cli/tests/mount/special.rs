//! What is otherwise than in a plain directory, and what a server has to do with it.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::sys::statvfs::statvfs;
use nix::unistd::{geteuid, mkfifo};

use crate::fixture::{Fixture, eventually};

fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    let why = result.err()?;
    why.raw_os_error().map(Errno::from_raw)
}

pub(crate) fn files_without_a_name_are_not_supported() {
    let at = Fixture::new();
    let mounted = at.mount(&[]);
    let mut options = File::options();
    let made = options
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(&mounted.path);
    assert_eq!(errno(made), Some(Errno::EOPNOTSUPP));
    mounted.end();
}

pub(crate) fn special_files_are_those_of_this_machine() {
    let at = Fixture::new();
    mkfifo(&at.path("served").join("fifo"), Mode::S_IRWXU).unwrap();
    let mounted = at.mount(&[]);
    let path = |name: &str| mounted.path.join(name);
    // Servers make none.
    assert_eq!(mkfifo(&path("other"), Mode::S_IRWXU), Err(Errno::EPERM));
    assert!(path("fifo").metadata().unwrap().file_type().is_fifo());
    let reader = thread::spawn({
        let fifo = path("fifo");
        move || fs::read_to_string(fifo).unwrap()
    });
    fs::write(path("fifo"), "through").unwrap();
    assert_eq!(reader.join().unwrap(), "through");

    let listener = UnixListener::bind(path("socket")).unwrap();
    assert!(path("socket").metadata().unwrap().file_type().is_socket());
    assert!(
        at.path("served")
            .join("socket")
            .metadata()
            .unwrap()
            .file_type()
            .is_socket()
    );
    let mut client = UnixStream::connect(path("socket")).unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let mut said = String::new();
    listener
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "hello");
    drop(listener);
    fs::remove_file(path("socket")).unwrap();
    mounted.end();
}

/// A block device is out of reach of every server; for one without privileges, so is what lies in a
/// directory that may only be read.
pub(crate) fn what_is_out_of_reach_is_listed() {
    let at = Fixture::new();
    let dir = at.path("served").join("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    let mut there = vec!["file"];
    if geteuid().is_root() {
        mknod(&dir.join("disk"), SFlag::S_IFBLK, Mode::S_IRWXU, 0).unwrap();
        there.insert(0, "disk");
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o400)).unwrap();
    let mounted = at.mount(&[]);
    let list = || {
        let entries = fs::read_dir(mounted.path.join("dir")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(list(), there);
    if geteuid().is_root() {
        let disk = mounted.path.join("dir/disk");
        assert_eq!(errno(disk.symlink_metadata()), Some(Errno::EPERM));
        fs::remove_file(dir.join("disk")).unwrap();
        fs::write(dir.join("disk"), "").unwrap();
        assert!(disk.symlink_metadata().unwrap().is_file());
        assert_eq!(list(), there);
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
    mounted.end();
}

pub(crate) fn the_space_is_that_of_the_server() {
    let at = Fixture::new();
    let mounted = at.mount(&[]);
    let (here, there) = (statvfs(&mounted.path), statvfs(&at.path("served")));
    let (here, there) = (here.unwrap(), there.unwrap());
    assert_eq!(here.blocks(), there.blocks());
    assert_eq!(here.block_size(), there.block_size());
    assert_eq!(here.files(), there.files());
    assert_eq!(here.name_max(), there.name_max());
    mounted.end();
}

pub(crate) fn nothing_changes_on_a_read_only_mount() {
    let at = Fixture::new();
    fs::write(at.path("served").join("file"), "contents").unwrap();
    let mounted = at.mount(&["--read-only"]);
    assert_eq!(mounted.announced["read_only"], true);
    let file = mounted.path.join("file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "contents");
    assert_eq!(errno(fs::write(&file, "")), Some(Errno::EROFS));
    assert_eq!(errno(fs::remove_file(&file)), Some(Errno::EROFS));
    assert_eq!(
        errno(fs::create_dir(mounted.path.join("dir"))),
        Some(Errno::EROFS)
    );
    mounted.end();
}

pub(crate) fn what_others_change_shows() {
    for (options, at_once) in [
        (&["--cache", "none"][..], true),
        (&["--io", "donated"], false),
        (&[], false),
    ] {
        let at = Fixture::new();
        let there = at.path("served").join("file");
        fs::write(&there, "one").unwrap();
        let mounted = at.mount(options);
        let here = mounted.path.join("file");
        assert_eq!(fs::read_to_string(&here).unwrap(), "one");
        fs::write(&there, "longer").unwrap();
        let shows = || fs::read_to_string(&here).unwrap() == "longer";
        if at_once {
            assert!(shows());
        }
        eventually("new contents show", shows);
        fs::remove_file(&there).unwrap();
        fs::create_dir(&there).unwrap();
        eventually("another file shows", || here.is_dir());
        fs::remove_dir(&there).unwrap();
        eventually("the end of it shows", || !here.exists());
        fs::write(&there, "again").unwrap();
        // What is not there is not remembered.
        assert_eq!(fs::read_to_string(&here).unwrap(), "again");
        mounted.end();
    }
}

pub(crate) fn files_that_others_remove_stay_open() {
    let at = Fixture::new();
    let there = at.path("served").join("file");
    fs::write(&there, "contents").unwrap();
    let mounted = at.mount(&["--io", "server", "--cache", "none"]);
    let here = mounted.path.join("file");
    let file = File::options().read(true).write(true).open(&here).unwrap();
    fs::remove_file(&there).unwrap();
    let mut read = [0; 8];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_eq!(&read, b"contents");
    let shown = file.metadata().unwrap();
    assert_eq!((shown.len(), shown.nlink()), (8, 0));
    assert_eq!(errno(File::open(&here)), Some(Errno::ENOENT));
    drop(file);
    mounted.end();
}

pub(crate) fn a_server_that_grants_little_is_enough() {
    const FILES: usize = 1000;
    let at = Fixture::new();
    let server = at.serve(&["--max-ids", "100", "--max-fds", "100"]);
    let mounted = at.mount_from(&server);
    let deep = mounted.path.join("a/b/c/d/e");
    fs::create_dir_all(&deep).unwrap();
    let file = |number: usize| deep.join(format!("file-{number}"));
    let first = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(file(0))
        .unwrap();
    for number in 1..FILES {
        fs::write(file(number), number.to_string()).unwrap();
    }
    // The kernel knows all of them, and asks for each again: first for what takes no opening.
    for number in 1..FILES {
        fs::set_permissions(file(number), Permissions::from_mode(0o600)).unwrap();
    }
    for number in (1..FILES).rev() {
        assert_eq!(
            fs::read_to_string(file(number)).unwrap(),
            number.to_string()
        );
        fs::set_permissions(file(number), Permissions::from_mode(0o640)).unwrap();
    }
    assert_eq!(fs::read_dir(&deep).unwrap().count(), FILES);
    // One that was open all along, and others by names that they got and lost in between.
    first.write_all_at(b"first", 0).unwrap();
    fs::rename(file(1), mounted.path.join("a/moved")).unwrap();
    fs::hard_link(file(2), mounted.path.join("a/linked")).unwrap();
    fs::remove_file(file(2)).unwrap();
    fs::rename(mounted.path.join("a/b/c"), mounted.path.join("c")).unwrap();
    for number in 3..FILES {
        let moved = mounted.path.join(format!("c/d/e/file-{number}"));
        assert_eq!(moved.metadata().unwrap().mode() & 0o7777, 0o640);
    }
    assert_eq!(
        fs::read_to_string(mounted.path.join("a/moved")).unwrap(),
        "1"
    );
    assert_eq!(
        fs::read_to_string(mounted.path.join("a/linked")).unwrap(),
        "2"
    );
    first
        .set_permissions(Permissions::from_mode(0o600))
        .unwrap();
    assert_eq!(first.metadata().unwrap().mode() & 0o7777, 0o600);
    drop(first);
    mounted.end();
}
