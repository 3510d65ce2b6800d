//! Names and attributes.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{geteuid, mkdir};

use crate::transcript::Transcript;

/// The errno of a failure of std.
fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    let why = result.err()?;
    why.raw_os_error().map(Errno::from_raw)
}

/// Type and mode, links, owner and size.
fn shown(path: &Path) -> Option<(u32, u64, u32, u32, u64)> {
    let found = path.symlink_metadata().ok()?;
    let size = if found.is_dir() { 0 } else { found.size() };
    Some((found.mode(), found.nlink(), found.uid(), found.gid(), size))
}

pub(crate) fn files_are_made_as_asked(at: &Path, found: &mut Transcript) {
    for mode in [0, 0o600, 0o777, 0o4755, 0o2751, 0o1777] {
        let path = at.join(format!("file-{mode:o}"));
        let mut options = File::options();
        let made = options.write(true).create_new(true).mode(mode).open(&path);
        found.note("made", errno(made));
        found.note("is", shown(&path));
        let path = at.join(format!("dir-{mode:o}"));
        let mode = nix::sys::stat::Mode::from_bits_truncate(mode);
        found.note("made", mkdir(&path, mode));
        found.note("is", shown(&path));
    }
    let path = at.join("file-600");
    found.note("again", errno(File::create_new(&path)));
    found.note("over a directory", errno(File::create(at.join("dir-600"))));
    found.note("below a file", errno(File::create(path.join("x"))));
    found.note("below nothing", errno(File::create(at.join("none/x"))));
}

pub(crate) fn links_are_counted(at: &Path, found: &mut Transcript) {
    let [a, b, c, dir] = ["a", "b", "c", "dir"].map(|name| at.join(name));
    fs::write(&a, "contents").unwrap();
    fs::create_dir(&dir).unwrap();
    found.note("link", errno(fs::hard_link(&a, &b)));
    found.note("link", errno(fs::hard_link(&a, dir.join("c"))));
    found.note("to what is there", errno(fs::hard_link(&a, &b)));
    found.note("to a directory", errno(fs::hard_link(&dir, &c)));
    for path in [&a, &b, &dir.join("c"), &dir, at] {
        found.note("is", shown(path));
    }
    let number = a.metadata().unwrap().ino();
    found.note("one file", b.metadata().unwrap().ino() == number);
    found.note("removed", errno(fs::remove_file(&a)));
    found.note("is", shown(&b));
    found.note("contents", fs::read(dir.join("c")).unwrap());
    found.note("a directory as a file", errno(fs::remove_file(&dir)));
    found.note("a file as a directory", errno(fs::remove_dir(&b)));
    found.note("what is not empty", errno(fs::remove_dir(&dir)));
}

pub(crate) fn every_name_of_a_file_is_as_good(at: &Path, found: &mut Transcript) {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| at.join(name));
    fs::write(&a, "contents").unwrap();
    // The last name that was seen is the one to go.
    fs::hard_link(&a, &b).unwrap();
    fs::remove_file(&b).unwrap();
    found.note("another", errno(fs::hard_link(&a, &b)));
    // And the first.
    fs::remove_file(&a).unwrap();
    found.note("another", errno(fs::hard_link(&b, &c)));
    // And one that was renamed, and one that was replaced.
    fs::rename(&b, &d).unwrap();
    fs::write(&b, "other").unwrap();
    fs::rename(&b, &c).unwrap();
    found.note("another", errno(fs::hard_link(&d, &a)));
    found.note(
        "mode",
        errno(fs::set_permissions(&a, Permissions::from_mode(0o640))),
    );
    for path in [&a, &b, &c, &d] {
        found.note("is", (shown(path), fs::read_to_string(path).ok()));
    }
}

