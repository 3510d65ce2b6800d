//! The supplementary groups, which open files that nobody means to serve.
#![forbid(unsafe_code)]

use std::fs;

use nix::errno::Errno;
use nix::unistd::{Gid, getegid, geteuid, getgroups, setgroups};

use super::layers::Missing;

/// Gives the supplementary groups up, where that is permitted, and says what is left. To be called
/// while `/proc` is there.
///
/// # Errors
/// If they stay although the process is privileged.
pub(crate) fn drop_groups() -> Result<String, Missing> {
    const NONE: &str = "none but its own";
    let failed = |errno: Errno| {
        Missing::new(
            format!("the supplementary groups cannot be given up: {errno}"),
            "give the process CAP_SETGID until it serves, or start it without other groups",
        )
    };
    let left = |groups: Vec<Gid>| groups.iter().any(|group| *group != getegid());
    match setgroups(&[]) {
        Ok(()) if getgroups().map_err(failed)?.is_empty() => Ok(NONE.to_owned()),
        Ok(()) => Err(failed(Errno::EPERM)),
        Err(_) if !left(getgroups().map_err(failed)?) => Ok(NONE.to_owned()),
        // They are this user's, and so is what they open.
        Err(_) if !geteuid().is_root() || are_groups_kept() => {
            Ok("those of this user, who cannot give them up".to_owned())
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// Whether nobody may change groups here: a user without privileges has made the user namespace, and could
/// give groups up that keep this user from files.
fn are_groups_kept() -> bool {
    fs::read_to_string("/proc/self/setgroups").is_ok_and(|said| said.trim() == "deny")
}
