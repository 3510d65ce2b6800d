//! What an installation has made outside of its own directory, so that it can be removed.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::failure::{Failure, cannot};
use super::files;
use super::link::Link;

/// What the first line says.
const TITLE: &[u8] = b"lisafs-gofer install 1";

/// The links to the multiplexer and the directories that were made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// None with a runsc that was rebuilt. More than one, and some that were not made after all, while
    /// an installation is at work and after one that was cut short.
    pub(super) links: Vec<Link>,
    /// Those above others come first.
    pub(super) directories: Vec<PathBuf>,
}

impl Manifest {
    /// None if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Manifest>, Failure> {
        match fs::read(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(cannot("cannot read", path)(why)),
            Ok(text) => Manifest::parse(&text)
                .map(Some)
                .ok_or_else(|| Failure::BadManifest {
                    path: path.to_owned(),
                }),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        files::put(path, &self.text()?, files::TEXT)
    }

    /// Notes a link that is going to be made, once.
    pub(super) fn note_link(&mut self, link: Link) {
        if !self.links.contains(&link) {
            self.links.push(link);
        }
    }

    /// Notes directories that were made, once each.
    pub(super) fn note(&mut self, made: impl IntoIterator<Item = PathBuf>) {
        for directory in made {
            if !self.directories.contains(&directory) {
                self.directories.push(directory);
            }
        }
    }

    fn text(&self) -> Result<Vec<u8>, Failure> {
        let links = self.links.iter().map(|link| (&b"link "[..], link.path()));
        let directories = self
            .directories
            .iter()
            .map(|path| (&b"directory "[..], path.as_path()));
        let mut text = [TITLE, b"\n"].concat();
        for (word, path) in links.chain(directories) {
            check(path)?;
            text.extend([word, path.as_os_str().as_bytes(), b"\n"].concat());
        }
        Ok(text)
    }

    fn parse(text: &[u8]) -> Option<Manifest> {
        let text = text.strip_suffix(b"\n")?;
        let mut lines = text.split(|byte| *byte == b'\n');
        if lines.next() != Some(TITLE) {
            return None;
        }
        let mut manifest = Manifest::default();
        for line in lines {
            if let Some(path) = line.strip_prefix(b"link ") {
                manifest.note_link(Link::at(Path::new(OsStr::from_bytes(path))).ok()?);
            } else {
                let path = Path::new(OsStr::from_bytes(line.strip_prefix(b"directory ")?));
                path.is_absolute()
                    .then(|| manifest.note([path.to_owned()]))?;
            }
        }
        Some(manifest)
    }
}

/// Refuses paths that cannot be written down.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    if path.as_os_str().as_bytes().contains(&b'\n') {
        return Err(Failure::LineBreak {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Link, Manifest};

    #[test]
    fn what_is_written_is_read_again() {
        let mut manifest = Manifest::default();
        let empty = manifest.text().unwrap();
        assert_eq!(Manifest::parse(&empty), Some(Manifest::default()));
        for link in ["/l/g0", "/l/g1", "/l/g0"] {
            manifest.note_link(Link::at(Path::new(link)).unwrap());
        }
        manifest.note(["/a", "/a/b c", "/a"].map(PathBuf::from));
        let text = manifest.text().unwrap();
        let expected =
            "lisafs-gofer install 1\nlink /l/g0\nlink /l/g1\ndirectory /a\ndirectory /a/b c\n";
        assert_eq!(text, expected.as_bytes());
        assert_eq!(Manifest::parse(&text), Some(manifest));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "\n",
            "lisafs-gofer install 1",
            "lisafs-gofer install 2\n",
            "lisafs-gofer install 1\n\n",
            "lisafs-gofer install 1\nfile /etc/passwd\n",
            "lisafs-gofer install 1\nlink relative\n",
            "lisafs-gofer install 1\nlink /longer/than/fits\n",
            "lisafs-gofer install 1\ndirectory relative\n",
        ] {
            assert_eq!(Manifest::parse(text.as_bytes()), None, "{text:?}");
        }
        let mut manifest = Manifest::default();
        manifest.note([PathBuf::from("/a\nb")]);
        assert!(manifest.text().is_err());
    }
}
