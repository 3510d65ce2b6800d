//! `config.json`: what a gofer needs of the container's specification.
//!
//! `runsc` has validated it before; what is read here is only given types. Members that are absent
//! and members that are `null` are the same, as they are to the programs that write these files.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

/// How long a specification can be. Those that exist have some ten thousand bytes.
const MAX_BYTES: u64 = 16 << 20;

/// A container, as far as its gofer is concerned.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    /// The version of the runtime specification that the file follows. The state that hooks are
    /// told has one, too.
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) oci_version: String,
    pub(crate) root: Root,
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) process: Process,
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) mounts: Vec<Mount>,
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) hooks: Hooks,
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) linux: Linux,
}

/// The first process of the container.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Process {
    /// Where it starts; empty if nobody says.
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) cwd: PathBuf,
}

/// The root directory of the container.
#[derive(Debug, Deserialize)]
pub(crate) struct Root {
    /// Relative paths are relative to the bundle.
    pub(crate) path: PathBuf,
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) readonly: bool,
}

/// What is mounted in the container. Serialized, it is an element of the list that the sandbox
/// takes in place of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mount {
    pub(crate) destination: String,
    #[serde(
        rename = "type",
        default,
        deserialize_with = "or_null",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) kind: String,
    #[serde(
        default,
        deserialize_with = "or_null",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) source: String,
    #[serde(
        default,
        deserialize_with = "or_null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) options: Vec<String>,
    #[serde(
        default,
        deserialize_with = "or_null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) uid_mappings: Vec<IdMapping>,
    #[serde(
        default,
        deserialize_with = "or_null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) gid_mappings: Vec<IdMapping>,
}

/// `size` ids from `container_id` on are those from `host_id` on outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(crate) container_id: u32,
    #[serde(rename = "hostID")]
    pub(crate) host_id: u32,
    pub(crate) size: u32,
}

/// The programs to run while the container comes and goes. Only one kind is the gofer's to run.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hooks {
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) create_container: Vec<Hook>,
}

/// A program to run.
#[derive(Debug, Deserialize)]
pub(crate) struct Hook {
    pub(crate) path: PathBuf,
    /// The name of the program included; the path if there are none.
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) args: Vec<String>,
    /// NAME=value, and nothing else is inherited; what runsc has if there are none.
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) env: Vec<String>,
    /// After how many seconds it has failed.
    #[serde(default)]
    pub(crate) timeout: Option<u64>,
}

/// What is specific to Linux.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Linux {
    /// The propagation of the root mount, as the mount option is called; slave if empty.
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) rootfs_propagation: String,
    #[serde(default, deserialize_with = "or_null")]
    pub(crate) devices: Vec<Device>,
}

/// A device of the container.
#[derive(Debug, Deserialize)]
pub(crate) struct Device {
    /// In the container.
    pub(crate) path: PathBuf,
}

/// `null` stands for a member that is not there.
fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// There is no specification to follow.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("config.json cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("config.json has more than {MAX_BYTES} bytes")]
    TooLong,
    /// Says which member, line and column.
    #[error("config.json: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Spec {
    /// Reads a specification to its end.
    ///
    /// # Errors
    /// If it cannot be read, is longer than 16 MiB, or is none.
    pub(crate) fn read(from: impl Read) -> Result<Spec, SpecError> {
        let mut text = Vec::new();
        let read = from.take(MAX_BYTES + 1).read_to_end(&mut text)?;
        if u64::try_from(read).map_or(true, |read| read > MAX_BYTES) {
            return Err(SpecError::TooLong);
        }
        Ok(serde_json::from_slice(&text)?)
    }
}

