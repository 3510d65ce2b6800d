//! Moving the contents of files.

use std::fs::File as HostFile;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use lisafs::client::File;
use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};

use crate::failure::Why;
use crate::progress::Progress;

/// How much is moved at once through this process. A message carries more, but then it is in no
/// cache by the time it is written.
const PIECE: usize = 256 << 10;

/// How much the kernel moves at once, and how much is written between two looks at the server:
/// little enough to show progress, and not to fill a disk for nobody.
const STRIDE: u64 = 16 << 20;

/// Files below this are sooner read and written than the kernel is asked to, or for holes.
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

    /// A file of this machine to the server, to which nothing is written yet.
    pub(crate) fn put(
        &mut self,
        from: &mut HostFile,
        to: &mut File,
        progress: &mut Progress,
    ) -> Result<(), Why> {
        let size = from.metadata()?.len();
        let mut offset = 0;
        while let Some(data) = next_data(from.as_fd(), offset, size) {
            offset = data.start;
            if let Some(donated) = to.as_inner().donated_fd() {
                offset = in_kernel(from.as_fd(), donated, &data, |count| {
                    progress.add_bytes(count);
                    still_there(to)
                })?;
            }
            from.seek(SeekFrom::Start(offset))?;
            let mut rest = (&*from).take(data.end - offset);
            self.put_stream(&mut rest, to, offset, progress)?;
            offset = data.end;
            if data.is_empty() {
                to.write_all_at(&[0], offset - 1)?;
            }
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
            let before = offset;
            offset += read as u64;
            progress.add_bytes(read as u64);
            if before / STRIDE != offset / STRIDE {
                still_there(to)?;
            }
        }
    }

    /// A file of the server to one of this machine, to which nothing is written yet.
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
        {
            while let Some(data) = next_data(donated, offset, size) {
                offset = in_kernel(donated, to.as_fd(), &data, |count| {
                    progress.add_bytes(count);
                    Ok(())
                })?;
                if offset < data.end {
                    break;
                }
                if data.is_empty() {
                    to.set_len(offset)?;
                }
            }
        }
        to.seek(SeekFrom::Start(offset))?;
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

/// The data at `offset` and behind, up to the next hole; an empty range at the end of the file if
/// there is only a hole. None where the file ends, where it is too small to bother, and where the
/// system does not tell.
fn next_data(file: BorrowedFd<'_>, offset: u64, size: u64) -> Option<Range<u64>> {
    if size < SMALL {
        return None;
    }
    let seek = |offset: u64, whence| {
        let offset = offset.try_into().map_err(|_| Errno::EOVERFLOW)?;
        let found = lseek(file, offset, whence)?;
        u64::try_from(found).map_err(|_| Errno::EOVERFLOW)
    };
    match seek(offset, Whence::SeekData) {
        Ok(start) => Some(start..seek(start, Whence::SeekHole).ok()?),
        Err(Errno::ENXIO) if offset < size => Some(size..size),
        Err(_) => None,
    }
}

/// Has the kernel move as much of `data` as it likes, to where it is in the other file as well, and
/// returns where that ended. What keeps it from more shows, if it is an error, when the rest is
/// read and written.
fn in_kernel(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    data: &Range<u64>,
    mut moved: impl FnMut(u64) -> Result<(), Why>,
) -> Result<u64, Why> {
    let mut offset = data.start;
    while offset < data.end {
        let Ok(at) = i64::try_from(offset) else { break };
        let (mut read_at, mut write_at) = (at, at);
        let most = usize::try_from((data.end - offset).min(STRIDE)).unwrap_or(usize::MAX);
        let copied = copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), most);
        let Ok(count @ 1..) = copied else { break };
        offset += count as u64;
        moved(count as u64)?;
    }
    Ok(offset)
}

/// Asks the server for anything. What goes through a donated descriptor does not tell that there is
/// nobody left to give the file its name.
fn still_there(to: &File) -> Result<(), Why> {
    to.as_inner().stat()?;
    Ok(())
}
