//! `--gofer-mount-confs`: what each mount consists of, at today's `runsc`.
#![forbid(unsafe_code)]

use std::str::FromStr;

/// What a mount consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MountConf {
    lower: Lower,
    /// The sandbox puts a layer of its own above, which takes all writes.
    overlaid: bool,
}

/// Where the files come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lower {
    /// From nowhere: the sandbox starts with an empty directory.
    None,
    /// From a gofer.
    Lisafs,
    /// From an image that the sandbox reads itself.
    Erofs,
}

impl MountConf {
    /// Whether a gofer has anything to do with it.
    pub(crate) fn is_served(self) -> bool {
        self.lower == Lower::Lisafs
    }

    /// Whether the gofer sees no writes.
    pub(crate) fn is_overlaid(self) -> bool {
        self.overlaid
    }
}

/// This is not what a mount can consist of.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a mount configuration: LOWER:UPPER[:size=SIZE] was expected, LOWER one of none, lisafs and erofs, UPPER one of none, memory, self and anon"
)]
pub(crate) struct ParseMountConfError(String);

impl FromStr for MountConf {
    type Err = ParseMountConfError;

    fn from_str(text: &str) -> Result<MountConf, ParseMountConfError> {
        let unknown = || ParseMountConfError(text.to_owned());
        let mut parts = text.split(':');
        let lower = match parts.next() {
            Some("none") => Lower::None,
            Some("lisafs") => Lower::Lisafs,
            Some("erofs") => Lower::Erofs,
            _ => return Err(unknown()),
        };
        let overlaid = match parts.next() {
            Some("none") => false,
            Some("memory" | "self" | "anon") => true,
            _ => return Err(unknown()),
        };
        // How large the upper layer can get is for the sandbox to know.
        match (parts.next(), parts.next()) {
            (None, None) => {}
            (Some(size), None) if size.starts_with("size=") => {}
            _ => return Err(unknown()),
        }
        Ok(MountConf { lower, overlaid })
    }
}

/// Parses the value of the flag: the root, then the mounts in the order of the specification.
///
/// # Errors
/// If one of them cannot be parsed.
pub(crate) fn parse(text: &str) -> Result<Vec<MountConf>, ParseMountConfError> {
    text.split(',').map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::{MountConf, parse};

    #[test]
    fn lists_are_parsed() {
        let confs =
            parse("lisafs:self:size=1073741824,lisafs:none,none:memory,erofs:anon").unwrap();
        let facts = |conf: &MountConf| (conf.is_served(), conf.is_overlaid());
        let facts: Vec<_> = confs.iter().map(facts).collect();
        assert_eq!(
            facts,
            [(true, true), (true, false), (false, true), (false, true)]
        );
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for text in [
            "",
            "lisafs",
            "lisafs:",
            "nfs:none",
            "lisafs:disk",
            "lisafs:self:1",
            "lisafs:self:size=1:",
            "lisafs:none,",
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.to_string().contains("LOWER:UPPER"), "{why}");
        }
    }
}
