//! The contents of a regular file: blocks where something was written, holes elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use flipcall::SharedBytes;
use lisafs::Errno;

use super::budget::{Budget, Charge};

const BLOCK_LEN: usize = 4096;

/// The size of a block in bytes.
pub(crate) const BLOCK: u64 = BLOCK_LEN as u64;

/// The largest file, as for the kernel.
const MAX_SIZE: u64 = i64::MAX.cast_unsigned();

const KEEP_SIZE: u64 = libc::FALLOC_FL_KEEP_SIZE.cast_unsigned() as u64;
const PUNCH_HOLE: u64 = libc::FALLOC_FL_PUNCH_HOLE.cast_unsigned() as u64;

type Block = Box<[u8; BLOCK_LEN]>;

/// The bytes of a file.
///
/// What a block holds behind the end of the file is zero, so that a file which grows again shows
/// nothing of what it once was.
#[derive(Debug)]
pub(crate) struct Contents {
    size: u64,
    blocks: BTreeMap<u64, Block>,
    charge: Charge,
}

/// The part of a range that lies in one block.
struct Piece {
    block: u64,
    /// Where it begins in the block.
    start: usize,
    len: usize,
    /// Where it begins in the range.
    at: usize,
}

/// The range of `len` bytes at `offset`, block by block.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let position = offset.checked_add(at as u64)?;
        let start = within(position);
        let piece = Piece {
            block: position / BLOCK,
            start,
            len: (BLOCK_LEN - start).min(len - at),
            at,
        };
        at += piece.len;
        (piece.len > 0).then_some(piece)
    })
}

/// Where in its block `position` is.
fn within(position: u64) -> usize {
    usize::try_from(position % BLOCK).unwrap_or_default()
}

fn zeros() -> Block {
    Box::new([0; BLOCK_LEN])
}

impl Contents {
    pub(crate) fn new(bytes: &Arc<Budget>) -> Contents {
        Contents {
            size: 0,
            blocks: BTreeMap::new(),
            charge: Charge::none(bytes),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The number of blocks that hold something.
    pub(crate) fn block_count(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// pread(2).
    pub(crate) fn read(&self, buffer: SharedBytes<'_>, offset: u64) -> Result<usize, Errno> {
        let left = self.size.saturating_sub(offset);
        let len = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        for piece in pieces(offset, len) {
            let block = self.blocks.get(&piece.block);
            let block: &[u8] = block.map_or(&[0; BLOCK_LEN], |block| &block[..]);
            let part = block.get(piece.start..).unwrap_or_default();
            let part = part.get(..piece.len).unwrap_or_default();
            buffer.copy_from(piece.at, part).map_err(|_| Errno::EIO)?;
        }
        Ok(len)
    }

    /// pwrite(2).
    ///
    /// # Errors
    /// EFBIG behind the last offset; ENOSPC if not even one byte finds room.
    pub(crate) fn write(&mut self, data: SharedBytes<'_>, offset: u64) -> Result<usize, Errno> {
        let end = offset.checked_add(data.len() as u64);
        end.filter(|end| *end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let mut done = 0;
        for piece in pieces(offset, data.len()) {
            let block = match self.block(piece.block) {
                Ok(block) => block,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            let part = block.get_mut(piece.start..).unwrap_or_default();
            let part = part.get_mut(..piece.len).unwrap_or_default();
            data.copy_to(piece.at, part).map_err(|_| Errno::EIO)?;
            done += piece.len;
        }
        if done > 0 {
            self.size = self.size.max(offset + done as u64);
        }
        Ok(done)
    }

    /// The block with the number `index`, made if there is none.
    fn block(&mut self, index: u64) -> Result<&mut Block, Errno> {
        match self.blocks.entry(index) {
            std::collections::btree_map::Entry::Occupied(block) => Ok(block.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                self.charge.grow(BLOCK)?;
                Ok(place.insert(zeros()))
            }
        }
    }

    /// ftruncate(2).
    ///
    /// # Errors
    /// EINVAL for a size that no file can have.
    pub(crate) fn set_size(&mut self, size: u64) -> Result<(), Errno> {
        if size > MAX_SIZE {
            return Err(Errno::EINVAL);
        }
        if size < self.size {
            // What was allocated behind the end goes as well.
            self.clear(size, MAX_SIZE);
        }
        self.size = size;
        Ok(())
    }

    /// fallocate(2): room for a range, or with PUNCH_HOLE a hole in its place.
    ///
    /// # Errors
    /// EOPNOTSUPP for another mode, EINVAL for what is no range, EFBIG for one that is too far, ENOSPC.
    pub(crate) fn allocate(&mut self, mode: u64, offset: u64, length: u64) -> Result<(), Errno> {
        if mode & !KEEP_SIZE != 0 && mode != PUNCH_HOLE | KEEP_SIZE {
            return Err(Errno::EOPNOTSUPP);
        }
        if length == 0 || length > MAX_SIZE || offset > MAX_SIZE {
            return Err(Errno::EINVAL);
        }
        let end = offset + length;
        if end > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        if mode & PUNCH_HOLE != 0 {
            self.clear(offset, end);
            return Ok(());
        }
        let wanted = offset / BLOCK..end.div_ceil(BLOCK);
        let present = self.blocks.range(wanted.clone()).count() as u64;
        // All of it is paid for first: a range of exabytes ends here and not in the loop.
        self.charge
            .grow((wanted.end - wanted.start - present) * BLOCK)?;
        for index in wanted {
            self.blocks.entry(index).or_insert_with(zeros);
        }
        if mode & KEEP_SIZE == 0 {
            self.size = self.size.max(end);
        }
        Ok(())
    }

    /// Makes zeros of the bytes from `from` to before `to`; blocks of which nothing is left go.
    fn clear(&mut self, from: u64, to: u64) {
        // Behind the end of the file nothing is worth keeping.
        let end_whole = if to >= self.size {
            to.div_ceil(BLOCK)
        } else {
            to / BLOCK
        };
        let first_whole = from.div_ceil(BLOCK);
        if first_whole < end_whole {
            let whole = self.blocks.extract_if(first_whole..end_whole, |_, _| true);
            self.charge.shrink(whole.count() as u64 * BLOCK);
        }
        for (index, block) in self.blocks.range_mut(from / BLOCK..to.div_ceil(BLOCK)) {
            let begin = index * BLOCK;
            let start = within(from.max(begin));
            let end = usize::try_from(to - begin).map_or(BLOCK_LEN, |end| end.min(BLOCK_LEN));
            block.get_mut(start..end).unwrap_or_default().fill(0);
        }
    }
}
