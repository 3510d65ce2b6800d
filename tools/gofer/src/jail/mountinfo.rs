//! The mounts of this process, as the kernel lists them in `/proc/self/mountinfo`.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::attributes::Attributes;

/// What tells a mount from others, as long as it exists.
pub(super) type MountId = u64;

/// A mount that a path can lead to.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) id: MountId,
    parent: MountId,
    /// From the root of this process.
    point: PathBuf,
    pub(super) attributes: Attributes,
}

#[derive(Debug)]
pub(super) struct Mountinfo(Vec<Mounted>);

impl Mountinfo {
    /// # Errors
    /// As for reading the file; EIO if it is not understood.
    pub(super) fn read() -> Result<Mountinfo, Errno> {
        let list = fs::read("/proc/self/mountinfo").map_err(errno_of)?;
        let lines = list
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let mounts = lines.map(|line| parse(line).ok_or(Errno::EIO));
        mounts.collect::<Result<_, _>>().map(Mountinfo)
    }

    /// What is mounted below the mount `top` at whatever depth, but for `others` and what is below these.
    /// What lies under another mount on the same place is left out: no path leads there.
    pub(super) fn below(&self, top: MountId, others: &BTreeSet<MountId>) -> Vec<&Mounted> {
        let mut found = Vec::new();
        let mut above = vec![top];
        while let Some(parent) = above.pop() {
            for mount in self.0.iter().filter(|mount| mount.parent == parent) {
                if mount.id == parent || others.contains(&mount.id) {
                    continue;
                }
                above.push(mount.id);
                if !self.is_covered(mount) {
                    found.push(mount);
                }
            }
        }
        found
    }

    /// Which mounts [`below`](Mountinfo::below) finds.
    pub(super) fn ids_below(&self, top: MountId, others: &BTreeSet<MountId>) -> BTreeSet<MountId> {
        let below = self.below(top, others).into_iter();
        below.map(|mount| mount.id).collect()
    }

    /// What the files of a mount cannot be used for; `None` if it is not there.
    pub(super) fn attributes(&self, id: MountId) -> Option<Attributes> {
        let mount = self.0.iter().find(|mount| mount.id == id)?;
        Some(mount.attributes)
    }

    /// Where `mount` is, seen from the root of the mount `top`.
    pub(super) fn path<'m>(&self, top: MountId, mount: &'m Mounted) -> Option<&'m Path> {
        let top = self.0.iter().find(|mount| mount.id == top)?;
        mount.point.strip_prefix(&top.point).ok()
    }

    fn is_covered(&self, mount: &Mounted) -> bool {
        let covers = |other: &Mounted| other.parent == mount.id && other.point == mount.point;
        self.0.iter().any(covers)
    }
}

/// The mount that an open file is in.
///
/// # Errors
/// As for reading `/proc/self/fdinfo`; EIO if it is not understood.
pub(super) fn mount_of(file: BorrowedFd<'_>) -> Result<MountId, Errno> {
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let info = fs::read_to_string(path).map_err(errno_of)?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok()).ok_or(Errno::EIO)
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut id = || str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (id()?, id()?);
    // Behind the device and the path inside of the file system.
    let point = unescape(fields.nth(2)?)?;
    let options = fields.next()?.split(|byte| *byte == b',');
    let attributes = options.map(|option| match option {
        b"ro" => Attributes::READONLY,
        b"nosuid" => Attributes::NOSUID,
        b"nodev" => Attributes::NODEV,
        b"noexec" => Attributes::NOEXEC,
        _ => Attributes::empty(),
    });
    Some(Mounted {
        id,
        parent,
        point,
        attributes: attributes.collect(),
    })
}

/// Spaces, tabs, line feeds and backslashes are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Option<PathBuf> {
    let mut parts = field.split(|byte| *byte == b'\\');
    let mut path = parts.next()?.to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3)?;
        path.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()?);
        path.extend_from_slice(rest);
    }
    Some(OsString::from_vec(path).into())
}

fn errno_of(why: std::io::Error) -> Errno {
    Errno::try_from(why).unwrap_or(Errno::EIO)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn lines_are_understood() {
        let line =
            br"36 35 98:0 /mnt1 /mnt\0402\134/a ro,noatime,nodev master:1 - ext3 /dev/root rw";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert_eq!(mount.point, Path::new(r"/mnt 2\/a"));
        assert_eq!(mount.attributes, Attributes::READONLY | Attributes::NODEV);
        for broken in [
            &b"36"[..],
            b"a b 1:1 / / rw",
            b"1 2 1:1 / /",
            br"1 2 1:1 / /\04 rw",
        ] {
            assert!(parse(broken).is_none(), "{}", broken.escape_ascii());
        }
    }

    #[test]
    fn what_is_mounted_below_is_found() {
        let mount = |id, parent, point: &str| Mounted {
            id,
            parent,
            point: point.into(),
            attributes: Attributes::empty(),
        };
        let all = Mountinfo(vec![
            mount(1, 1, "/"),
            mount(2, 1, "/top"),
            mount(3, 2, "/top/a"),
            mount(4, 3, "/top/a/b"),
            mount(5, 2, "/top/other"),
            mount(6, 5, "/top/other/c"),
            // One above the other.
            mount(7, 2, "/top/d"),
            mount(8, 7, "/top/d"),
            mount(9, 1, "/beside"),
        ]);
        let mut found: Vec<_> = all.below(2, &BTreeSet::from([5]));
        found.sort_by_key(|mount| mount.id);
        let ids: Vec<_> = found.iter().map(|mount| mount.id).collect();
        assert_eq!(ids, [3, 4, 8]);
        assert_eq!(all.path(2, found[1]), Some(Path::new("a/b")));
        assert_eq!(all.below(1, &BTreeSet::from([2])).len(), 1);
    }

    #[test]
    fn the_mounts_of_this_process_are_understood() {
        let root = File::open("/").unwrap();
        let id = mount_of(root.as_fd()).unwrap();
        let all = Mountinfo::read().unwrap();
        assert!(all.0.iter().any(|mount| mount.id == id), "{id} in {all:?}");
    }
}
