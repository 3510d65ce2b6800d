//! Handles that have a name and no descriptor.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;

use super::{EVERYTHING, Served, flags, make_fifo, name, skip};
use crate::Errno;
use crate::host::handle::place::NodeFiles;
use crate::host::handle::{self, Handle};
use crate::host::identity::Tick;
use crate::host::kernel::Kernel;
use crate::host::names::{Known, rename, unlink};
use crate::server::{Quota, RenameFlags, ServerImpl};
use crate::wire::{FileType, SetStat, SetStatReq};

/// Directories on file systems where files can be known by their identity.
pub(super) fn grounds() -> Vec<Served> {
    let places = [std::env::temp_dir(), "/dev/shm".into()];
    let grounds: Vec<_> = places
        .iter()
        .filter_map(|place| TempDir::new_in(place).ok())
        .map(|directory| Served::at(directory, EVERYTHING, Kernel::probe()))
        .filter(|served| {
            fs::write(served.path("probe"), "").unwrap();
            settle(&served.path("probe"));
            served.walk("probe").is_named()
        })
        .collect();
    if grounds.is_empty() {
        skip("no file system here has birth times to go by");
    }
    grounds
}

/// Waits until the file is old enough to be known by its identity, a tick of the clock at the most.
pub(super) fn settle(path: &Path) {
    let stat = handle::stat(fs::File::open(path).unwrap().as_fd()).unwrap();
    let birth = (stat.btime.sec, stat.btime.nsec);
    while Tick::now().time() <= birth {
        std::thread::yield_now();
    }
}

impl Served {
    /// A file with its own name as its content, old enough.
    pub(super) fn file(&self, name: &str) -> Handle {
        fs::write(self.path(name), name).unwrap();
        settle(&self.path(name));
        self.named(name)
    }

    /// A named handle. After one had to be opened, the next are open.
    pub(super) fn named(&self, name: &str) -> Handle {
        let named = |handle: &Handle| handle.is_named();
        let walks = std::iter::repeat_with(|| self.walk(name));
        walks.take(100).find(named).expect("a named handle")
    }

    pub(super) fn content(&self, handle: &Handle) -> Result<String, Errno> {
        let file = self.host.open_file(handle, flags(libc::O_RDONLY))?;
        let mut content = [0; 64];
        let read = file.read_at((&mut content[..]).into(), 0)?;
        Ok(String::from_utf8(content[..read].to_vec()).unwrap())
    }

    pub(super) fn rename(&self, old: &str, new: &str, flags: RenameFlags, known: Known<'_>) {
        let root = self.root();
        rename(root, name(old), root, name(new), flags, known).unwrap();
    }
}

/// Makes a device like /dev/null, if that may be done here.
fn make_null(path: &Path) -> bool {
    let mode = Mode::from_bits_truncate(0o666);
    let made = mknod(path, SFlag::S_IFCHR, mode, makedev(1, 3));
    if let Err(why) = made {
        skip(format_args!(
            "in part, as a device cannot be made here, {why}"
        ));
    }
    made.is_ok()
}

pub(super) fn node(handles: &[&Handle]) -> NodeFiles {
    let node = NodeFiles::default();
    for handle in handles {
        node.add(&mut Handle::clone(handle));
    }
    node
}

