//! PRead, PWrite, FSync, FAllocate and Flush: what is done to the contents of open files.

use crate::Errno;
use crate::server::backend::{OpenFdImpl, ServerImpl};
use crate::server::call::{Answer, Call};
use crate::server::dispatch::Serve;
use crate::wire::{
    Encode, FAllocateReq, FSyncReq, FdId, FlushReq, Overflow, PReadReq, PWriteReq, PWriteResp,
};

/// Refuses offsets that pread(2) cannot take.
fn check_offset(offset: u64) -> Result<u64, Errno> {
    i64::try_from(offset).map_or(Err(Errno::EINVAL), |_| Ok(offset))
}

impl Serve for PReadReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.open(self.fd)?;
        let fd = fd.readable()?;
        // The length comes first and is known last: the kernel puts the data behind it.
        0u64.encode(&mut call.reply)
            .map_err(|Overflow| Errno::EIO)?;
        let count = usize::try_from(self.count).map_err(|_| Errno::ENOBUFS)?;
        let buffer = call.reply.region(count).ok_or(Errno::ENOBUFS)?;
        let offset = check_offset(self.offset)?;
        let read = call.fd_shared(fd.node(), |at| fd.file().read(at, buffer, offset))?;
        let read = read.min(count);
        call.reply.clear();
        (read as u64)
            .encode(&mut call.reply)
            .map_err(|Overflow| Errno::EIO)?;
        call.reply.advance(read);
        Ok(call.written())
    }
}

impl Serve for PWriteReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let data = usize::try_from(self.num_bytes)
            .ok()
            .and_then(|count| call.data.slice(0, count))
            .ok_or(Errno::EIO)?;
        let fd = call.open(self.fd)?;
        let fd = fd.writable()?;
        let offset = check_offset(self.offset)?;
        let written = call.fd_exclusive(fd.node(), |at| fd.file().write(at, data, offset))?;
        call.reply::<Self>(&PWriteResp {
            count: written as u64,
        })
    }
}

impl Serve for FSyncReq<'_> {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        // A request must not buy the same disk flush 65,535 times over.
        let mut seen = core::mem::take(&mut call.scratch.ids);
        seen.clear();
        let sync = |id: FdId| {
            // There can be many, and nobody waits for the rest when the client has gone.
            if call.connection.is_closing() {
                return Err(Errno::ECONNRESET);
            }
            let fd = call.open(id)?;
            call.fd_shared(fd.node(), |at| fd.file().sync(at))
        };
        let mut result = Ok(());
        for id in self.fds.iter().filter(|id| seen.insert(*id)) {
            let synced = sync(id);
            result = result.and(synced);
        }
        call.scratch.ids = seen;
        result?;
        call.reply::<Self>(&())
    }
}

impl Serve for FAllocateReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.open(self.fd)?;
        let fd = fd.writable()?;
        let server = call.connection.backend();
        call.fd_exclusive(fd.node(), |at| {
            if fd.node().is_deleted() && !server.opts().allocate_on_deleted {
                return Err(Errno::EINVAL);
            }
            fd.file().allocate(at, self.mode, self.offset, self.length)
        })?;
        call.reply::<Self>(&())
    }
}

impl Serve for FlushReq {
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno> {
        let fd = call.open(self.fd)?;
        call.fd_shared(fd.node(), |at| fd.file().flush(at))?;
        call.reply::<Self>(&())
    }
}