pub(crate) fn renames_replace_exchange_and_refuse(at: &Path, found: &mut Transcript) {
    let path = |name: &str| at.join(name);
    let rename = |from: &str, to: &str, flags: RenameFlags| {
        renameat2(AT_FDCWD, &path(from), AT_FDCWD, &path(to), flags)
    };
    let none = RenameFlags::empty();
    for name in ["a", "b", "c"] {
        fs::write(path(name), name).unwrap();
    }
    for name in ["full", "full/of", "empty", "other"] {
        fs::create_dir(path(name)).unwrap();
    }
    found.note("replaces", rename("a", "b", none));
    found.note("is gone", rename("a", "b", none));
    found.note(
        "does not replace",
        rename("b", "c", RenameFlags::RENAME_NOREPLACE),
    );
    found.note("is free", rename("b", "d", RenameFlags::RENAME_NOREPLACE));
    found.note(
        "change places",
        rename("c", "d", RenameFlags::RENAME_EXCHANGE),
    );
    found.note(
        "with nothing",
        rename("c", "x", RenameFlags::RENAME_EXCHANGE),
    );
    found.note("unlike", rename("c", "full", RenameFlags::RENAME_EXCHANGE));
    found.note("back", rename("c", "full", RenameFlags::RENAME_EXCHANGE));
    found.note("onto what is full", rename("other", "full", none));
    found.note("onto what is empty", rename("full", "empty", none));
    found.note("into itself", rename("empty", "empty/of/x", none));
    found.note("a file onto a directory", rename("c", "other", none));
    found.note("a directory onto a file", rename("other", "c", none));
    found.note("into a directory", rename("c", "empty/of/c", none));
    fs::hard_link(path("d"), path("e")).unwrap();
    found.note("onto itself", rename("d", "e", none));
    for name in ["a", "b", "c", "d", "e", "empty/of/c"] {
        found.note(name, fs::read_to_string(path(name)).ok());
    }
    for name in ["full", "empty", "empty/of", "other"] {
        found.note(name, shown(&path(name)));
    }
}

pub(crate) fn symlinks_lead_where_they_say(at: &Path, found: &mut Transcript) {
    let path = |name: &str| at.join(name);
    fs::create_dir(path("dir")).unwrap();
    fs::write(path("dir/file"), "contents").unwrap();
    let long = "x".repeat(4095);
    for (name, target) in [
        ("file", "dir/file"),
        ("up", "dir/../dir/file"),
        ("dir/around", "../file"),
        ("loop", "loop"),
        ("nowhere", "none"),
        ("long", &*long),
    ] {
        found.note("made", errno(symlink(target, path(name))));
        found.note("is", shown(&path(name)));
        let says = fs::read_link(path(name)).unwrap();
        found.note("says", says.as_os_str() == OsStr::new(target));
        let read = fs::read_to_string(path(name));
        found.note("leads", (read.as_ref().ok().cloned(), errno(read)));
    }
    found.note("too long", errno(symlink("x".repeat(4096), path("longer"))));
    found.note("empty", errno(symlink("", path("none"))));
    found.note("a file is none", errno(fs::read_link(path("dir/file"))));
    if geteuid().is_root() {
        found.note("owner", errno(lchown(path("file"), Some(7), Some(8))));
        found.note("is", (shown(&path("file")), shown(&path("dir/file"))));
    }
}

pub(crate) fn names_have_their_limits(at: &Path, found: &mut Transcript) {
    let long = "n".repeat(255);
    let names: [&[u8]; 6] = [
        long.as_bytes(),
        b"\xff\xfe",
        b"new\nline",
        b" ",
        b"...",
        "\u{1f980}".as_bytes(),
    ];
    for name in names {
        let path = at.join(OsStr::from_bytes(name));
        found.note("made", errno(fs::write(&path, name)));
        found.note("is", fs::read(&path).unwrap() == name);
    }
    let mut listed: Vec<_> = fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    listed.sort();
    found.note("listed", listed);
    let longer = at.join("n".repeat(256));
    found.note("too long", errno(File::create(&longer)));
    found.note("too long", errno(longer.symlink_metadata()));
    found.note("too long", errno(fs::rename(at.join(" "), &longer)));
}

