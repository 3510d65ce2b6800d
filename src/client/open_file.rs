//! An open file.

use std::fs::File as HostFile;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use flipcall::SharedBytes;

use super::handle::Handle;
use super::{Client, Error, ReadDir};
use crate::Errno;
use crate::wire::{
    Array, FAllocateReq, FSyncReq, FdId, FileType, FlushReq, Mid, PReadResp, PWriteReq, StatReq,
    Statx,
};

/// An open file or directory: an OpenFd of the server.
///
/// Where the server has donated the host's descriptor, reads and writes of regular files use that
/// and bypass the server, also when it is gone. Given up as soon as it is dropped.
///
/// ```
/// # let client = lisafs_served::directory()?;
/// client.write("motd", b"welcome")?;
/// let file = client.root().walk_one("motd")?.open(libc::O_RDONLY)?;
/// let mut start = [0; 80];
/// assert_eq!(file.read_at(&mut start, 0)?, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct OpenFile {
    handle: Handle,
    kind: FileType,
    donated: Option<HostFile>,
    /// Whether reads and writes use the donated descriptor, once that has been found out.
    direct: OnceLock<bool>,
}

impl OpenFile {
    /// Takes over an id that the server has just made.
    pub(super) fn adopt(
        client: &Client,
        id: FdId,
        donated: Option<OwnedFd>,
        kind: FileType,
    ) -> Result<OpenFile, Error> {
        if id == FdId::INVALID {
            return Err(Error::malformed());
        }
        Ok(OpenFile {
            direct: OnceLock::new(),
            handle: Handle::at_once(client, id),
            kind,
            donated: donated.map(HostFile::from),
        })
    }

    /// The server's id for it.
    #[must_use]
    pub fn id(&self) -> FdId {
        self.handle.id()
    }

