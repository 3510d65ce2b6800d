//! Moving the contents of files.

use std::fs::File as HostFile;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};

use lisafs::client::File;
use nix::fcntl::copy_file_range;

use crate::failure::Why;
use crate::progress::Progress;

/// How much is moved at once through this process. A message carries more, but then it is in no
/// cache by the time it is written.
const PIECE: usize = 256 << 10;

/// How much the kernel moves at once: little enough to show progress.
const STRIDE: usize = 16 << 20;

/// Files below this are sooner read and written than the kernel is asked.
const SMALL: u64 = 64 << 10;

/// Moves contents, with one buffer for all files.
pub(crate) struct Pump {
    buffer: Vec<u8>,
}

impl Pump {
    pub(crate) fn new() -> Pump {
        Pump {
            buffer: vec![0; PIECE],
        }
    }

    /// A file of this machine to the server.
    pub(crate) fn put(
        &mut self,
        from: &mut HostFile,
        to: &mut File,
        progress: &mut Progress,
    ) -> Result<(), Why> {
        let mut offset = 0;
        if let Some(donated) = to.as_inner().donated_fd()
            && from.metadata()?.len() >= SMALL
        {
            offset = in_kernel(from.as_fd(), donated, progress);
        }
        from.seek(SeekFrom::Start(offset))?;
        self.put_stream(from, to, offset, progress)
    }

    /// What can be read from `from` to `offset` and behind.
    pub(crate) fn put_stream(
        &mut self,
        from: &mut impl Read,
        to: &mut File,
        mut offset: u64,
        progress: &mut Progress,
    ) -> Result<(), Why> {
        loop {
            let read = match from.read(&mut self.buffer) {
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                read => read?,
            };
            let data = self.buffer.get(..read).unwrap_or_default();
            if data.is_empty() {
                return Ok(());
            }
            to.write_all_at(data, offset)?;
            offset += read as u64;
            progress.add_bytes(read as u64);
        }
    }

    /// A file of the server to one of this machine.
    pub(crate) fn get(
        &mut self,
        from: &File,
        size: u64,
        to: &mut HostFile,
        progress: &mut Progress,
    ) -> Result<(), Why> {
        let mut offset = 0;
        if let Some(donated) = from.as_inner().donated_fd()
            && from.is_seekable()
            && size >= SMALL
        {
            offset = in_kernel(donated, to.as_fd(), progress);
        }
        if offset > 0 {
            to.seek(SeekFrom::Start(offset))?;
        }
        self.get_stream(from, offset, to, |count| progress.add_bytes(count))
    }

    /// A file of the server, from `offset` on, to wherever `to` leads.
    pub(crate) fn get_stream(
        &mut self,
        from: &File,
        mut offset: u64,
        to: &mut impl Write,
        mut moved: impl FnMut(u64),
    ) -> Result<(), Why> {
        loop {
            let read = from.read_at(&mut self.buffer, offset)?;
            let data = self.buffer.get(..read).unwrap_or_default();
            if data.is_empty() {
                return Ok(());
            }
            to.write_all(data)?;
            offset += read as u64;
            moved(read as u64);
        }
    }
}

/// Has the kernel move as much as it likes, from start to start, and returns how much that was.
/// What keeps it from more shows, if it is an error, when the rest is read and written.
fn in_kernel(from: BorrowedFd<'_>, to: BorrowedFd<'_>, progress: &mut Progress) -> u64 {
    let (mut read_at, mut write_at) = (0, 0);
    let mut total = 0;
    while let Ok(count @ 1..) =
        copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), STRIDE)
    {
        total += count as u64;
        progress.add_bytes(count as u64);
    }
    total
}
