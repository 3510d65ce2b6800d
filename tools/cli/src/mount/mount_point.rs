//! The directory that a tree is mounted on.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lisafs::client::ControlFile;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{getegid, geteuid};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::local::LocalDir;

const DEVICE: &str = "/dev/fuse";

/// Mounts for those who may not, being set-user-id root.
const HELPER: &str = "fusermount3";

/// What the helper finds a socket by, to which it sends the descriptor of the device.
const HELPER_SOCKET: &str = "_FUSE_COMMFD";

/// The type that mount(8) and /proc/mounts show.
const KIND: &str = "fuse.lisafs";

/// How to mount.
#[derive(Debug)]
pub(super) struct Options {
    /// What is shown as the source.
    pub(super) source: String,
    pub(super) read_only: bool,
    pub(super) allow_other: bool,
}

/// A directory that something of ours is mounted on. Dropping it unmounts that, in use or not.
#[derive(Debug)]
pub(super) struct MountPoint {
    path: PathBuf,
    by_helper: bool,
    /// The device of what is mounted, as /proc shows it.
    device: Option<String>,
}

impl MountPoint {
    /// Mounts on `path`. Returns the descriptor that the kernel's requests come from as well.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn mount(path: &Path, options: &Options) -> Result<(OwnedFd, MountPoint), String> {
        let path = path
            .canonicalize()
            .map_err(|why| lisafs::Errno::from(why).to_string())?;
        if !path.is_dir() {
            return Err(lisafs::Errno::ENOTDIR.to_string());
        }
        let (fuse, by_helper) = match mount_ourselves(&path, options) {
            Ok(fuse) => (fuse, false),
            Err(Unmounted::Permission) => (mount_by_helper(&path, options)?, true),
            Err(Unmounted::Said(why)) => return Err(why),
        };
        let mut point = MountPoint {
            path,
            by_helper,
            device: None,
        };
        point.device = point.device_on_top();
        Ok((fuse, point))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still ours what is mounted there.
    fn is_mounted(&self) -> bool {
        self.device.is_some() && self.device_on_top() == self.device
    }

    /// umount(2): not while it is in use.
    ///
    /// # Errors
    /// EBUSY then. Success if it is not mounted any more.
    pub(super) fn unmount(&self) -> Result<(), Errno> {
        self.unmount_with(MntFlags::empty())
    }

    /// Has nobody find it any more, while those who use it go on.
    pub(super) fn detach(&self) -> Result<(), Errno> {
        self.unmount_with(MntFlags::MNT_DETACH)
    }

    fn unmount_with(&self, flags: MntFlags) -> Result<(), Errno> {
        if !self.is_mounted() {
            return Ok(());
        }
        if !self.by_helper {
            return umount2(&self.path, flags | MntFlags::UMOUNT_NOFOLLOW);
        }
        let lazy = flags.contains(MntFlags::MNT_DETACH).then_some("-z");
        let helped = Command::new(HELPER)
            .args(["-u", "-q"])
            .args(lazy)
            .arg("--")
            .arg(&self.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        match helped {
            Ok(status) if status.success() => Ok(()),
            // It does not say why in a way that could be told from another.
            _ => Err(Errno::EBUSY),
        }
    }

    /// The device, as MAJOR:MINOR, of what was mounted there last.
    fn device_on_top(&self) -> Option<String> {
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        let lines = mounts.split(|byte| *byte == b'\n');
        lines
            .filter_map(|line| {
                let mut fields = line.split(|byte| *byte == b' ');
                let device = fields.nth(2)?;
                let path = fields.nth(1)?;
                (unescaped(path) == self.path.as_os_str()).then_some(device)
            })
            .next_back()
            .map(|device| String::from_utf8_lossy(device).into_owned())
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        // As the process is about to end, who still uses it is told so by the kernel.
        let _ = self.detach();
    }
}

/// Whether `path` is `served`, or somewhere below it, on this machine. What is mounted there would
/// be in itself.
pub(super) fn is_within(path: &Path, served: &ControlFile) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    path.ancestors().any(|above| {
        LocalDir::open(above).is_ok_and(|above| above.is(served).is_ok_and(|is_it| is_it))
    })
}

