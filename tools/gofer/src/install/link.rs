//! The short path by which a patched runsc finds the multiplexer: a symbolic link.
//!
//! A link and not the multiplexer itself, as Go programs ask where they lie by reading the link
//! `/proc/self/exe`; of a patched one they read this, and have to find one here.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use super::failure::{Failure, cannot};
use super::files;
use super::redirect::LENGTH;
use super::trust;

/// Where links are made unless the user says otherwise. It outlives reboots, and belongs to the
/// administrator of the machine, as `/etc/alternatives` does.
const DIRECTORY: &str = "/etc/lisafs";

/// A path that fits into a runsc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link(PathBuf);

impl Link {
    /// One that the user has chosen, or a manifest names.
    pub(super) fn at(path: &Path) -> Result<Link, Failure> {
        let bytes = path.as_os_str().as_bytes();
        let ends_in_name = path
            .file_name()
            .is_some_and(|name| bytes.ends_with(name.as_bytes()));
        if path.is_absolute() && ends_in_name && bytes.len() <= LENGTH && !bytes.contains(&b'\n') {
            Ok(Link(path.to_owned()))
        } else {
            Err(Failure::BadLink {
                path: path.to_owned(),
            })
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The path in as many bytes as runsc has room for: slashes in front of the first count as
    /// one.
    pub(super) fn padded(&self) -> [u8; LENGTH] {
        let mut padded = [b'/'; LENGTH];
        let bytes = self.0.as_os_str().as_bytes();
        for (place, byte) in padded.iter_mut().rev().zip(bytes.iter().rev()) {
            *place = *byte;
        }
        padded
    }

    /// The path as a runsc has it.
    pub(super) fn as_redirected(&self) -> PathBuf {
        OsStr::from_bytes(&self.padded()).into()
    }

    /// Whether it is there and leads to `target`.
    pub(super) fn leads_to(&self, target: &Path) -> bool {
        fs::read_link(&self.0).is_ok_and(|found| found == target)
    }

    /// Makes it, if it is not there already. Its directory has to be there.
    pub(super) fn claim(self, target: &Path) -> Result<Link, Failure> {
        trust::check(&self.0)?;
        match symlink(target, &self.0) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                if !self.leads_to(target) {
                    return Err(Failure::LinkTaken { path: self.0 });
                }
                trust::check_link(&self.0)?;
                Ok(self)
            }
            Err(why) => Err(cannot("cannot make", &self.0)(why)),
            Ok(()) => Ok(self),
        }
    }

    /// Has `claim` make one in the directory for all of them, whose name nobody else has, or the one
    /// that leads to `target` already.
    pub(super) fn claim_any(
        target: &Path,
        claim: impl FnMut(Link) -> Result<Link, Failure>,
    ) -> Result<Link, Failure> {
        let directory = Path::new(DIRECTORY);
        let claimed = Link::claim_in(directory, target, claim);
        if claimed.is_err() {
            // It is not of use, unless for others.
            let _ = files::clear_directory(directory);
        }
        claimed
    }

    fn claim_in(
        directory: &Path,
        target: &Path,
        mut claim: impl FnMut(Link) -> Result<Link, Failure>,
    ) -> Result<Link, Failure> {
        let unusable = |source| Failure::NoLink {
            directory: directory.to_owned(),
            source,
            advice: advice(env::var_os("HOME").as_deref()),
        };
        let explained = |why| match why {
            Failure::File { source, .. } => unusable(source),
            other => other,
        };
        files::make_directories(directory).map_err(explained)?;
        let names = ('0'..='9').chain('a'..='z');
        let links = names.map(|last| Link(directory.join(format!("g{last}"))));
        let ours = links.clone().find(|link| link.leads_to(target));
        let free = links.filter(|link| fs::symlink_metadata(&link.0).is_err());
        for link in ours.into_iter().chain(free) {
            match claim(link) {
                // Somebody was faster.
                Err(Failure::LinkTaken { .. }) => {}
                claimed => return claimed.map_err(explained),
            }
        }
        Err(unusable(io::Error::other(
            "all names from g0 to gz are taken",
        )))
    }

    /// Removes it, if it leads to `target`, and the directory for all of them, if it was the last.
    pub(super) fn release(&self, target: &Path) -> Result<(), Failure> {
        let made = self.leads_to(target);
        if made {
            files::clear(&self.0)?;
        }
        if self.0.parent() == Some(Path::new(DIRECTORY)) {
            let cleared = files::clear_directory(Path::new(DIRECTORY));
            // It may have been made without the link, unless by somebody who may not do that.
            if made {
                cleared?;
            }
        }
        Ok(())
    }
}

/// What to choose for a user who may not write the directory.
fn advice(home: Option<&OsStr>) -> String {
    let link = home.map(|home| Path::new(home).join(".l"));
    match link.filter(|link| Link::at(link).is_ok()) {
        Some(link) => format!("for instance --link {}", link.display()),
        None => {
            "or use a runsc of your own build, which has room for any: see --rebuilt".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Link, advice};

    #[test]
    fn a_path_is_padded_to_what_it_replaces() {
        for (path, padded) in [
            ("/etc/lisafs/g0", b"/etc/lisafs/g0"),
            ("/home/al/.l", b"////home/al/.l"),
            ("/x", b"/////////////x"),
        ] {
            assert_eq!(&Link::at(Path::new(path)).unwrap().padded(), padded);
        }
    }

    #[test]
    fn paths_that_do_not_fit_are_refused() {
        for path in [
            "",
            "/",
            "x",
            "/etc/lisafs/g00",
            "/x/",
            "/x/.",
            "/x/..",
            "/a\nb",
        ] {
            assert!(Link::at(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_link_is_claimed_once_and_for_one_target() {
        // Its path is too long for a runsc, which is not what this is about.
        let dir = tempfile::tempdir().unwrap();
        let link = Link(dir.path().join("g0"));
        let ours = Path::new("/ours");
        assert!(!link.leads_to(ours));
        link.clone().claim(ours).unwrap();
        assert!(link.leads_to(ours));
        link.clone().claim(ours).unwrap();
        assert!(link.clone().claim(Path::new("/theirs")).is_err());
        assert!(link.leads_to(ours));
        std::fs::remove_file(link.path()).unwrap();
        std::fs::write(link.path(), "").unwrap();
        assert!(link.clone().claim(ours).is_err());
        let below = Link(dir.path().join("none/g0"));
        assert!(below.claim(ours).is_err());
    }

    #[test]
    fn each_target_gets_a_link_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let try_of = |target: &str| {
            let target = Path::new(target);
            Link::claim_in(dir.path(), target, |link| link.claim(target))
        };
        let of = |target: &str| try_of(target).unwrap();
        let (first, second) = (of("/a"), of("/b"));
        assert_eq!(first.path(), dir.path().join("g0"));
        assert_eq!(second.path(), dir.path().join("g1"));
        assert_eq!(of("/b"), second);
        first.release(Path::new("/b")).unwrap();
        assert!(first.leads_to(Path::new("/a")));
        first.release(Path::new("/a")).unwrap();
        assert_eq!(of("/c").path(), first.path());
        for number in 0..34 {
            of(&format!("/{number}"));
        }
        assert_eq!(of("/33").path(), dir.path().join("gz"));
        assert!(try_of("/one/more").is_err());
    }

    #[test]
    fn a_home_that_is_short_enough_is_proposed() {
        assert!(advice(Some("/home/user".as_ref())).contains("--link /home/user/.l"));
        assert!(advice(Some("/home/somebody".as_ref())).contains("--rebuilt"));
        assert!(advice(None).contains("--rebuilt"));
    }
}