impl Mount {
    /// Whether it has this option.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|each| each == option)
    }

    /// Whether the ids of its files are to be mapped, which takes both kinds of them.
    pub(crate) fn is_id_mapped(&self) -> bool {
        !self.uid_mappings.is_empty() && !self.gid_mappings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::{MAX_BYTES, Mount, Spec, SpecError};

    #[test]
    fn a_full_specification_is_read() {
        let spec = Spec::read(
            br#"{"ociVersion":"1.0.0","process":{"args":["sh"],"cwd":"/w"},"root":{"path":"rootfs","readonly":true},
            "mounts":[{"destination":"/m","type":"bind","source":"/s","options":["rbind","ro"],
              "uidMappings":[{"containerID":0,"hostID":1000,"size":10}],
              "gidMappings":[{"containerID":0,"hostID":2000,"size":20}]}],
            "hooks":{"createContainer":[{"path":"/h","args":["h","a"],"env":["A=b"],"timeout":3}],
              "prestart":[{"path":"/other"}]},
            "annotations":{"k":"v"},
            "linux":{"rootfsPropagation":"rslave","devices":[{"path":"/dev/x","type":"c"}]}}"#
                .as_slice(),
        )
        .unwrap();
        assert_eq!(spec.oci_version, "1.0.0");
        assert_eq!(spec.process.cwd, Path::new("/w"));
        assert_eq!(spec.root.path, Path::new("rootfs"));
        assert!(spec.root.readonly);
        assert!(spec.mounts[0].has("ro") && !spec.mounts[0].has("rw"));
        assert!(spec.mounts[0].is_id_mapped());
        assert_eq!(spec.mounts[0].gid_mappings[0].host_id, 2000);
        let [hook] = spec.hooks.create_container.as_slice() else {
            panic!("one hook was expected")
        };
        assert_eq!(hook.path, Path::new("/h"));
        assert_eq!(hook.args, ["h", "a"]);
        assert_eq!(hook.env, ["A=b"]);
        assert_eq!(hook.timeout, Some(3));
        assert_eq!(spec.annotations["k"], "v");
        assert_eq!(spec.linux.rootfs_propagation, "rslave");
        assert_eq!(spec.linux.devices[0].path, Path::new("/dev/x"));
    }

    #[test]
    fn what_is_absent_and_what_is_null_is_empty() {
        for text in [
            r#"{"root":{"path":"/"}}"#,
            r#"{"ociVersion":null,"root":{"path":"/","readonly":null},"mounts":null,"hooks":null,"process":null,
                "annotations":null,"linux":{"rootfsPropagation":null,"devices":null}}"#,
            r#"{"root":{"path":"/"},"hooks":{"createContainer":null},"linux":null}"#,
        ] {
            let spec = Spec::read(text.as_bytes()).unwrap();
            assert!(spec.mounts.is_empty() && !spec.root.readonly);
            assert!(spec.hooks.create_container.is_empty());
        }
    }

    #[test]
    fn a_mount_is_written_without_what_is_empty() {
        let bare = Mount {
            destination: "/tmp".to_owned(),
            ..Mount::default()
        };
        assert_eq!(
            serde_json::to_string(&bare).unwrap(),
            r#"{"destination":"/tmp"}"#
        );
        let text = concat!(
            r#"{"destination":"/m","type":"bind","source":"/s","options":["ro"],"#,
            r#""uidMappings":[{"containerID":0,"hostID":1,"size":2}],"#,
            r#""gidMappings":[{"containerID":3,"hostID":4,"size":5}]}"#
        );
        let full: Mount = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&full).unwrap(), text);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let why = Spec::read(br#"{"root":{}}"#.as_slice()).unwrap_err();
        assert!(why.to_string().contains("`path`"), "{why}");
        let why = Spec::read(br#"{"mounts":[]}"#.as_slice()).unwrap_err();
        assert!(why.to_string().contains("`root`"), "{why}");
        let why = Spec::read(io::repeat(b' ')).unwrap_err();
        assert!(matches!(why, SpecError::TooLong), "{why}");
    }

    #[test]
    fn the_longest_specification_is_read() {
        let text = br#"{"root":{"path":"/"}}"#;
        let blanks = MAX_BYTES - u64::try_from(text.len()).unwrap();
        let padded =
            |blanks| io::Read::chain(text.as_slice(), io::Read::take(io::repeat(b' '), blanks));
        Spec::read(padded(blanks)).unwrap();
        Spec::read(padded(blanks + 1)).unwrap_err();
    }
}