#[test]
fn an_open_file_is_as_statx_says_however_it_is_asked() {
    for served in grounds() {
        fs::create_dir(served.path("dir")).unwrap();
        symlink("file", served.path("link")).unwrap();
        make_fifo(&served.path("fifo"));
        fs::write(served.path("file"), "text").unwrap();
        fs::set_permissions(served.path("file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::File::open(served.path("file"))
            .and_then(|file| file.set_modified(UNIX_EPOCH - Duration::from_millis(1_500)))
            .unwrap();
        fs::hard_link(served.path("file"), served.path("other")).unwrap();
        let mut names = vec!["dir", "link", "fifo", "file"];
        if make_null(&served.path("null")) {
            names.push("null");
        }
        // The youngest but for the device.
        settle(&served.path("file"));
        for name in names {
            let handle = served.walk(name);
            handle.hold().unwrap();
            let lasting = handle.lasting().expect("an identity");
            let [again, whole] = [Some(lasting), None].map(|lasting| {
                handle
                    .with_fd(|fd| handle::stat_again(fd, lasting))
                    .unwrap()
            });
            assert_eq!(again, whole, "{name}");
            assert_ne!(whole.btime.sec, 0, "{name}");
            let device = if name == "null" { (1, 3) } else { (0, 0) };
            for stat in [again, whole] {
                assert_eq!((stat.rdev_major, stat.rdev_minor), device, "{name}");
            }
        }
    }
}

#[test]
fn what_is_only_looked_at_is_not_opened() {
    for served in grounds() {
        let before = served.open_descriptors();
        let handle = served.file("file");
        assert_eq!(handle.stat().unwrap().size, 4);
        assert_eq!(served.open_descriptors(), before);
        assert_eq!(served.content(&handle).unwrap(), "file");
        assert_eq!(served.open_descriptors(), before + 1, "it is kept");
        drop(handle);
        fs::create_dir(served.path("directory")).unwrap();
        fs::write(served.path("directory/file"), "").unwrap();
        settle(&served.path("directory/file"));
        let directory = served.named("directory");
        assert_eq!(served.open_descriptors(), before);
        let inside = directory.walk(name("file")).unwrap().0;
        assert_eq!(served.open_descriptors(), before + 1, "the directory");
        drop(directory);
        assert_eq!(inside.stat().unwrap().size, 0);
        drop(inside);
        assert_eq!(served.open_descriptors(), before);
    }
}

/// ext4 gives the number of a file that is gone to the very next one.
#[test]
fn a_file_is_never_taken_for_its_successor_however_soon_that_comes() {
    let served = Served::new();
    let (mut young, mut reused) = (0, 0);
    for _ in 0..5000 {
        fs::write(served.path("file"), "old").unwrap();
        let (handle, old) = served.root().walk(name("file")).unwrap();
        young += u32::from(!handle.is_named());
        fs::remove_file(served.path("file")).unwrap();
        fs::write(served.path("file"), "newer").unwrap();
        let new = fs::symlink_metadata(served.path("file")).unwrap();
        reused += u32::from(new.ino() == old.ino);
        match handle.stat() {
            Ok(stat) => assert_eq!((stat.size, stat.nlink), (3, 0)),
            Err(errno) => assert_eq!(errno, Errno::ESTALE),
        }
        match served.content(&handle) {
            Ok(content) => assert_eq!(content, "old"),
            Err(errno) => assert_eq!(errno, Errno::ESTALE),
        }
        fs::remove_file(served.path("file")).unwrap();
    }
    assert!(young > 0, "files of the current tick are opened at once");
    eprintln!("{young} were opened at once, {reused} numbers were given away again");
}

#[test]
fn what_is_looked_at_often_is_opened() {
    for served in grounds() {
        let handle = served.file("file");
        let looks = (0..100).take_while(|_| handle.stat().is_ok() && handle.is_named());
        assert_eq!(looks.count(), 4);
        assert_eq!(handle.stat().unwrap().size, 4);
    }
}

#[test]
fn where_one_file_had_to_be_opened_the_next_are_opened_at_once() {
    for mut served in grounds() {
        let first = served.file("file");
        assert_eq!(served.content(&first).unwrap(), "file");
        let walks = |served: &Served| {
            let mut walks = (0..100).map(|_| served.walk("file").is_named());
            walks.position(|named| named)
        };
        assert_eq!(walks(&served), Some(16));
        // Unless there is no room.
        assert!(served.host.count_descriptors(&Quota::new(2)));
        let root = served.host.mount_at(b"/").unwrap();
        let root = root.control.handle();
        let walk = || root.walk(name("file")).unwrap().0;
        let second = walk();
        assert_eq!(served.content(&second), Ok("file".to_owned()));
        assert!(second.is_named() && walk().is_named());
    }
}

#[test]
fn a_directory_is_opened_once_for_all_who_walk_through_it() {
    for served in grounds() {
        fs::create_dir(served.path("d")).unwrap();
        settle(&served.path("d"));
        let (root, before) = (served.root(), served.open_descriptors());
        let first = served.walk("d");
        let known = node(&[&first]);
        let (second, stat) = root.walk_through(name("d"), Some(&known)).unwrap();
        let third = root.walk(name("d")).unwrap().0;
        assert_eq!(served.open_descriptors(), before + 1);
        assert_eq!(second.stat().unwrap().ino, stat.ino);
        node(&[&first, &second, &third]);
        // What others put there is another directory, and what was there comes back as what it is.
        fs::rename(served.path("d"), served.path("old")).unwrap();
        let gone = root.walk_through(name("d"), Some(&known));
        assert_eq!(gone.err(), Some(Errno::ENOENT));
        fs::create_dir(served.path("d")).unwrap();
        let new = fs::metadata(served.path("d")).unwrap().ino();
        assert_ne!(new, stat.ino);
        for (found, seen) in [
            root.walk_through(name("d"), Some(&known)).unwrap(),
            root.walk(name("d")).unwrap(),
        ] {
            assert_eq!((found.stat().unwrap().ino, seen.ino), (new, new));
        }
        fs::rename(served.path("old"), served.path("old2")).unwrap();
        fs::remove_dir(served.path("d")).unwrap();
        symlink("old2", served.path("d")).unwrap();
        let (link, seen) = root.walk_through(name("d"), Some(&known)).unwrap();
        assert_eq!(seen.file_type(), FileType::Symlink);
        assert_eq!(link.file_type(), FileType::Symlink);
    }
}

/// One that is known by a name where it is no more is not asked for what is there.
#[test]
fn a_directory_that_was_moved_is_found_where_it_is() {
    for served in grounds() {
        for directory in ["one", "one/d", "two"] {
            fs::create_dir(served.path(directory)).unwrap();
        }
        settle(&served.path("two"));
        let (one, two) = (served.walk("one"), served.walk("two"));
        let known = node(&[&one.walk(name("d")).unwrap().0]);
        let mut named = one.walk(name("d")).unwrap().0;
        known.add(&mut named);
        assert!(named.is_named());
        fs::rename(served.path("one/d"), served.path("two/d")).unwrap();
        let ino = fs::metadata(served.path("two/d")).unwrap().ino();
        for (mut moved, _) in [
            two.walk(name("d")).unwrap(),
            two.walk_through(name("d"), Some(&known)).unwrap(),
        ] {
            known.add(&mut moved);
            assert_eq!(moved.with_fd(handle::stat).unwrap().ino, ino);
        }
    }
}

#[test]
fn connections_do_not_share_descriptors() {
    for mut served in grounds() {
        fs::create_dir(served.path("d")).unwrap();
        settle(&served.path("d"));
        let theirs = served.walk("d");
        theirs.with_fd(handle::stat).unwrap();
        let known = node(&[&theirs]);
        let quota = Quota::new(8);
        assert!(served.host.count_descriptors(&quota));
        let mounted = served.host.mount_at(b"/").unwrap();
        let root = mounted.control.handle();
        let ours = root.walk_through(name("d"), Some(&known)).unwrap().0;
        assert_eq!(quota.used(), 2);
        drop((theirs, known));
        assert_eq!(ours.stat().unwrap().file_type(), FileType::Directory);
    }
}

#[test]
fn what_an_outsider_puts_in_the_place_of_a_file_is_not_touched() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let replacements: [&dyn Fn(&Path); 5] = [
        &|path| fs::write(path, "other").unwrap(),
        &|path| fs::create_dir(path).unwrap(),
        &|path| make_fifo(path),
        &|path| symlink(outside.path().join("secret"), path).unwrap(),
        &|_| (),
    ];
    for served in grounds() {
        for replace in replacements {
            let handle = served.file("file");
            let path = served.path("file");
            fs::remove_file(&path).unwrap();
            replace(&path);
            let before = fs::symlink_metadata(&path).map(|new| (new.mode(), new.mtime_nsec()));
            assert_eq!(handle.stat().err(), Some(Errno::ESTALE));
            assert_eq!(served.content(&handle).err(), Some(Errno::ESTALE));
            let mut request = SetStatReq::new(crate::wire::FdId(1));
            (request.mask, request.mode) = (SetStat::MODE.bits(), 0o111);
            let outcome = served.host.set_stat(&handle, SetStat::MODE, &request);
            assert_eq!(outcome.failure_errno, u32::from(Errno::ESTALE.raw()));
            let root = served.root();
            let linked = served.host.link(root, name("link"), &handle);
            assert_eq!(linked.err(), Some(Errno::ESTALE));
            let after = fs::symlink_metadata(&path).map(|new| (new.mode(), new.mtime_nsec()));
            assert_eq!(before.ok(), after.ok());
            drop(handle);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
    }
}

#[test]
fn a_file_that_an_outsider_moves_is_stale_until_it_is_back() {
    for served in grounds() {
        let handle = served.file("file");
        fs::rename(served.path("file"), served.path("elsewhere")).unwrap();
        assert_eq!(handle.stat().err(), Some(Errno::ESTALE));
        fs::rename(served.path("elsewhere"), served.path("file")).unwrap();
        assert_eq!(served.content(&handle).unwrap(), "file");
    }
}

#[test]
fn a_file_that_is_unlinked_here_keeps_working() {
    for served in grounds() {
        let (first, mut second) = (served.file("file"), served.walk("file"));
        let known = node(&[&first]);
        known.add(&mut second);
        let root = served.root();
        unlink(root, name("file"), false, Some(&known)).unwrap();
        fs::write(served.path("file"), "another").unwrap();
        for handle in [first, second] {
            assert_eq!(handle.stat().unwrap().nlink, 0);
            assert_eq!(served.content(&handle).unwrap(), "file");
            served.host.chmod(&handle, 0o600).unwrap();
        }
    }
}

#[test]
fn names_follow_renames_and_what_is_replaced_keeps_working() {
    for served in grounds() {
        fs::create_dir(served.path("directory")).unwrap();
        settle(&served.path("directory"));
        let (a, b, c) = (served.file("a"), served.file("b"), served.file("c"));
        let (of_a, of_b, of_c) = (node(&[&a]), node(&[&b]), node(&[&c]));
        let known = |moved, replaced| Known {
            moved: Some(moved),
            replaced: Some(replaced),
        };
        served.rename("a", "b", RenameFlags::EXCHANGE, known(&of_a, &of_b));
        assert_eq!(fs::read_to_string(served.path("b")).unwrap(), "a");
        assert!(a.is_named() && b.is_named());
        assert_eq!(a.stat().unwrap().nlink, 1);
        assert_eq!(b.stat().unwrap().nlink, 1);
        // b is now called "a" and replaces c.
        served.rename("a", "c", RenameFlags::empty(), known(&of_b, &of_c));
        assert!(b.is_named() && !c.is_named());
        assert_eq!((b.stat().unwrap().nlink, c.stat().unwrap().nlink), (1, 0));
        let (root, directory) = (served.root(), served.walk("directory"));
        let known = Known {
            moved: Some(&of_b),
            replaced: None,
        };
        let flags = RenameFlags::NOREPLACE;
        rename(root, name("c"), &directory, name("d"), flags, known).unwrap();
        drop(directory);
        assert!(b.is_named());
        for (handle, content) in [(a, "a"), (b, "b"), (c, "c")] {
            assert_eq!(served.content(&handle).unwrap(), content);
        }
    }
}

#[test]
fn a_rename_that_fails_changes_no_name() {
    for served in grounds() {
        let (file, known) = (served.file("file"), served.file("taken"));
        let (of_file, of_taken) = (node(&[&file]), node(&[&known]));
        let root = served.root();
        let known = Known {
            moved: Some(&of_file),
            replaced: Some(&of_taken),
        };
        let flags = RenameFlags::NOREPLACE;
        let refused = rename(root, name("file"), root, name("taken"), flags, known);
        assert_eq!(refused.err(), Some(Errno::EEXIST));
        assert_eq!(served.content(&file).unwrap(), "file");
    }
}

#[test]
fn descriptors_that_can_be_done_without_do_not_use_the_quota_up() {
    for mut served in grounds() {
        const LIMIT: usize = 8;
        let names: Vec<_> = (0..100).map(|number| format!("file{number}")).collect();
        for name in &names {
            served.file(name);
        }
        let quota = Quota::new(LIMIT);
        assert!(served.host.count_descriptors(&quota));
        let mounted = served.host.mount_at(b"/").unwrap();
        let root = mounted.control.handle().clone();
        let files: Vec<_> = names
            .iter()
            .map(|file| root.walk(name(file)).unwrap().0)
            .collect();
        assert_eq!(quota.used(), 1, "the root");
        for (file, name) in files.iter().zip(&names) {
            assert_eq!(served.content(file).as_ref(), Ok(name));
        }
        // Half of them, of which the file that was open at the time was one.
        let kept = LIMIT / 2 - 1;
        assert_eq!(quota.used(), kept);
        let open = |file: &Handle| served.host.open_file(file, flags(libc::O_RDONLY));
        let opened: Vec<_> = files.iter().map_while(|file| open(file).ok()).collect();
        assert_eq!((opened.len(), quota.used()), (LIMIT - kept, LIMIT));
        assert_eq!(open(&files[99]).err(), Some(Errno::EMFILE));
        // A full quota keeps nobody from removing a file; who has no descriptor of it loses it.
        let known = node(&[&files[99]]);
        unlink(&root, name("file99"), false, Some(&known)).unwrap();
        assert_eq!(files[99].stat().err(), Some(Errno::ESTALE));
        drop((files, opened, root, mounted));
        assert_eq!(quota.used(), 0);
        assert_eq!(Arc::strong_count(&quota), 2);
    }
}

#[test]
fn files_of_file_systems_without_births_are_opened_at_once() {
    let root = fs::File::open("/proc").unwrap();
    let host = crate::host::HostFs::new(root.into(), EVERYTHING).unwrap();
    let (version, stat) = host.root.walk(name("version")).unwrap();
    assert_eq!(stat.file_type(), FileType::Regular);
    assert!(!version.is_named());
}
