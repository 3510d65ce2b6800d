//! An object whose name is another one's by now.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lisafs::wire::{SetStat, SetStatReq};
use lisafs_conformance::Verdict;

use super::{O_RDWR, STREAM, refused};
use crate::outside::FILE;
use crate::stage::Stage;

/// An object whose name leads elsewhere by now: what is done to it is done to it or refused.
pub(super) fn replaced(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let out = stage.outside.dir().to_owned();
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    for round in 0..stage.count(20, 1000) {
        let name = format!("{round}").into_bytes();
        let bound = client.bind(root, &name, STREAM)?;
        client.unlink(root, &name)?;
        client.symlink(root, &name, &bytes(&out.join(FILE)))?;
        let stale = bound.inode.control_fd;
        let dir_name = [&name[..], b" dir"].concat();
        let dir = client.mkdir(root, &dir_name)?.control_fd;
        // One handle is closed late, so that its node is the last that goes.
        let late = client.find(root, &dir_name)?.control_fd;
        client.rmdir(root, &dir_name)?;
        client.symlink(root, &dir_name, &bytes(&out))?;
        client.close(&[late])?;
        let mode = SetStatReq {
            mask: SetStat::MODE.bits(),
            mode: 0o777,
            ..SetStatReq::new(stale)
        };
        refused(client.set_stat(&mode))?;
        let times = SetStatReq {
            mask: (SetStat::ATIME | SetStat::MTIME | SetStat::SIZE).bits(),
            ..SetStatReq::new(stale)
        };
        refused(client.set_stat(&times))?;
        refused(client.set_xattr(stale, b"user.trace", b"value", 0))?;
        refused(client.connect(stale, STREAM))?;
        refused(client.link(root, stale, b"hard"))?;
        refused(client.bind(dir, b"bound", STREAM))?;
        refused(client.create(dir, b"new", O_RDWR))?;
        refused(client.mkdir(dir, b"sub"))?;
        refused(client.symlink(dir, b"link", b"/"))?;
        refused(client.rename((root, &name), (dir, b"moved")))?;
        stage.count_tries(10);
    }
    Ok(())
}
