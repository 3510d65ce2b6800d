//! Directory entries: the one reply that is written entry by entry.

use core::fmt;

use super::array::Measured;
use super::codec::{Encode, Overflow};
use super::declare::record;

record! {
    /// A directory entry (27 bytes and the name).
    pub struct Dirent64<'a> {
        /// The inode number.
        ino: u64,
        /// The device of the entry; minor before major here, unlike `Statx`.
        dev_minor: u32,
        /// The device of the entry.
        dev_major: u32,
        /// The host's cookie for the position behind this entry.
        off: u64,
        /// DT_* of getdents64(2).
        d_type: u8,
        /// The name, any bytes but `/` and NUL.
        name: &'a [u8],
    }
    example Dirent64 {
        ino: 2, dev_minor: 3, dev_major: 4, off: 5, d_type: libc::DT_REG, name: b"f",
    }
        => b"\x02\0\0\0\0\0\0\0\x03\0\0\0\x04\0\0\0\x05\0\0\0\0\0\0\0\x08\x01\0f"
}

impl Dirent64<'_> {
    /// The bytes of an entry without its name.
    pub const FIXED_SIZE: usize = 27;

    /// The bytes of the entry as a `linux_dirent64` record of getdents64(2): 19, the name and its NUL,
    /// padded to eight.
    #[must_use]
    pub fn host_size(&self) -> usize {
        (19 + self.name.len() + 1).next_multiple_of(8)
    }
}

/// Directory entries, in the order of the host's directory. None means its end.
///
/// ```
/// use lisafs::wire::{Decode, Dirent64, DirentWriter, Dirents, Encode, FileType};
///
/// let (d_type, name) = (libc::DT_DIR, b"etc".as_slice());
/// let entry = Dirent64 { ino: 2, dev_minor: 0, dev_major: 0, off: 1, d_type, name };
/// let mut buffer = Vec::new();
/// let mut writer = DirentWriter::new(&mut buffer, 4096);
/// writer.push(&entry)?;
/// let mut bytes = Vec::new();
/// writer.as_dirents().encode(&mut bytes)?;
///
/// for entry in Dirents::from_bytes(&bytes)?.iter() {
///     assert_eq!(entry.name, b"etc");
///     assert_eq!(FileType::from_d_type(entry.d_type), FileType::Directory);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Dirents<'a> = Measured<'a, Dirent64<'a>>;

impl fmt::Debug for Dirents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Collects the entries of a Getdents64 reply, bounded by the message limit, the u16 count and what the
/// request asks for.
///
/// The entries are encoded as they come; [`as_dirents`](Self::as_dirents) is the reply.
///
/// ```
/// use lisafs::wire::{Dirent64, DirentWriter};
///
/// # fn main() -> Result<(), lisafs::wire::Overflow> {
/// let entry = Dirent64 {
///     ino: 1,
///     dev_minor: 0,
///     dev_major: 0,
///     off: 1,
///     d_type: libc::DT_REG,
///     name: b"name",
/// };
/// let mut buffer = Vec::new();
/// // Each such entry is a record of 24 bytes for the host.
/// let mut entries = DirentWriter::new(&mut buffer, 4096).host_bytes(40);
/// entries.push(&entry)?;
/// assert!(entries.push(&entry).is_err());
/// assert_eq!(entries.len(), 1);
/// assert!(entries.is_full());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DirentWriter<'b> {
    count: u16,
    limit: usize,
    /// What is left of the bytes that the request asks for.
    host_room: usize,
    full: bool,
    bytes: &'b mut Vec<u8>,
}

impl<'b> DirentWriter<'b> {
    /// A writer for replies of at most `max_message_size` bytes. `buffer` is cleared and reused.
    pub fn new(buffer: &'b mut Vec<u8>, max_message_size: usize) -> DirentWriter<'b> {
        buffer.clear();
        DirentWriter {
            count: 0,
            limit: max_message_size.saturating_sub(size_of::<u16>()),
            host_room: usize::MAX,
            full: false,
            bytes: buffer,
        }
    }

    /// Refuses entries that would have more than `count` bytes as records of the host.
    #[must_use]
    pub fn host_bytes(mut self, count: u32) -> DirentWriter<'b> {
        self.host_room = usize::try_from(count).unwrap_or(usize::MAX);
        self
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// `Overflow` when the entry does not fit, and it is not among the entries then; the back end goes
    /// back to the entry before it.
    pub fn push(&mut self, entry: &Dirent64<'_>) -> Result<(), Overflow> {
        self.try_push(entry).inspect_err(|_| self.full = true)
    }

    fn try_push(&mut self, entry: &Dirent64<'_>) -> Result<(), Overflow> {
        let count = self.count.checked_add(1).ok_or(Overflow)?;
        let room = self.host_room.checked_sub(entry.host_size());
        let room = room.ok_or(Overflow)?;
        let size = Dirent64::FIXED_SIZE + entry.name.len();
        let before = self.bytes.len();
        if before.saturating_add(size) > self.limit {
            return Err(Overflow);
        }
        // A name that is too long for its own length shows only when the rest is written.
        entry
            .encode(self.bytes)
            .inspect_err(|_| self.bytes.truncate(before))?;
        self.count = count;
        self.host_room = room;
        Ok(())
    }

    /// Whether an entry has been refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The number of entries so far.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries as they go on the wire.
    #[must_use]
    pub fn as_dirents(&self) -> Dirents<'_> {
        Dirents::new(self.count, self.bytes)
    }
}
