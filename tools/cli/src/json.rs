//! Results for programs.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;

use lisafs::wire::{FileType, Statx, Timestamp};
use serde_json::{Map, Value, json};

/// An object, to be printed on a line.
#[derive(Debug, Default)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    pub(crate) fn new() -> Object {
        Object::default()
    }

    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Object {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Bytes of the server: a string if they are UTF-8, in hexadecimal under `KEY_hex` if not.
    pub(crate) fn bytes(self, key: &str, bytes: impl AsRef<OsStr>) -> Object {
        let bytes = bytes.as_ref();
        match bytes.to_str() {
            Some(text) => self.set(key, text),
            None => self.set(&format!("{key}_hex"), hex(bytes.as_bytes())),
        }
    }

    /// All attributes.
    pub(crate) fn attributes(self, stat: &Statx) -> Object {
        let object = self
            .set("type", type_name(stat.file_type()))
            .set("mode", format!("{:04o}", stat.permissions()))
            .set("nlink", stat.nlink)
            .set("uid", stat.uid)
            .set("gid", stat.gid)
            .set("size", stat.size)
            .set("blocks", stat.blocks)
            .set("ino", stat.ino)
            .set("dev", json!([stat.dev_major, stat.dev_minor]))
            .set("atime", moment(stat.atime))
            .set("mtime", moment(stat.mtime))
            .set("ctime", moment(stat.ctime));
        match stat.file_type() {
            FileType::CharacterDevice | FileType::BlockDevice => {
                object.set("rdev", json!([stat.rdev_major, stat.rdev_minor]))
            }
            _ => object,
        }
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Value {
        Value::Object(object.0)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_string(&self.0) {
            Ok(text) => f.write_str(&text),
            Err(_) => Err(fmt::Error),
        }
    }
}

fn moment(at: Timestamp) -> Value {
    json!({ "sec": at.sec, "nsec": at.nsec })
}

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a type is called.
pub(crate) fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Socket => "socket",
        FileType::Fifo => "fifo",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "unknown",
    }
}
