//! Extended attributes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use super::control_file::component;
use super::{ControlFile, Error};
use crate::Errno;
use crate::wire::{FGetXattrReq, FListXattrReq, FRemoveXattrReq, FSetXattrReq};

/// Extended attributes, with their names in full: `user.comment`.
impl ControlFile {
    /// fgetxattr(2): the value of an attribute.
    ///
    /// # Errors
    /// ENODATA if the file has no such attribute; what else the server says.
    pub fn get_xattr(&self, name: impl AsRef<OsStr>) -> Result<Vec<u8>, Error> {
        let request = FGetXattrReq {
            fd: self.id(),
            buf_size: 0,
            name: component(name.as_ref())?,
        };
        let mut lease = self.client().lease();
        Ok(lease.call(&request)?.value.to_vec())
    }

    /// fsetxattr(2); `flags` is 0, XATTR_CREATE or XATTR_REPLACE.
    ///
    /// # Errors
    /// E2BIG for a value above 65,535 bytes, which the protocol cannot carry; what else the server
    /// says.
    pub fn set_xattr(
        &self,
        name: impl AsRef<OsStr>,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Error> {
        if value.len() > usize::from(u16::MAX) {
            return Err(Error::Local(Errno::E2BIG));
        }
        let request = FSetXattrReq {
            fd: self.id(),
            flags: flags.cast_unsigned(),
            name: component(name.as_ref())?,
            value,
        };
        self.client().lease().call(&request)
    }

    /// flistxattr(2): the names of all attributes.
    ///
    /// # Errors
    /// The server's.
    pub fn list_xattr(&self) -> Result<Vec<OsString>, Error> {
        let request = FListXattrReq {
            fd: self.id(),
            size: 0,
        };
        let mut lease = self.client().lease();
        let names = lease.call(&request)?.names;
        Ok(names
            .iter()
            .map(|name| OsString::from_vec(name.to_vec()))
            .collect())
    }

    /// fremovexattr(2).
    ///
    /// # Errors
    /// ENODATA if the file has no such attribute; what else the server says.
    pub fn remove_xattr(&self, name: impl AsRef<OsStr>) -> Result<(), Error> {
        let request = FRemoveXattrReq {
            fd: self.id(),
            name: component(name.as_ref())?,
        };
        self.client().lease().call(&request)
    }
}