    /// The type of the file.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        self.kind
    }

    /// The host's descriptor, if the server has donated it: usually for regular files, always for
    /// FIFOs and character devices. It is the server's too: both see its position and flags.
    #[must_use]
    pub fn donated_fd(&self) -> Option<BorrowedFd<'_>> {
        self.donated.as_ref().map(AsFd::as_fd)
    }

    /// The same file with the donated descriptor unused from here on: all reads and writes go
    /// through the server.
    #[must_use]
    pub fn without_donation(mut self) -> OpenFile {
        self.direct = OnceLock::from(false);
        self
    }

    /// pread(2): fills `buf` as far as the file goes, and returns how much was read. 0 is the end of
    /// the file, unless `buf` is empty.
    ///
    /// # Errors
    /// EBADF if the file is not open for reading; what else the server or the host says. An error
    /// behind the first piece ends the read early instead.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        if let Some(host) = self.direct() {
            return retry(|| host.read_at(buf, offset));
        }
        let piece = self.room(PReadResp::DATA_OFFSET);
        let mut done = 0;
        // At least one request, so that reading nothing has the errors of reading something.
        loop {
            let rest = buf.get_mut(done..).unwrap_or_default();
            let wanted = rest.len().min(piece);
            let at = offset_of(offset, done)?;
            let part = rest.get_mut(..wanted).unwrap_or_default();
            let read = self.handle.client().lease().pread(self.id(), at, part);
            match after_piece(&mut done, wanted, read) {
                Some(result) => return result,
                None if done == buf.len() => return Ok(done),
                None => {}
            }
        }
    }

    /// pwrite(2): writes `data`, and returns how much of it was written.
    ///
    /// # Errors
    /// EBADF if the file is not open for writing; what else the server or the host says. An error
    /// behind the first piece ends the write early instead.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize, Error> {
        if let Some(host) = self.direct() {
            return retry(|| host.write_at(data, offset));
        }
        let piece = self.room(PWriteReq::DATA_OFFSET);
        let mut done = 0;
        loop {
            let rest = data.get(done..).unwrap_or_default();
            let part = rest.get(..piece).unwrap_or(rest);
            let at = offset_of(offset, done)?;
            let written = self.handle.client().lease().pwrite(self.id(), at, part);
            match after_piece(&mut done, part.len(), written) {
                Some(result) => return result,
                None if done == data.len() => return Ok(done),
                None => {}
            }
        }
    }

    /// Reads up to `len` bytes at `offset` without copying them: hands them to `look` where they came
    /// in, which is memory of the connection, and returns what that returns. As many come as fit into
    /// one message and the file has; none are the end of the file.
    ///
    /// Always asks the server, also where it has donated a descriptor. Over a channel the server can
    /// change the bytes while they are looked at, and no other call gets the channel before `look`
    /// returns.
    ///
    /// ```
    /// # let client = lisafs_served::directory()?;
    /// client.write("data", b"magic and more")?;
    /// let file = client.open("data")?.into_inner();
    /// let mut magic = [0; 5];
    /// let len = file.read_with(1 << 20, 0, |data| {
    ///     // Bytes that the server may change are copied once, and the copy is looked at.
    ///     data.copy_to(0, &mut magic).map(|()| data.len())
    /// })??;
    /// assert_eq!((&magic, len), (b"magic", 14));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// EBADF if the file is not open for reading; what else the server says.
    pub fn read_with<T>(
        &self,
        len: usize,
        offset: u64,
        look: impl FnOnce(SharedBytes<'_>) -> T,
    ) -> Result<T, Error> {
        let len = len.min(self.room(PReadResp::DATA_OFFSET));
        let mut lease = self.handle.client().lease();
        lease.pread_with(self.id(), offset, len, look)
    }

    /// Writes up to `len` bytes at `offset` without copying them: `fill` gets the memory that they are
    /// sent from, of `len` bytes or as many as fit into one message, which holds anything, and returns
    /// how many from its start are data. Returns how many of these were written.
    ///
    /// What is said of [`read_with`](Self::read_with) goes for this as well.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    ///
    /// # let client = lisafs_served::directory()?;
    /// let source = std::fs::File::open("/proc/self/comm")?;
    /// let copy = client.create("copy")?.into_inner();
    /// // From the kernel into the memory that the request is sent from.
    /// let written = copy.write_with(1 << 20, 0, |room| {
    ///     room.pread_from(source.as_fd(), 0).unwrap_or(0)
    /// })?;
    /// assert_eq!(client.read("copy")?.len(), written);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// EBADF if the file is not open for writing; what else the server says.
    pub fn write_with(
        &self,
        len: usize,
        offset: u64,
        fill: impl FnOnce(SharedBytes<'_>) -> usize,
    ) -> Result<usize, Error> {
        let len = len.min(self.room(PWriteReq::DATA_OFFSET));
        let mut lease = self.handle.client().lease();
        lease.pwrite_with(self.id(), offset, len, fill)
    }

    /// fsync(2).
    ///
    /// # Errors
    /// The server's.
    pub fn sync(&self) -> Result<(), Error> {
        self.handle.client().lease().call(&FSyncReq {
            fds: Array::new(&[self.id()]),
        })
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// EBADF if the file is not open for writing; what else the server says.
    pub fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<(), Error> {
        self.handle.client().lease().call(&FAllocateReq {
            fd: self.id(),
            mode: mode.into(),
            offset,
            length,
        })
    }

    /// Announces that a descriptor of the file is being closed. Success where servers do not care.
    ///
    /// # Errors
    /// The server's.
    pub fn flush(&self) -> Result<(), Error> {
        let client = self.handle.client();
        if !client.supports(Mid::FLUSH) {
            return Ok(());
        }
        client.lease().call(&FlushReq { fd: self.id() })
    }

    /// fstat(2): the attributes now.
    ///
    /// # Errors
    /// The server's.
    pub fn stat(&self) -> Result<Statx, Error> {
        self.handle
            .client()
            .lease()
            .call(&StatReq { fd: self.id() })
    }

    /// The entries of this directory, from the first.
    ///
    /// Takes the open directory, because it has one position: two readers would each miss what
    /// the other has seen.
    #[must_use]
    pub fn read_dir(self) -> ReadDir {
        ReadDir::new(self)
    }

    pub(super) fn client(&self) -> &Client {
        self.handle.client()
    }

    pub(super) fn donated(&self) -> Option<&HostFile> {
        self.donated.as_ref()
    }

    /// The donated descriptor, where reads and writes use it. Only what is a regular file itself
    /// answers them as the server would; who never reads nor writes does not pay for the look at it.
    fn direct(&self) -> Option<&HostFile> {
        let host = self.donated.as_ref()?;
        let direct = || {
            self.handle.client().uses_donations()
                && self.kind == FileType::Regular
                && is_regular(host)
        };
        self.direct.get_or_init(direct).then_some(host)
    }

    /// How much data fits into a message with `fixed` bytes before it.
    fn room(&self, fixed: u32) -> usize {
        self.handle
            .client()
            .max_message_size()
            .saturating_sub(fixed) as usize
    }
}

/// fstat(2): whether it is a regular file; not if that cannot be found out.
fn is_regular(file: &HostFile) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// Where in the file a piece begins; EINVAL beyond what an offset can say.
fn offset_of(offset: u64, done: usize) -> Result<u64, Error> {
    offset
        .checked_add(done as u64)
        .ok_or(Error::Local(Errno::EINVAL))
}

/// Accounts for a piece of a long read or write. `Some` is the end of it: a piece that came short,
/// or an error, which counts only where nothing was done before it.
fn after_piece(
    done: &mut usize,
    wanted: usize,
    piece: Result<usize, Error>,
) -> Option<Result<usize, Error>> {
    match piece {
        Ok(count) => {
            *done += count;
            (count < wanted).then_some(Ok(*done))
        }
        Err(_) if *done > 0 => Some(Ok(*done)),
        Err(why) => Some(Err(why)),
    }
}

/// A system call on a donated descriptor, begun again when a signal interrupts it.
pub(super) fn retry(mut call: impl FnMut() -> io::Result<usize>) -> Result<usize, Error> {
    loop {
        match call() {
            Ok(count) => return Ok(count),
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(Error::Local(why.into())),
        }
    }
}
