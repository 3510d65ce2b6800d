//! FGetXattr, FSetXattr, FListXattr and FRemoveXattr.

use crate::Errno;
use crate::server::backend::{ControlFdImpl, ServerImpl};
use crate::server::call::{Answer, Call};
use crate::server::dispatch::Serve;
use crate::wire::{
    FGetXattrReq, FGetXattrResp, FListXattrReq, FListXattrResp, FRemoveXattrReq, FSetXattrReq,
    XattrName,
};

/// The longest value and the longest list of names that the kernel knows, in bytes.
const XATTR_SIZE_MAX: usize = 65_536;

/// What a requested size means: 0, which asks for the size, gets everything at once.
fn limit(size: u64) -> usize {
    match usize::try_from(size) {
        Ok(size @ 1..XATTR_SIZE_MAX) => size,
        _ => XATTR_SIZE_MAX,
    }
}

impl Serve for FGetXattrReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.control(self.fd)?;
        let name = XattrName::new(self.name)?;
        let mut value = core::mem::take(&mut call.scratch.bytes);
        value.clear();
        let result = call.fd_shared(fd.node(), |at| {
            fd.node().live()?;
            fd.file()
                .get_xattr(at, name, limit(u64::from(self.buf_size)), &mut value)
        });
        let answer = result.and_then(|()| {
            // The kernel's longest value is one byte longer than the protocol's longest string.
            if value.len() > usize::from(u16::MAX) {
                return Err(Errno::E2BIG);
            }
            call.reply::<Self>(&FGetXattrResp { value: &value })
        });
        call.scratch.bytes = value;
        answer
    }
}

impl Serve for FSetXattrReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.control(self.fd)?;
        let name = XattrName::new(self.name)?;
        // gVisor's encoder writes the length of a 65,536-byte value as 0 and the value behind it.
        if self.value.is_empty() && call.trailing > usize::from(u16::MAX) {
            return Err(Errno::E2BIG);
        }
        if self.flags > libc::XATTR_REPLACE.cast_unsigned() {
            return Err(Errno::EINVAL);
        }
        call.fd_exclusive(fd.node(), |at| {
            fd.node().live()?;
            fd.file().set_xattr(at, name, self.value, self.flags)
        })?;
        call.reply::<Self>(&())
    }
}

impl Serve for FListXattrReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.control(self.fd)?;
        let mut names = core::mem::take(&mut call.scratch.names);
        names.clear();
        let result = call.fd_shared(fd.node(), |at| {
            fd.node().live()?;
            fd.file().list_xattr(at, limit(self.size), &mut names)
        });
        let answer = result.and_then(|()| {
            call.reply::<Self>(&FListXattrResp {
                names: names.as_array(),
            })
        });
        call.scratch.names = names;
        answer
    }
}

impl Serve for FRemoveXattrReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.control(self.fd)?;
        let name = XattrName::new(self.name)?;
        call.fd_exclusive(fd.node(), |at| {
            fd.node().live()?;
            fd.file().remove_xattr(at, name)
        })?;
        call.reply::<Self>(&())
    }
}
