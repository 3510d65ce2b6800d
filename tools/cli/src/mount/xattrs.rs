//! Extended attributes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::refusal::Refusal;
use super::tree::Tree;

impl Tree {
    pub(super) fn get_xattr(&self, number: u64, name: &OsStr) -> Result<Vec<u8>, Refusal> {
        Ok(self.inodes.file(number)?.get_xattr(name)?)
    }

    pub(super) fn set_xattr(
        &self,
        number: u64,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Refusal> {
        Ok(self.inodes.file(number)?.set_xattr(name, value, flags)?)
    }

    /// All names, each with a NUL behind it.
    pub(super) fn list_xattr(&self, number: u64) -> Result<Vec<u8>, Refusal> {
        let mut list = Vec::new();
        for name in self.inodes.file(number)?.list_xattr()? {
            list.extend_from_slice(name.as_bytes());
            list.push(0);
        }
        Ok(list)
    }

    pub(super) fn remove_xattr(&self, number: u64, name: &OsStr) -> Result<(), Refusal> {
        Ok(self.inodes.file(number)?.remove_xattr(name)?)
    }
}
