use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Barrier;

use nix::sys::stat::{major, minor};

use super::{EVERYTHING, Served, flags, make_fifo};
use crate::Errno;
use crate::host::kernel::Kernel;
use crate::host::mounts::MountPoints;
use crate::host::open::OpenFd;
use crate::host::sys;
use crate::server::DirentRequest;
use crate::wire::DirentWriter;

/// What is told of an entry: inode, device, type.
type Seen = (u64, (u32, u32), u8);

const WHOLE_MESSAGE: usize = 2 << 20;

fn open_root(served: &Served) -> OpenFd {
    served
        .host
        .open_file(served.root(), flags(libc::O_RDONLY))
        .unwrap()
}

fn read(
    served: &Served,
    directory: &OpenFd,
    count: u32,
    rewind: bool,
    message: usize,
) -> Result<Vec<(String, Seen)>, Errno> {
    let mut buffer = Vec::new();
    let mut writer = DirentWriter::new(&mut buffer, message).host_bytes(count);
    directory.entries(&served.host, DirentRequest { rewind, count }, &mut writer)?;
    // As the runtime does.
    if writer.is_empty() && writer.is_full() {
        return Err(Errno::EINVAL);
    }
    let entries = writer.as_dirents();
    let entry = entries.iter().map(|entry| {
        let name = String::from_utf8(entry.name.to_vec()).unwrap();
        (
            name,
            (entry.ino, (entry.dev_major, entry.dev_minor), entry.d_type),
        )
    });
    Ok(entry.collect())
}

/// Lists to the end and sees that nothing comes twice.
fn list(served: &Served, directory: &OpenFd, count: u32, message: usize) -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::new();
    loop {
        let entries = read(served, directory, count, false, message).unwrap();
        if entries.is_empty() {
            return all;
        }
        for (name, seen) in entries {
            assert_eq!(all.insert(name.clone(), seen), None, "{name} came twice");
        }
    }
}

/// What stat says about the entries of `directory`.
fn expected(directory: &Path) -> BTreeMap<String, Seen> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let found = fs::symlink_metadata(entry.path()).unwrap();
        let device = (major(found.dev()).try_into(), minor(found.dev()).try_into());
        let device = (device.0.unwrap(), device.1.unwrap());
        let d_type = u8::try_from((found.mode() & libc::S_IFMT) >> 12).unwrap();
        (
            entry.file_name().into_string().unwrap(),
            (found.ino(), device, d_type),
        )
    };
    fs::read_dir(directory).unwrap().map(entry).collect()
}

fn fill(served: &Served, files: usize) {
    for number in 0..files {
        fs::write(served.path(&format!("{number:0>0$}", 1 + number % 200)), "").unwrap();
    }
    fs::create_dir(served.path("directory")).unwrap();
    symlink("directory", served.path("link")).unwrap();
    make_fifo(&served.path("fifo"));
}

#[test]
fn every_entry_is_told_once_whatever_is_asked_for_at_a_time() {
    for kernel in [Kernel::probe(), Kernel::OLDEST] {
        let served = Served::with(EVERYTHING, kernel);
        fill(&served, 1000);
        let expected = expected(served.directory.path());
        for count in [280, 1000, 32_768, 65_536, u32::MAX] {
            let directory = open_root(&served);
            assert_eq!(
                list(&served, &directory, count, WHOLE_MESSAGE),
                expected,
                "{count}"
            );
        }
        // The reply is the limit: the rest comes with the next one.
        for message in [300, 1000, 65_536] {
            let directory = open_root(&served);
            assert_eq!(
                list(&served, &directory, u32::MAX, message),
                expected,
                "{message}"
            );
        }
    }
}