pub(crate) fn attributes_are_changed_one_by_one(at: &Path, found: &mut Transcript) {
    let file = at.join("file");
    fs::write(&file, "contents").unwrap();
    for mode in [0, 0o4711, 0o7777, 0o644] {
        let done = fs::set_permissions(&file, Permissions::from_mode(mode));
        found.note("mode", (errno(done), shown(&file)));
    }
    let times = |path: &Path| {
        let found = path.symlink_metadata().unwrap();
        [
            (found.atime(), found.atime_nsec()),
            (found.mtime(), found.mtime_nsec()),
        ]
    };
    symlink("none", at.join("link")).unwrap();
    for path in [&file, &at.join("link"), at] {
        for (atime, mtime) in [
            (TimeSpec::new(1, 2), TimeSpec::new(3, 999_999_999)),
            (TimeSpec::UTIME_OMIT, TimeSpec::new(1 << 33, 0)),
            (TimeSpec::new(-1, 500_000_000), TimeSpec::UTIME_OMIT),
            (TimeSpec::new(-5, 0), TimeSpec::new(-7, 1)),
        ] {
            let flags = UtimensatFlags::NoFollowSymlink;
            let done = utimensat(AT_FDCWD, path, &atime, &mtime, flags);
            found.note("times", (done, times(path)));
        }
    }
    let ctime = |path: &Path| {
        let found = path.metadata().unwrap();
        (found.ctime(), found.ctime_nsec())
    };
    let (before, now) = (ctime(&file), TimeSpec::UTIME_NOW);
    let flags = UtimensatFlags::NoFollowSymlink;
    found.note("now", utimensat(AT_FDCWD, &file, &now, &now, flags));
    found.note("later", times(&file).iter().all(|time| time.0 > 1 << 30));
    found.note("changed", ctime(&file) >= before);
    if geteuid().is_root() {
        fs::set_permissions(&file, Permissions::from_mode(0o6755)).unwrap();
        for (uid, gid) in [(Some(7), None), (None, Some(8)), (Some(0), Some(0))] {
            found.note("owner", (errno(chown(&file, uid, gid)), shown(&file)));
        }
    }
}

pub(crate) fn set_group_id_directories_give_their_group(at: &Path, found: &mut Transcript) {
    let dir = at.join("dir");
    fs::create_dir(&dir).unwrap();
    if geteuid().is_root() {
        chown(&dir, None, Some(4711)).unwrap();
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o2775)).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    fs::create_dir(dir.join("dir")).unwrap();
    symlink("x", dir.join("link")).unwrap();
    fs::create_dir(dir.join("dir/dir")).unwrap();
    for name in ["file", "dir", "link", "dir/dir"] {
        found.note(name, shown(&dir.join(name)));
    }
}

pub(crate) fn extended_attributes_are_kept(at: &Path, found: &mut Transcript) {
    use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};

    let file = at.join("file");
    fs::write(&file, "").unwrap();
    let list = || {
        let mut names = vec![0; 1 << 16];
        let length = listxattr(&file, &mut names[..]).unwrap();
        names.truncate(length);
        let mut names: Vec<_> = names.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        names.sort();
        names
    };
    found.note("at first", list());
    let set = |name: &str, value: &[u8], flags| setxattr(&file, name, value, flags);
    found.note("set", set("user.a", b"one", XattrFlags::empty()));
    found.note("set", set("user.b", &[0xff; 4000], XattrFlags::CREATE));
    found.note("is there", set("user.a", b"two", XattrFlags::CREATE));
    found.note("is not", set("user.c", b"two", XattrFlags::REPLACE));
    found.note("replaced", set("user.a", b"", XattrFlags::REPLACE));
    found.note("none", set("none.a", b"", XattrFlags::empty()));
    found.note("listed", list());
    for name in ["user.a", "user.b", "user.c"] {
        for room in [0, 100, 5000] {
            let mut value = vec![0; room];
            let length = getxattr(&file, name, &mut value[..]);
            found.note(
                name,
                (
                    length,
                    value.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
                ),
            );
        }
    }
    found.note("removed", removexattr(&file, "user.b"));
    found.note("removed", removexattr(&file, "user.b"));
    found.note("left", list());
}
