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
/// Where a directory is a symbolic link, those above its target count as well: who can change one of
/// them decides where it leads.
///
/// `path` is absolute and exists, or its parent does.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let mut paths = vec![path.to_owned()];
    // As many as the kernel follows, or it would have refused to look at one of them.
    while let Some(next) = paths.pop() {
        for ancestor in next.ancestors().skip(1) {
            let status = fs::metadata(ancestor).map_err(cannot("cannot look at", ancestor))?;
            judge(path, ancestor, status.uid(), status.mode())?;
            if let (Ok(target), Some(parent)) = (fs::read_link(ancestor), ancestor.parent()) {
                check_link(ancestor)?;
                paths.push(parent.join(target).join("in it"));
            }
        }
    }
    Ok(())
}

/// Refuses a symbolic link that somebody else has made: a directory with the sticky bit lets nobody
/// but them replace it.
pub(super) fn check_link(link: &Path) -> Result<(), Failure> {
    let status = fs::symlink_metadata(link).map_err(cannot("cannot look at", link))?;
    // Its mode says nothing.
    judge(link, link, status.uid(), 0)
}

fn judge(path: &Path, place: &Path, owner: u32, mode: u32) -> Result<(), Failure> {
    match stranger(owner, mode, geteuid().as_raw()) {
        None => Ok(()),
        Some(who) => Err(Failure::Exposed {
            path: path.to_owned(),
            ancestor: place.to_owned(),
            who,
        }),
    }
}

/// Whether the path has a directory above it that is for everybody, and so cleaned up at times.
pub(super) fn is_temporary(path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .filter_map(|ancestor| fs::metadata(ancestor).ok())
        .any(|status| status.mode() & WRITABLE != 0)
}

/// The innermost directory above the path that only some may search. What runs as nobody has to.
pub(super) fn hidden(path: &Path) -> Option<&Path> {
    path.ancestors()
        .skip(1)
        .find(|ancestor| fs::metadata(ancestor).is_ok_and(|status| status.mode() & SEARCHABLE == 0))
}

/// S_IXOTH.
const SEARCHABLE: u32 = 0o001;
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
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use nix::unistd::geteuid;

    use super::{check, check_link, stranger};
    use crate::skipped::skip;

    #[test]
    fn what_is_above_the_target_of_a_link_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("open/inner")).unwrap();
        symlink("open/inner", path("direct")).unwrap();
        symlink(path("direct"), path("indirect")).unwrap();
        let links = ["direct/g0", "indirect/g0", "indirect/../inner/g0"];
        for link in links {
            check(&path(link)).unwrap();
        }
        fs::set_permissions(path("open"), Permissions::from_mode(0o777)).unwrap();
        for link in links {
            let why = check(&path(link)).unwrap_err().to_string();
            assert!(why.contains("everybody"), "{why}");
        }
        symlink("loop", path("loop")).unwrap();
        check(&path("loop/g0")).unwrap_err();
    }

    #[test]
    fn links_of_others_are_exposed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        check_link(&link).unwrap();
        check(&link.join("g0")).unwrap();
        if !geteuid().is_root() {
            let name = "install::trust::tests::links_of_others_are_exposed";
            return skip(name, "only root can give files away");
        }
        lchown(&link, Some(65534), None).unwrap();
        for why in [check_link(&link), check(&link.join("g0"))] {
            let why = why.unwrap_err().to_string();
            assert!(why.contains("the user 65534"), "{why}");
        }
    }

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
