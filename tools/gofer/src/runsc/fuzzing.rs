//! What `tests/fuzz` calls of it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::argv::{self, Mounts};
use super::mount_options::MountOptions;
use super::mounts::{self, Layers, Plan};
use super::spec::Spec;

/// Understands a command line, and returns whether it could.
///
/// # Panics
/// If the log that was found before is not the one that is understood then, or if a descriptor has
/// two owners.
pub fn argv(words: Vec<OsString>) -> bool {
    let log = argv::log_fd(&words);
    let Ok(invocation) = argv::parse(words) else {
        return false;
    };
    assert!(
        log.is_none() || invocation.fds.log == log,
        "the log is {:?}, not {log:?}",
        invocation.fds.log
    );
    let mut all: Vec<_> = invocation.fds.all().collect();
    all.sort_unstable();
    assert!(
        all.windows(2).all(|pair| pair.first() != pair.last()),
        "a descriptor has two owners: {all:?}"
    );
    true
}

/// Reads a specification and plans what is served with `sockets` descriptors, under the command line
/// `words` if that can be understood. Returns whether all of it makes sense.
///
/// # Panics
/// If a plan has another number of sockets than there are.
pub fn spec(text: &[u8], words: Vec<OsString>, sockets: usize) -> bool {
    let Ok(spec) = Spec::read(text) else {
        return false;
    };
    let options = spec.mounts.iter().map(|mount| {
        let options = mount.options.iter().map(String::as_str);
        MountOptions::new(options).map(|options| options.readonly())
    });
    let sound = options.filter(Result::is_ok).count() == spec.mounts.len();
    let invocation = argv::parse(words);
    let layers = match invocation.as_ref().map(|invocation| &invocation.mounts) {
        Ok(Mounts::Listed(confs)) => Layers::Confs(confs),
        _ => Layers::Flags {
            root: false,
            mounts: true,
        },
    };
    let Ok(plan) = Plan::new(&spec, layers, (0..sockets).collect()) else {
        return false;
    };
    assert_eq!(
        usize::from(plan.root.is_some()) + plan.mounts.len(),
        sockets,
        "a socket serves nothing"
    );
    let bundle = invocation.map(|invocation| invocation.bundle);
    let bundle = bundle.unwrap_or_else(|_| "/bundle".into());
    let listed = mounts::list(&spec.mounts, &bundle, &BTreeMap::new());
    listed.is_ok() && sound
}
