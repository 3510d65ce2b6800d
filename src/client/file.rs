//! An open file with a position.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::open_file::retry;
use super::{Error, OpenFile};
use crate::Errno;
use crate::wire::{FileType, Statx};

/// An open file with a position, as [`std::fs::File`]. FIFOs and devices have none: they are read
/// and written in order, through the donated descriptor.
///
/// ```
/// use std::io::{BufRead, BufReader, Seek, Write};
///
/// # let client = lisafs_served::directory()?;
/// let mut file = client.create("hosts")?;
/// file.write_all(b"127.0.0.1 localhost\n::1 localhost\n")?;
/// assert_eq!(file.stream_position()?, 34);
/// let lines = BufReader::new(client.open("hosts")?).lines();
/// assert_eq!(lines.count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct File {
    open: OpenFile,
    position: u64,
}

impl File {
    /// [`OpenFile::read_at`]; what has no position is read from where it is.
    ///
    /// # Errors
    /// As for [`OpenFile::read_at`].
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Error> {
        match self.stream() {
            Some(mut host) => retry(|| host.read(buf)),
            None => self.open.read_at(buf, offset),
        }
    }

    /// [`OpenFile::write_at`]; what has no position is written to where it is.
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`].
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize, Error> {
        match self.stream() {
            Some(mut host) => retry(|| host.write(data)),
            None => self.open.write_at(data, offset),
        }
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// As for [`OpenFile::write_at`]; EIO when nothing more is taken, without a reason.
    pub fn write_all_at(&self, data: &[u8], offset: u64) -> Result<(), Error> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_at(rest, offset.saturating_add(done as u64))? {
                0 => return Err(Error::Local(Errno::EIO)),
                count => done += count,
            }
        }
        Ok(())
    }

    /// The attributes now.
    ///
    /// # Errors
    /// The server's.
    pub fn metadata(&self) -> Result<Statx, Error> {
        self.open.stat()
    }

    /// fsync(2).
    ///
    /// # Errors
    /// The server's.
    pub fn sync_all(&self) -> Result<(), Error> {
        self.open.sync()
    }

    /// Whether the file has positions.
    #[must_use]
    pub fn is_seekable(&self) -> bool {
        !matches!(
            self.open.file_type(),
            FileType::Fifo | FileType::CharacterDevice | FileType::Socket
        )
    }

    /// The open file without the position.
    #[must_use]
    pub fn into_inner(self) -> OpenFile {
        self.open
    }

    /// The open file without the position.
    #[must_use]
    pub fn as_inner(&self) -> &OpenFile {
        &self.open
    }

    fn stream(&self) -> Option<&std::fs::File> {
        self.open.donated().filter(|_| !self.is_seekable())
    }
}

/// At the start of the file.
impl From<OpenFile> for File {
    fn from(open: OpenFile) -> File {
        File { open, position: 0 }
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.read_at(buf, self.position)?;
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }
}

impl Write for File {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.write_at(data, self.position)?;
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if !self.is_seekable() {
            return Err(io::Error::from_raw_os_error(libc::ESPIPE));
        }
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.open.stat()?.size.checked_add_signed(by),
        };
        self.position = position.ok_or(Errno::EINVAL)?;
        Ok(self.position)
    }
}