/// Why nothing was mounted.
enum Unmounted {
    /// This process may not, and others might.
    Permission,
    Said(String),
}

fn mount_ourselves(path: &Path, options: &Options) -> Result<OwnedFd, Unmounted> {
    let said = |why: String| Unmounted::Said(why);
    let fuse = match File::options().read(true).write(true).open(DEVICE) {
        Ok(fuse) => fuse,
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Unmounted::Permission);
        }
        Err(why) => {
            let why = lisafs::Errno::from(why);
            return Err(said(format!(
                "cannot open {DEVICE}: {why}: is the kernel's module `fuse` loaded?"
            )));
        }
    };
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    let others = if options.allow_other {
        ",allow_other"
    } else {
        ""
    };
    let data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},default_permissions{others}",
        fuse.as_raw_fd(),
        libc::S_IFDIR,
        geteuid(),
        getegid(),
    );
    match mount(
        Some(options.source.as_str()),
        path,
        Some(KIND),
        flags,
        Some(data.as_str()),
    ) {
        Ok(()) => Ok(fuse.into()),
        Err(Errno::EPERM) => Err(Unmounted::Permission),
        Err(why) => Err(said(format!("cannot mount: {}", lisafs::Errno::from(why)))),
    }
}

fn mount_by_helper(path: &Path, options: &Options) -> Result<OwnedFd, String> {
    let (ours, theirs) = UnixStream::pair().map_err(|why| lisafs::Errno::from(why).to_string())?;
    // Commas end an option.
    let source = options.source.replace(',', "\\,");
    let mut list = format!("default_permissions,nosuid,nodev,subtype=lisafs,fsname={source}");
    if options.read_only {
        list.push_str(",ro");
    }
    if options.allow_other {
        list.push_str(",allow_other");
    }
    let helper = Command::new(HELPER)
        .arg("-o")
        .arg(list)
        .arg("--")
        .arg(path)
        // Its stdin is the one descriptor that needs no unsafe code to pass on.
        .env(HELPER_SOCKET, "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let helper = match helper {
        Ok(helper) => helper,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "cannot mount: only root can, and others with {HELPER}, which is in the package fuse3"
            ));
        }
        Err(why) => {
            return Err(format!(
                "cannot start {HELPER}: {}",
                lisafs::Errno::from(why)
            ));
        }
    };
    let fuse = receive(&ours);
    let output = helper.wait_with_output();
    fuse.ok_or_else(|| {
        let said = output.map(|output| output.stderr).unwrap_or_default();
        format!("cannot mount: {}", String::from_utf8_lossy(&said).trim())
    })
}

/// The descriptor that the helper sends with a byte, if it does.
fn receive(socket: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    });
    received.ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// A path of /proc/self/mountinfo, where blanks and backslashes are three octal digits.
fn unescaped(field: &[u8]) -> OsString {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, behind)) = rest.split_first() {
        let escaped = behind.split_at_checked(3).filter(|_| byte == b'\\');
        let value = escaped.and_then(|(digits, behind)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 8).ok()?, behind))
        });
        let (byte, behind) = value.unwrap_or((byte, behind));
        path.push(byte);
        rest = behind;
    }
    OsString::from_vec(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn paths_of_mounts_are_unescaped() {
        for (field, path) in [
            ("/mnt", "/mnt"),
            ("/a\\040b\\134c", "/a b\\c"),
            ("/ends\\04", "/ends\\04"),
            ("/no\\999", "/no\\999"),
        ] {
            assert_eq!(unescaped(field.as_bytes()).as_bytes(), path.as_bytes());
        }
    }
}
