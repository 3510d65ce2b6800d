//! What was found, to be compared.

use std::fmt::Debug;
use std::path::Path;

use crate::fixture::Fixture;

/// Something to do in an empty directory.
pub(crate) type Case = fn(&Path, &mut Transcript);

/// What was found, line by line; nothing in it is different each time.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Transcript {
    lines: Vec<String>,
}

impl Transcript {
    pub(crate) fn note(&mut self, what: &str, found: impl Debug) {
        self.lines.push(format!("{what}: {found:?}"));
    }
}

/// Does the same in a mount and in a plain directory, and finds the same.
pub(crate) fn compare(case: Case, options: &[&str]) {
    let at = Fixture::new();
    let mut expected = Transcript::default();
    case(&at.path("plain"), &mut expected);
    assert!(!expected.lines.is_empty());
    let mounted = at.mount(options);
    let mut found = Transcript::default();
    case(&mounted.path, &mut found);
    for (found, expected) in found.lines.iter().zip(&expected.lines) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected);
    mounted.end();
}
