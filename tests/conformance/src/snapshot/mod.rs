//! All that there is below a directory, to be compared with what there is later.

mod asked;
mod host;

use std::collections::BTreeMap;
use std::fs::File;

use lisafs::wire::FdId;

pub(crate) use self::host::hold;

use crate::session::Session;
use crate::verdict::{Stop, Verdict, ensure};

/// Files by their paths from the directory, which has the empty one itself.
#[derive(Debug)]
pub(crate) struct Snapshot(BTreeMap<Vec<u8>, Seen>);

/// What a request can change about a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Device and inode number.
    identity: (u64, u64),
    /// Type and permissions.
    mode: u32,
    owner: (u32, u32),
    links: u64,
    size: u64,
    /// When its content and its attributes were changed: seconds and nanoseconds. What was done and
    /// undone shows in them alone.
    modified: (i64, i64),
    changed: (i64, i64),
    /// Bytes of a regular file, the target of a symlink.
    content: Vec<u8>,
    /// The extended attributes.
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A file that has lost its name, and so is in no directory any more.
#[derive(Debug)]
pub(crate) enum Nameless {
    /// As this process had it open before.
    Held(File),
    /// As the server knows it.
    Known(FdId),
}

/// Stands for a nameless file, as no path does.
const NAMELESS: &[u8] = b"/";

impl Snapshot {
    /// Looks at the directory of the case and at `nameless`: past the server if its files can be
    /// reached, otherwise through it, over the connection of the case.
    pub(crate) fn take(
        session: &mut Session,
        nameless: Option<&Nameless>,
    ) -> Result<Snapshot, Stop> {
        let mut files = match session.host_path("") {
            Ok(directory) => host::look_below(directory)?,
            Err(_) => asked::look_below(session)?,
        };
        let seen = match nameless {
            Some(Nameless::Held(file)) => host::look_at(file)?,
            Some(Nameless::Known(id)) => asked::stat(&session.stat(*id)?),
            None => return Ok(Snapshot(files)),
        };
        files.insert(NAMELESS.to_vec(), seen);
        Ok(Snapshot(files))
    }

    /// Fails the case unless everything is as it was `before`.
    #[track_caller]
    pub(crate) fn unchanged_since(&self, before: &Snapshot) -> Verdict {
        let changes: Vec<String> = before
            .0
            .keys()
            .chain(self.0.keys().filter(|path| !before.0.contains_key(*path)))
            .filter_map(|path| change(path, before.0.get(path), self.0.get(path)))
            .collect();
        ensure!(
            changes.is_empty(),
            "refused and done all the same: {}",
            changes.join("; ")
        );
        Ok(())
    }
}

/// What has become of a file, if anything.
fn change(path: &[u8], before: Option<&Seen>, after: Option<&Seen>) -> Option<String> {
    let what = match (before, after) {
        (Some(before), Some(after)) => before.fields_that_differ(after).join(", "),
        (Some(_), None) => "gone".to_owned(),
        (None, _) => "new".to_owned(),
    };
    let name = match path {
        b"" => "the directory itself".to_owned(),
        NAMELESS => "the file without a name".to_owned(),
        path => path.escape_ascii().to_string(),
    };
    (!what.is_empty()).then(|| format!("{name}: {what}"))
}

impl Seen {
    fn fields_that_differ(&self, other: &Seen) -> Vec<&'static str> {
        let Seen {
            identity,
            mode,
            owner,
            links,
            size,
            modified,
            changed,
            content,
            attributes,
        } = self;
        let fields = [
            ("another file", *identity != other.identity),
            ("mode", *mode != other.mode),
            ("owner", *owner != other.owner),
            ("link count", *links != other.links),
            ("size", *size != other.size),
            ("time of modification", *modified != other.modified),
            ("time of change", *changed != other.changed),
            ("content", *content != other.content),
            ("extended attributes", *attributes != other.attributes),
        ];
        let differing = fields.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(field, _)| field).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, Seen, Snapshot};

    fn of<const N: usize>(files: [(&str, Seen); N]) -> Snapshot {
        let files = files.map(|(path, seen)| (path.as_bytes().to_vec(), seen));
        Snapshot(BTreeMap::from(files))
    }

    #[test]
    fn what_has_changed_is_told_and_what_has_not_is_not() {
        let before = of([
            ("", Seen::default()),
            ("a", Seen::default()),
            ("a/gone", Seen::default()),
        ]);
        before.unchanged_since(&before).unwrap();
        let written = Seen {
            modified: (1, 0),
            content: b"new".to_vec(),
            ..Seen::default()
        };
        let after = of([
            ("", Seen::default()),
            ("a", written),
            ("b\n", Seen::default()),
        ]);
        let told = format!("{:?}", after.unchanged_since(&before).unwrap_err());
        for change in [
            "a: time of modification, content",
            "a/gone: gone",
            "b\\\\n: new",
        ] {
            assert!(told.contains(change), "{told}");
        }
        assert!(!told.contains("itself"), "{told}");
    }
}
