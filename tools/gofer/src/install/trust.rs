//! Who could change what runsc executes.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;

use super::failure::{Failure, cannot};

/// Refuses a path below a directory that somebody can change who is neither root nor this user.
///
/// Groups are trusted: who is in one was decided by the administrator. So are directories with the
/// sticky bit, such as `/tmp`, where nobody can replace what others have made; until somebody
/// cleans up there, for which such places are not fit for good.
///
/// `path` is absolute and exists, or its parent does.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    for ancestor in path.ancestors().skip(1) {
        let status = fs::metadata(ancestor).map_err(cannot("cannot look at", ancestor))?;
        if let Some(who) = stranger(status.uid(), status.mode(), geteuid().as_raw()) {
            return Err(Failure::Exposed {
                path: path.to_owned(),
                ancestor: ancestor.to_owned(),
                who,
            });
        }
    }
    Ok(())
}

/// Whether the path has a directory above it that is for everybody, and so cleaned up at times.
pub(super) fn is_temporary(path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .filter_map(|ancestor| fs::metadata(ancestor).ok())
        .any(|status| status.mode() & WRITABLE != 0)
}

/// S_IWOTH.
const WRITABLE: u32 = 0o002;
/// S_ISVTX.
const STICKY: u32 = 0o1000;

fn stranger(owner: u32, mode: u32, user: u32) -> Option<String> {
    if owner != 0 && owner != user {
        Some(format!("the user {owner}"))
    } else if mode & WRITABLE != 0 && mode & STICKY == 0 {
        Some("everybody".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::stranger;

    #[test]
    fn directories_of_others_and_for_all_are_exposed() {
        for (owner, mode, user, exposed) in [
            (0, 0o040_755, 0, false),
            (0, 0o040_755, 1000, false),
            (1000, 0o040_700, 1000, false),
            (0, 0o042_775, 0, false),
            (0, 0o041_777, 1000, false),
            (0, 0o040_777, 0, true),
            (1000, 0o040_757, 1000, true),
            (1000, 0o040_755, 0, true),
            (1001, 0o040_755, 1000, true),
        ] {
            assert_eq!(
                stranger(owner, mode, user).is_some(),
                exposed,
                "{owner} {mode:o} {user}"
            );
        }
    }
}
