//! Extended attributes.
//!
//! Descriptors held by O_PATH have none for the f*xattr calls, so the attributes are reached through
//! the path of the descriptor. That path leads to a symlink or a socket itself, so all types are
//! alike.
#![forbid(unsafe_code)]

use std::ffi::CStr;

use nix::NixPath;

use super::handle::Handle;
use super::options::Xattrs;
use super::procfd::FdPath;
use super::{HostFs, scratch, sys};
use crate::Errno;
use crate::wire::{StringArrayBuf, XattrName};

/// The kernel has no longer values (XATTR_SIZE_MAX), in bytes.
const LONGEST_VALUE: usize = 65_536;

/// Most values are shorter, and are had with the first call.
const COMMON_VALUE: usize = 256;

impl HostFs {
    /// Appends the value to `value`.
    ///
    /// # Errors
    /// ENODATA; ERANGE if it is longer than `limit`; EOPNOTSUPP for a name that policy hides.
    pub(super) fn get_xattr(
        &self,
        handle: &Handle,
        name: XattrName<'_>,
        limit: usize,
        value: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        self.permit(name)?;
        on_path(handle, |path| {
            with_name(name, |name| {
                match append(value, COMMON_VALUE, |room| sys::getxattr(path, name, room)) {
                    Err(nix::errno::Errno::ERANGE) if limit > COMMON_VALUE => {
                        let most = limit.min(LONGEST_VALUE);
                        append(value, most, |room| sys::getxattr(path, name, room))
                    }
                    result => result,
                }
            })
        })
        .and_then(|length| {
            if length > limit {
                value.truncate(value.len().saturating_sub(length));
                return Err(Errno::ERANGE);
            }
            Ok(())
        })
    }

    /// lsetxattr(2).
    ///
    /// # Errors
    /// As the system call; EINVAL for flags but XATTR_CREATE and XATTR_REPLACE, one at a time;
    /// EOPNOTSUPP for a name that policy hides.
    pub(super) fn set_xattr(
        &self,
        handle: &Handle,
        name: XattrName<'_>,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.permit(name)?;
        let flags = match flags.cast_signed() {
            flags @ (0 | libc::XATTR_CREATE | libc::XATTR_REPLACE) => flags,
            _ => return Err(Errno::EINVAL),
        };
        handle.may_change()?;
        on_path(handle, |path| {
            with_name(name, |name| sys::setxattr(path, name, value, flags))
        })
    }

    /// Adds the names that policy does not hide to `names`.
    ///
    /// # Errors
    /// ERANGE if the names, each with a NUL, are longer than `limit`.
    pub(super) fn list_xattr(
        &self,
        handle: &Handle,
        limit: usize,
        names: &mut StringArrayBuf,
    ) -> Result<(), Errno> {
        if self.options.xattrs == Xattrs::None {
            return Err(Errno::EOPNOTSUPP);
        }
        scratch::with(|buffer| {
            let length = on_path(handle, |path| Ok(sys::listxattr(path, buffer)?))?;
            let list = buffer.get(..length).unwrap_or_default();
            let mut total = 0;
            for name in list
                .split(|byte| *byte == 0)
                .filter(|name| !name.is_empty())
            {
                if !self.shows(name) {
                    continue;
                }
                total += name.len() + 1;
                if total > limit {
                    return Err(Errno::ERANGE);
                }
                names.push(name).map_err(|_| Errno::ERANGE)?;
            }
            Ok(())
        })
    }

    /// lremovexattr(2).
    ///
    /// # Errors
    /// ENODATA; otherwise as the system call; EOPNOTSUPP for a name that policy hides.
    pub(super) fn remove_xattr(&self, handle: &Handle, name: XattrName<'_>) -> Result<(), Errno> {
        self.permit(name)?;
        handle.may_change()?;
        on_path(handle, |path| {
            with_name(name, |name| sys::removexattr(path, name))
        })
    }

    fn shows(&self, name: &[u8]) -> bool {
        match self.options.xattrs {
            Xattrs::All => true,
            Xattrs::User => name.starts_with(b"user."),
            Xattrs::None => false,
        }
    }

    fn permit(&self, name: XattrName<'_>) -> Result<(), Errno> {
        if self.shows(name.as_bytes()) {
            Ok(())
        } else {
            Err(Errno::EOPNOTSUPP)
        }
    }
}

fn on_path<R>(
    handle: &Handle,
    operation: impl FnOnce(&CStr) -> Result<R, Errno>,
) -> Result<R, Errno> {
    handle.with_fd(|fd| operation(FdPath::in_working_directory(fd)?.as_c_str()))
}

fn with_name<R>(
    name: XattrName<'_>,
    operation: impl FnOnce(&CStr) -> nix::Result<R>,
) -> Result<R, Errno> {
    Ok(name.as_bytes().with_nix_path(operation)??)
}

/// Appends to `value` what `fill` puts into the first bytes of a buffer of `most`, and returns how
/// many those are. `value` is unchanged after an error.
fn append(
    value: &mut Vec<u8>,
    most: usize,
    fill: impl FnOnce(&mut [u8]) -> nix::Result<usize>,
) -> nix::Result<usize> {
    let start = value.len();
    // Not empty: with no room at all the kernel would only tell the length.
    value.resize(start + most.max(1), 0);
    let result = fill(value.get_mut(start..).unwrap_or_default());
    value.truncate(start + *result.as_ref().unwrap_or(&0));
    result
}