#[test]
fn no_entries_mean_the_end_and_nothing_else() {
    let served = Served::new();
    let directory = open_root(&served);
    for count in [0, 1, 24, 48, 280, u32::MAX] {
        assert_eq!(
            read(&served, &directory, count, true, WHOLE_MESSAGE),
            Ok(vec![])
        );
    }
    fs::write(served.path("a-name-of-some-length"), "").unwrap();
    fs::write(served.path("b"), "").unwrap();
    let directory = open_root(&served);
    for count in [0, 10, 23] {
        assert_eq!(
            read(&served, &directory, count, false, WHOLE_MESSAGE),
            Err(Errno::EINVAL)
        );
    }
    // Not even one entry fits into the reply.
    assert_eq!(
        read(&served, &directory, 1000, false, 20),
        Err(Errno::EINVAL)
    );
    // Nothing of that has moved the cursor.
    assert_eq!(list(&served, &directory, 48, WHOLE_MESSAGE).len(), 2);
    assert_eq!(
        read(&served, &directory, 0, false, WHOLE_MESSAGE),
        Ok(vec![])
    );
}

#[test]
fn the_count_is_of_host_bytes() {
    let served = Served::new();
    for number in 0..10 {
        fs::write(served.path(&number.to_string()), "").unwrap();
    }
    let directory = open_root(&served);
    // 19 bytes, one of name and its NUL, in eights: 24.
    for (count, entries) in [(24, 1), (47, 1), (48, 2), (71, 2), (96, 4), (24, 0)] {
        let found = read(&served, &directory, count, false, WHOLE_MESSAGE).unwrap();
        assert_eq!(found.len(), entries);
    }
}

#[test]
fn rewinding_shows_what_has_changed() {
    let served = Served::new();
    fs::write(served.path("old"), "").unwrap();
    let directory = open_root(&served);
    assert_eq!(list(&served, &directory, 1000, WHOLE_MESSAGE).len(), 1);
    fs::write(served.path("new"), "").unwrap();
    fs::remove_file(served.path("old")).unwrap();
    let entries = read(&served, &directory, 1000, true, WHOLE_MESSAGE).unwrap();
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry.0.as_str())
            .collect::<Vec<_>>(),
        ["new"]
    );
}

#[test]
fn callers_at_the_same_time_share_the_entries_out() {
    let served = Served::new();
    fill(&served, 600);
    let directory = open_root(&served);
    let start = Barrier::new(4);
    let all: Vec<_> = std::thread::scope(|scope| {
        let list = || {
            start.wait();
            list(&served, &directory, 500, WHOLE_MESSAGE)
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(list)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let expected = expected(served.directory.path());
    assert_eq!(all.len(), expected.len());
    assert_eq!(all.into_iter().collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn a_directory_that_may_be_read_but_not_searched_is_listed() {
    let served = Served::with(EVERYTHING, Kernel::OLDEST);
    fs::write(served.path("file"), "").unwrap();
    let expected = expected(served.directory.path());
    let directory = open_root(&served);
    fs::set_permissions(served.directory.path(), fs::Permissions::from_mode(0o400)).unwrap();
    let found = list(&served, &directory, 1000, WHOLE_MESSAGE);
    fs::set_permissions(served.directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(found, expected);
}

/// The unique id of the mount that `path` is in.
fn mount_of(path: &str) -> u64 {
    let directory = fs::File::open(path).unwrap();
    let mask = libc::STATX_MNT_ID_UNIQUE;
    let found = sys::statx(directory.as_fd(), c"", libc::AT_EMPTY_PATH, mask).unwrap();
    assert!(found.stat.mask & mask != 0, "older than listmount");
    found.mount
}

#[test]
fn mount_points_are_known_by_name() {
    if !Kernel::probe().list_mounts {
        let old = sys::listmount(0, &mut []).unwrap_err();
        assert!(matches!(
            old,
            nix::errno::Errno::ENOSYS | nix::errno::Errno::EPERM
        ));
        return;
    }
    let mut points = MountPoints::default();
    // Every process has /proc, and nothing is mounted on a file of that name in it.
    for anew in [true, false, true] {
        points.refresh(mount_of("/"), anew).unwrap();
        assert!(points.contain(b"proc"));
        assert!(!points.contain(b"pro"));
        assert!(!points.contain(b"etc"));
    }
    points.refresh(mount_of("/proc"), false).unwrap();
    assert!(!points.contain(b"proc"));
    assert!(points.refresh(0, false).is_err());
}
