//! Where the parts of an installation lie.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The directory below a prefix.
const DIRECTORY: &str = "libexec/lisafs";

/// The name of a multiplexer, by which it is known to be one.
const MULTIPLEXER: &str = "multiplexer";

/// `PREFIX/libexec/lisafs`: the multiplexer and what it needs, all in one directory that belongs to
/// the installation alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Libexec(PathBuf);

impl Libexec {
    /// That of a prefix.
    pub(crate) fn below(prefix: &Path) -> Libexec {
        Libexec(prefix.join(DIRECTORY))
    }

    /// That of a multiplexer; none if this executable is something else.
    ///
    /// An executable that was replaced while it runs is still one.
    pub(crate) fn of(exe: &Path) -> Option<Libexec> {
        let directory = exe.parent().filter(|path| path.ends_with(DIRECTORY))?;
        let name = exe.file_name().and_then(OsStr::to_str)?;
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        (name == MULTIPLEXER).then(|| Libexec(directory.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A copy of this program.
    pub(crate) fn multiplexer(&self) -> PathBuf {
        self.0.join(MULTIPLEXER)
    }

    /// A copy of the user's runsc. A copy, since it has to be of the same version as the next, also
    /// after the user has upgraded.
    pub(crate) fn original(&self) -> PathBuf {
        self.0.join("runsc")
    }

    /// The runsc that executes the multiplexer where it would execute itself.
    pub(crate) fn redirected(&self) -> PathBuf {
        self.0.join("runsc-lisafs")
    }

    /// Where runsc looks for further programs of its own.
    pub(crate) fn sidecars(&self) -> PathBuf {
        self.0.join("gvisor-bin")
    }

    /// What the installation has made outside of this directory.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.0.join("manifest")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Libexec;

    #[test]
    fn a_multiplexer_is_known_by_its_path() {
        let libexec = Libexec::below(Path::new("/opt/x"));
        assert_eq!(Libexec::of(&libexec.multiplexer()), Some(libexec.clone()));
        let replaced = Path::new("/opt/x/libexec/lisafs/multiplexer (deleted)");
        assert_eq!(Libexec::of(replaced), Some(libexec.clone()));
        for other in [
            "/opt/x/libexec/lisafs/runsc",
            "/opt/x/libexec/lisafs/multiplexer2",
            "/opt/x/multiplexer",
            "/opt/x/libexec/lisafs/more/multiplexer",
            "/target/debug/lisafs-gofer",
            "/",
        ] {
            assert_eq!(Libexec::of(Path::new(other)), None, "{other}");
        }
    }
}
