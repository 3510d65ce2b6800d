//! Extended attributes.

use std::collections::BTreeMap;
use std::sync::Arc;

use lisafs::Errno;
use lisafs::wire::{StringArrayBuf, XattrName};

use super::budget::{Budget, Charge};

/// The longest name, and the longest list of names, in bytes: the kernel's XATTR_NAME_MAX and
/// XATTR_LIST_MAX.
const MAX_NAME: usize = 255;
const MAX_LIST: usize = 65_536;

const CREATE: u32 = libc::XATTR_CREATE.cast_unsigned();
const REPLACE: u32 = libc::XATTR_REPLACE.cast_unsigned();

/// What an attribute costs beside its name and value.
const COST: usize = 64;

/// Names and values.
#[derive(Debug)]
pub(crate) struct Xattrs {
    values: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// The length of the list of names, each with a NUL.
    list: usize,
    charge: Charge,
}

/// # Errors
/// ERANGE for a name of no length or too much, EOPNOTSUPP for one of no known name space, EINVAL for
/// nothing but a name space.
fn check(name: XattrName<'_>) -> Result<&[u8], Errno> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_NAME {
        return Err(Errno::ERANGE);
    }
    let spaces: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    match spaces.iter().find_map(|space| bytes.strip_prefix(*space)) {
        None => Err(Errno::EOPNOTSUPP),
        Some([]) => Err(Errno::EINVAL),
        Some(_) => Ok(bytes),
    }
}

fn cost(name: &[u8], value: &[u8]) -> u64 {
    (COST + name.len() + value.len()) as u64
}

impl Xattrs {
    pub(crate) fn new(bytes: &Arc<Budget>) -> Xattrs {
        Xattrs {
            values: BTreeMap::new(),
            list: 0,
            charge: Charge::none(bytes),
        }
    }

    /// # Errors
    /// ENODATA if there is none of the name, ERANGE if its value is longer than `limit`.
    pub(crate) fn get(&self, name: XattrName<'_>, limit: usize) -> Result<&[u8], Errno> {
        let value = self.values.get(check(name)?).ok_or(Errno::ENODATA)?;
        if value.len() > limit {
            Err(Errno::ERANGE)
        } else {
            Ok(value)
        }
    }

    /// # Errors
    /// EEXIST and ENODATA as `flags` want it; ENOSPC if names or values get too many.
    pub(crate) fn set(
        &mut self,
        name: XattrName<'_>,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let name = check(name)?;
        let old = self.values.get(name).map(|old| cost(name, old));
        let longer = match (old, flags) {
            (Some(_), CREATE) => return Err(Errno::EEXIST),
            (None, REPLACE) => return Err(Errno::ENODATA),
            (Some(_), _) => 0,
            (None, _) => name.len() + 1,
        };
        if self.list + longer > MAX_LIST {
            return Err(Errno::ENOSPC);
        }
        self.charge.grow(cost(name, value))?;
        self.charge.shrink(old.unwrap_or(0));
        self.list += longer;
        self.values.insert(name.into(), value.into());
        Ok(())
    }

    /// # Errors
    /// ENODATA if there is none of the name.
    pub(crate) fn remove(&mut self, name: XattrName<'_>) -> Result<(), Errno> {
        let name = check(name)?;
        let value = self.values.remove(name).ok_or(Errno::ENODATA)?;
        self.list -= name.len() + 1;
        self.charge.shrink(cost(name, &value));
        Ok(())
    }

    /// # Errors
    /// ERANGE if the list is longer than `limit`.
    pub(crate) fn list(&self, limit: usize, names: &mut StringArrayBuf) -> Result<(), Errno> {
        if self.list > limit {
            return Err(Errno::ERANGE);
        }
        let mut all = self.values.keys();
        all.try_for_each(|name| names.push(name))
            .map_err(|_| Errno::E2BIG)
    }
}
