//! Making a `runsc` that uses this gofer, and unmaking it.
//!
//! | below the prefix | |
//! |---|---|
//! | `bin/runsc-lisafs` | what users start; a link to the next but one |
//! | `libexec/lisafs/multiplexer` | a copy of this program |
//! | `libexec/lisafs/runsc-lisafs` | the runsc that executes the multiplexer instead of itself |
//! | `libexec/lisafs/runsc` | a copy of the runsc that it was made of |
//! | `libexec/lisafs/gvisor-bin` | a link to the further programs of that runsc, if it has any |
//! | `libexec/lisafs/manifest` | what was made elsewhere |
//!
//! Besides there is the link of at most 14 bytes that leads to the multiplexer.
//!
//! Each file takes the place of its predecessor in one step, and what lies elsewhere is written down
//! before anything else, so an installation that was cut short can be repeated or removed.
#![forbid(unsafe_code)]

mod failure;
mod files;
mod libexec;
mod link;
mod manifest;
mod redirect;
mod registration;
mod source;
mod trust;

use std::fs::{self, File, TryLockError};
use std::path::{self, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use self::failure::{Failure, cannot};
pub(crate) use self::libexec::Libexec;
use self::link::Link;
use self::manifest::Manifest;
use self::registration::Registration;
use self::source::{Redirection, Source};
use crate::args::{InstallOptions, UninstallOptions};

/// How long another installation may take, which reads and writes some hundred MiB.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look whether it is done.
const TURN: Duration = Duration::from_millis(50);

/// Installs, and returns how to use it.
pub(crate) fn install(options: &InstallOptions) -> Result<Registration, Failure> {
    // Nothing is made before what can be judged was judged.
    let site = Site::at(&options.prefix)?;
    let _lock = site.lock(PATIENCE)?;
    site.check()?;
    let source = Source::read(options, &site.libexec)?;
    let previous = site.manifest()?;
    let fresh = previous.is_none();
    let done = site.fill(options, &source, previous.unwrap_or_default());
    if done.is_err() && fresh {
        // The first failure is the one to tell of.
        let _ = site.clear();
    }
    done.map(|entry| Registration::of(&site.bin, &entry, &source))
}

/// Removes what was installed, and returns what is left.
pub(crate) fn uninstall(options: &UninstallOptions) -> Result<String, Failure> {
    let site = Site::at(&options.prefix)?;
    let _lock = site.lock(PATIENCE)?;
    if site.manifest()?.is_none() {
        return Err(Failure::NotInstalled { path: site.prefix });
    }
    site.check()?;
    let left = site.clear()?;
    let note = |path: PathBuf| format!("{}: not empty, and not removed\n", path.display());
    Ok(left.into_iter().map(note).collect())
}

/// A place to install to.
struct Site {
    /// Absolute, and without symbolic links as far as it exists.
    prefix: PathBuf,
    libexec: Libexec,
    /// What users start.
    bin: PathBuf,
}

impl Site {
    fn at(prefix: &Path) -> Result<Site, Failure> {
        let prefix = path::absolute(prefix).map_err(cannot("cannot find", prefix))?;
        let existing = nearest(&prefix);
        let resolved = fs::canonicalize(existing).map_err(cannot("cannot find", existing))?;
        let prefix = match prefix.strip_prefix(existing) {
            Ok(missing) if missing != Path::new("") => resolved.join(missing),
            _ => resolved,
        };
        manifest::check(&prefix)?;
        Ok(Site {
            libexec: Libexec::below(&prefix),
            bin: prefix.join("bin/runsc-lisafs"),
            prefix,
        })
    }

    /// Keeps other installations and removals at this prefix away, as long as the file is open. Waits so
    /// long for those that are at work.
    ///
    /// It is the innermost directory that exists which is locked, so others may be at work at a prefix
    /// beside this one; and by the time that it is locked, there may be another.
    fn lock(&self, patience: Duration) -> Result<File, Failure> {
        let start = Instant::now();
        loop {
            let place = nearest(&self.prefix);
            let file = File::open(place).map_err(cannot("cannot lock", place))?;
            match file.try_lock() {
                Ok(()) if nearest(&self.prefix) == place => return Ok(file),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => thread::sleep(TURN),
                Err(TryLockError::WouldBlock) => {
                    return Err(Failure::Busy {
                        path: place.to_owned(),
                    });
                }
                Err(TryLockError::Error(why)) => return Err(cannot("cannot lock", place)(why)),
            }
        }
    }

    /// Refuses a place where others could change what is installed, or where something else is.
    fn check(&self) -> Result<(), Failure> {
        for file in [&self.libexec.multiplexer(), &self.bin] {
            trust::check(&nearest(file.parent().unwrap_or(file)).join("new"))?;
        }
        let foreign = |path: &Path| Failure::Foreign {
            path: path.to_owned(),
        };
        if fs::symlink_metadata(&self.bin).is_ok() && !self.bin_is_ours() {
            return Err(foreign(&self.bin));
        }
        let used = fs::read_dir(self.libexec.path()).is_ok_and(|mut files| files.next().is_some());
        if used && self.manifest()?.is_none() {
            return Err(foreign(self.libexec.path()));
        }
        Ok(())
    }

    fn bin_is_ours(&self) -> bool {
        fs::read_link(&self.bin).is_ok_and(|target| target == self.libexec.redirected())
    }

    /// What was made by an earlier installation here.
    fn manifest(&self) -> Result<Option<Manifest>, Failure> {
        Manifest::read(&self.libexec.manifest())
    }

    /// Installs, and returns the path by which the installed runsc starts others.
    fn fill(
        &self,
        options: &InstallOptions,
        source: &Source,
        mut manifest: Manifest,
    ) -> Result<PathBuf, Failure> {
        manifest.note(files::make_directories(self.libexec.path())?);
        manifest.note(files::make_directories(
            self.bin.parent().unwrap_or(&self.prefix),
        )?);
        manifest.write(&self.libexec.manifest())?;

        let (redirected, entry, link) = match source.redirection() {
            Redirection::Rebuilt(program) => (program.clone(), self.libexec.multiplexer(), None),
            Redirection::Patch(place) => {
                let link = self.link(options.link.as_deref(), &mut manifest)?;
                let program = place.filled(source.original(), &link.padded());
                (program, link.as_redirected(), Some(link))
            }
        };
        files::stage(&self.libexec.redirected(), &redirected, files::PROGRAM)?;
        source.agrees(&files::staged(&self.libexec.redirected()))?;
        files::put(
            &self.libexec.multiplexer(),
            &this_program()?,
            files::PROGRAM,
        )?;
        files::put(&self.libexec.original(), source.original(), files::PROGRAM)?;
        files::replace(&self.libexec.redirected())?;
        match source.sidecars() {
            Some(directory) => files::put_link(&self.libexec.sidecars(), &directory)?,
            None => files::clear(&self.libexec.sidecars())?,
        }
        files::put_link(&self.bin, &self.libexec.redirected())?;
        // As runsc will go there.
        source.agrees(&entry)?;

        for previous in manifest
            .links
            .iter()
            .filter(|made| Some(*made) != link.as_ref())
        {
            previous.release(&self.libexec.multiplexer())?;
        }
        manifest.links = Vec::from_iter(link);
        manifest.write(&self.libexec.manifest())?;
        Ok(entry)
    }

    /// The link to use, which is there and leads to the multiplexer. Each is written down before it is
    /// made, so whatever cuts this short, it can be removed.
    fn link(&self, wanted: Option<&Path>, manifest: &mut Manifest) -> Result<Link, Failure> {
        let target = self.libexec.multiplexer();
        let wanted = wanted.map(Link::at).transpose()?;
        let mut known = manifest.links.iter();
        let previous = known.find(|link| link.leads_to(&target));
        let previous = previous.or(manifest.links.first()).cloned();
        let before = manifest.links.clone();
        let mut claim = |link: Link| {
            manifest.links.clone_from(&before);
            manifest.note_link(link.clone());
            manifest.write(&self.libexec.manifest())?;
            link.claim(&target)
        };
        match wanted.or(previous) {
            Some(link) => claim(link),
            None => Link::claim_any(&target, claim),
        }
    }

    /// Removes what there is of an installation. Returns those directories that were made for it
    /// and have other files by now.
    ///
    /// The manifest only says where to look: no file is removed that is not named here, and no
    /// link that leads elsewhere.
    fn clear(&self) -> Result<Vec<PathBuf>, Failure> {
        let manifest = self.manifest()?.unwrap_or_default();
        if self.bin_is_ours() {
            files::clear(&self.bin)?;
        }
        for link in &manifest.links {
            link.release(&self.libexec.multiplexer())?;
        }
        let libexec = &self.libexec;
        files::clear(&libexec.sidecars())?;
        // The manifest last: what is left can be removed as long as it is there.
        for file in [
            libexec.redirected(),
            libexec.multiplexer(),
            libexec.original(),
            libexec.manifest(),
        ] {
            files::clear(&files::staged(&file))?;
            files::clear(&file)?;
        }
        let mut left = Vec::new();
        for directory in manifest.directories.iter().rev() {
            if !files::clear_directory(directory)? {
                left.push(directory.clone());
            }
        }
        Ok(left)
    }
}

/// The innermost directory that exists of a path and those above it.
fn nearest(path: &Path) -> &Path {
    path.ancestors()
        .find(|ancestor| ancestor.is_dir())
        .unwrap_or(path)
}

fn this_program() -> Result<Vec<u8>, Failure> {
    let exe = Path::new("/proc/self/exe");
    fs::read(exe).map_err(cannot("cannot read", exe))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::{Failure, Link, Manifest, Site};

    #[test]
    fn one_installation_is_at_work_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        // Neither of them exists, so both lock the directory above them.
        let site = Site::at(&dir.path().join("prefix/below")).unwrap();
        let lock = site.lock(Duration::ZERO).unwrap();
        assert!(matches!(
            site.lock(Duration::ZERO),
            Err(Failure::Busy { .. })
        ));
        drop(lock);
        let above = site.lock(Duration::ZERO).unwrap();
        fs::create_dir_all(&site.prefix).unwrap();
        let below = site.lock(Duration::ZERO).unwrap();
        assert!(matches!(
            site.lock(Duration::ZERO),
            Err(Failure::Busy { .. })
        ));
        drop((above, below));
    }

    #[test]
    fn a_link_is_written_down_before_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::at(&dir.path().join("usr")).unwrap();
        fs::create_dir_all(site.libexec.path()).unwrap();
        let mut short = tempfile::Builder::new();
        let short = short.prefix("l").rand_bytes(4).tempdir_in("/tmp").unwrap();
        let path = short.path().join("m");

        fs::write(&path, "somebody else's").unwrap();
        let refused = site.link(Some(&path), &mut Manifest::default());
        assert!(matches!(refused, Err(Failure::LinkTaken { .. })));
        let written = site.manifest().unwrap().unwrap();
        assert_eq!(written.links, [Link::at(&path).unwrap()]);
        site.clear().unwrap();
        assert!(path.exists());

        // An installation that is cut short here leaves nothing.
        fs::remove_file(&path).unwrap();
        site.link(Some(&path), &mut Manifest::default()).unwrap();
        assert!(path.is_symlink());
        site.clear().unwrap();
        assert!(!path.is_symlink());
    }
}
