//! The conformance suite against gVisor's servers, which differ in the ways that are listed.

use std::path::Path;
use std::sync::Arc;

use libtest_mimic::Trial;
use lisafs_conformance::harness::{self, Subject};
use lisafs_conformance::{Need, Spawned};
use tempfile::TempDir;

use crate::gvisor::Release;
use crate::{POLICY, scratch};

/// The cases, and the directory that they need for as long as they run.
pub(crate) fn trials(release: &'static Release) -> (Vec<Trial>, Option<TempDir>) {
    match subject(release) {
        Ok((subject, dir)) => (harness::trials(subject), Some(dir)),
        // Shown as a case that cannot be run for want of Go, or as what else went wrong.
        Err(why) => (vec![release.trial("::conformance", || Err(why))], None),
    }
}

/// A server of its own for each connection: the sockets of one can harm others in its process.
fn subject(release: &Release) -> Result<(Subject, TempDir), String> {
    release.programs()?;
    let dir = scratch(Path::new("/var/tmp"))?;
    let path = dir.path();
    let readonly = [&POLICY[..], &["--readonly"]].concat();
    let mut offered = vec![Need::UnixBind, Need::UnixConnect, Need::Fifo];
    if release.xattr {
        offered.push(Need::UserXattr);
    }
    if nix::unistd::geteuid().is_root() {
        offered.push(Need::Privileged);
    }
    let target = Spawned::new(release.name, release.server_command(path, &POLICY)?)
        .readonly(release.server_command(path, &readonly)?)
        .host_dir(path.to_owned())
        .offering(&offered);
    let known = release
        .differences
        .parse()
        .map_err(|error| format!("the differences of {}: {error}", release.name))?;
    Ok((Subject::new(Arc::new(target)).knowing(known), dir))
}
