//! What a donated descriptor is.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use lisafs::wire::FileType;
use nix::Result;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{FileStat, fstat, major, minor};

use crate::json::{Object, type_name};
use crate::text;

/// A descriptor, as fstat(2), fcntl(2) and procfs tell of it.
pub(crate) struct Donated {
    stat: FileStat,
    flags: OFlag,
    /// Where it leads, as far as the host says; empty without procfs.
    target: std::ffi::OsString,
}

impl Donated {
    pub(crate) fn look(fd: &OwnedFd) -> Result<Donated> {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(Donated {
            stat: fstat(fd)?,
            flags: OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?),
            target: fs::read_link(link).unwrap_or_default().into_os_string(),
        })
    }

    fn access(&self) -> &'static str {
        if self.flags.contains(OFlag::O_PATH) {
            return "path only";
        }
        match self.flags & OFlag::O_ACCMODE {
            OFlag::O_RDONLY => "read",
            OFlag::O_WRONLY => "write",
            _ => "read and write",
        }
    }

    fn file_type(&self) -> &'static str {
        type_name(FileType::from_mode(self.stat.st_mode))
    }

    pub(crate) fn text(&self) -> String {
        let stat = &self.stat;
        format!(
            "{}, {}, flags 0{:o}, {} bytes, inode {} on device {}:{}, {}",
            self.file_type(),
            self.access(),
            self.flags.bits(),
            stat.st_size,
            stat.st_ino,
            major(stat.st_dev),
            minor(stat.st_dev),
            text::escaped(&self.target),
        )
    }

    pub(crate) fn object(&self) -> Object {
        let stat = &self.stat;
        Object::new()
            .set("type", self.file_type())
            .set("access", self.access())
            .set("flags", self.flags.bits())
            .set("size", stat.st_size)
            .set("ino", stat.st_ino)
            .set("dev", vec![major(stat.st_dev), minor(stat.st_dev)])
            .bytes("target", &self.target)
    }
}
