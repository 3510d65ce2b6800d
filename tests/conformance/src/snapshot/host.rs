//! What the host has, past the server.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{getxattr, listxattr, readlinkat};

use super::Seen;

/// The longest value and the longest list of names that there can be, in bytes.
const LONGEST: usize = 64 << 10;

/// Takes hold of a file of any type, without an effect on it.
pub(crate) fn hold(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path)
}

/// Looks at `directory` and all that is below it.
pub(super) fn look_below(directory: PathBuf) -> io::Result<BTreeMap<Vec<u8>, Seen>> {
    let mut seen = BTreeMap::new();
    let mut left = vec![directory.clone()];
    while let Some(path) = left.pop() {
        let file = hold(&path)?;
        if file.metadata()?.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
        let below = path.strip_prefix(&directory).unwrap_or(&path);
        seen.insert(below.as_os_str().as_bytes().to_vec(), look_at(&file)?);
    }
    Ok(seen)
}

/// Looks at a file that is held, whether it has a name or not.
pub(super) fn look_at(file: &File) -> io::Result<Seen> {
    let metadata = file.metadata()?;
    // The file itself, whatever it is: nothing is followed behind a descriptor.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let content = if metadata.is_file() {
        fs::read(&path)?
    } else if metadata.is_symlink() {
        readlinkat(file, "", Vec::new())?.into_bytes()
    } else {
        Vec::new()
    };
    Ok(Seen {
        content,
        attributes: attributes(&path)?,
        ..stat(&metadata)
    })
}

fn stat(metadata: &Metadata) -> Seen {
    Seen {
        identity: (metadata.dev(), metadata.ino()),
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        links: metadata.nlink(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        ..Seen::default()
    }
}

fn attributes(path: &str) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut room = vec![0; LONGEST];
    let names = match listxattr(path, &mut room[..]) {
        Ok(length) => room.get(..length).unwrap_or_default().to_vec(),
        // A file system without them.
        Err(rustix::io::Errno::OPNOTSUPP) => Vec::new(),
        Err(errno) => return Err(errno.into()),
    };
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let length = getxattr(path, name, &mut room[..])?;
            let value = room.get(..length).unwrap_or_default();
            Ok((name.to_vec(), value.to_vec()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    use rustix::fs::{XattrFlags, setxattr};
    use tempfile::TempDir;

    use super::*;
    use crate::snapshot::Snapshot;

    fn look(root: &Path) -> Snapshot {
        Snapshot(look_below(root.to_owned()).unwrap())
    }

    /// What a change is called that takes attributes of users, which not all file systems have.
    const ATTRIBUTES: &str = "extended attributes";

    /// Whether the test can set one. Otherwise it says that it goes without, past the harness, which
    /// keeps what a test prints that passes.
    fn has_attributes(root: &Path, test: &str) -> bool {
        let set = setxattr(root, "user.probe", b"", XattrFlags::CREATE);
        if let Err(why) = set {
            let why = format_args!("in part, as there are no {ATTRIBUTES} here, {why}");
            // Nobody is left to tell if that fails.
            let _ = writeln!(io::stderr(), "skipped: {test}: {why}");
        }
        set.is_ok()
    }

    /// Below a directory, as the requests of the matrix have it.
    type Change = fn(&Path) -> io::Result<()>;

    const CHANGES: &[(&str, Change)] = &[
        ("d/f: mode", |d| {
            fs::set_permissions(d.join("f"), fs::Permissions::from_mode(0o600))
        }),
        ("content", |d| fs::write(d.join("f"), "CONTENT")),
        ("size", |d| fs::write(d.join("f"), "con")),
        ("link count", |d| fs::hard_link(d.join("f"), d.join("g"))),
        ("d/g: new", |d| fs::hard_link(d.join("f"), d.join("g"))),
        ("d/f: gone", |d| fs::rename(d.join("f"), d.join("g"))),
        ("d/f: time of modification", |d| {
            let file = File::options().write(true).open(d.join("f"))?;
            file.set_modified(SystemTime::now() - Duration::from_secs(200))
        }),
        (ATTRIBUTES, |d| {
            Ok(setxattr(d.join("f"), "user.b", b"", XattrFlags::CREATE)?)
        }),
        ("d: time of modification", |d| {
            fs::create_dir(d.join("new"))?;
            fs::remove_dir(d.join("new"))
        }),
        ("d/l: another file", |d| {
            symlink("TARGET", d.join("new"))?;
            fs::rename(d.join("new"), d.join("l"))
        }),
        ("new/below: new", |d| {
            fs::create_dir_all(d.join("../new/below"))
        }),
    ];

    #[test]
    fn every_kind_of_change_is_seen() {
        let probed = TempDir::new_in("/var/tmp").unwrap();
        let has_attributes = has_attributes(probed.path(), "every_kind_of_change_is_seen");
        let can_be_made = |row: &&(&str, Change)| has_attributes || row.0 != ATTRIBUTES;
        for (wanted, change) in CHANGES.iter().filter(can_be_made) {
            let root = TempDir::new_in("/var/tmp").unwrap();
            let d = root.path().join("d");
            fs::create_dir(&d).unwrap();
            fs::write(d.join("f"), "content").unwrap();
            symlink("target", d.join("l")).unwrap();
            // Older kernels tell the time in steps that the changes fit into.
            for path in [d.join("f"), d.clone()] {
                let then = SystemTime::now() - Duration::from_secs(100);
                File::open(path).unwrap().set_modified(then).unwrap();
            }
            let before = look(root.path());
            look(root.path()).unchanged_since(&before).unwrap();
            change(&d).unwrap();
            let told = look(root.path()).unchanged_since(&before).unwrap_err();
            let told = format!("{told:?}");
            assert!(told.contains(wanted), "{told}, not {wanted}");
        }
    }

    #[test]
    fn files_without_a_name_are_looked_at_as_well() {
        let root = TempDir::new_in("/var/tmp").unwrap();
        let path = root.path().join("f");
        fs::write(&path, "content").unwrap();
        let held = hold(&path).unwrap();
        let test = "files_without_a_name_are_looked_at_as_well";
        let has_attributes = has_attributes(root.path(), test);
        fs::remove_file(&path).unwrap();
        let before = look_at(&held).unwrap();
        assert_eq!(before.content, b"content");
        if !has_attributes {
            return;
        }
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        setxattr(&path, "user.b", b"value", XattrFlags::CREATE).unwrap();
        assert_eq!(look_at(&held).unwrap().attributes[&b"user.b"[..]], b"value");
    }
}
