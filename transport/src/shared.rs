#![expect(unsafe_code, reason = "views of memory that is not ours alone")]
//! [`SharedBytes`], the only view of memory that another process may be writing.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use std::arch::asm;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use nix::errno::Errno;

/// A range of bytes that may change at any moment.
///
/// There is no way to look at the bytes in place, since a `&[u8]` promises that nobody writes. They
/// can be copied out, copied in, cut into parts, or lent to the kernel. A value copied out twice
/// may differ, so copy once and check the copy. Copies use relaxed atomics: whatever the peer does,
/// the worst outcome is wrong bytes.
///
/// The same type also views private memory, made from `&mut [u8]`, so that one piece of code serves
/// both.
///
/// ```
/// use flipcall::SharedBytes;
///
/// let mut buffer = *b"....world";
/// let view = SharedBytes::from(&mut buffer[..]);
/// let (hello, world) = view.split_at(4).unwrap();
/// hello.copy_from(0, b"Hey ").unwrap();
///
/// let mut word = [0; 5];
/// world.copy_to(0, &mut word).unwrap();
/// assert_eq!(&word, b"world");
/// assert!(world.copy_to(1, &mut word).is_err());
/// assert_eq!(&buffer, b"Hey world");
/// ```
///
/// A view stays on its thread. Two threads could otherwise copy the same bytes in steps of
/// different sizes, which the language leaves undefined, even for atomics:
///
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<flipcall::SharedBytes<'static>>();
/// ```
#[derive(Clone, Copy)]
pub struct SharedBytes<'a> {
    start: NonNull<u8>,
    len: usize,
    memory: PhantomData<&'a [AtomicU8]>,
}

/// A range does not lie within a [`SharedBytes`].
///
/// ```
/// use flipcall::{OutOfBounds, SharedBytes};
///
/// let mut buffer = [0; 4];
/// let view = SharedBytes::from(&mut buffer[..]);
/// assert_eq!(view.copy_from(2, b"abc"), Err(OutOfBounds));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("range exceeds the shared bytes")]
pub struct OutOfBounds;

impl<'a> SharedBytes<'a> {
    /// A view of `len` bytes at `start`.
    ///
    /// # Safety
    ///
    /// For all of `'a`, `start..start + len` must be one mapped allocation, readable and writable,
    /// to which this process makes no non-atomic access and of which it holds no slice.
    pub(crate) unsafe fn from_raw(start: NonNull<u8>, len: usize) -> SharedBytes<'a> {
        SharedBytes {
            start,
            len,
            memory: PhantomData,
        }
    }

    /// Number of bytes in view.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in view.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `len` bytes at `offset`, or `None` if they are not all in view.
    #[inline]
    pub fn slice(&self, offset: usize, len: usize) -> Option<SharedBytes<'a>> {
        if offset > self.len || len > self.len - offset {
            return None;
        }
        // SAFETY: `add` wants the result within the allocation: `offset <= self.len`.
        let start = unsafe { self.start.add(offset) };
        Some(SharedBytes {
            start,
            len,
            memory: PhantomData,
        })
    }

    /// The first `n` bytes and the rest, or `None` if there are fewer than `n`.
    #[inline]
    pub fn split_at(&self, n: usize) -> Option<(SharedBytes<'a>, SharedBytes<'a>)> {
        let rest = self.len.checked_sub(n)?;
        Some((self.slice(0, n)?, self.slice(n, rest)?))
    }

    /// Copies `dst.len()` bytes at `offset` out of the view, each read exactly once.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if they are not all in view; `dst` is then unchanged.
    #[inline]
    pub fn copy_to(&self, offset: usize, dst: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.slice(offset, dst.len()).ok_or(OutOfBounds)?;
        // SAFETY: `load_all` wants `dst.len()` bytes of a live view: `from` has exactly that many.
        unsafe { load_all(from.start, dst) };
        Ok(())
    }

    /// Copies `src` into the view at `offset`, each byte written exactly once.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`] if `src` does not fit there; the view is then unchanged.
    #[inline]
    pub fn copy_from(&self, offset: usize, src: &[u8]) -> Result<(), OutOfBounds> {
        let to = self.slice(offset, src.len()).ok_or(OutOfBounds)?;
        // SAFETY: `store_all` wants `src.len()` bytes of a live view: `to` has exactly that many.
        unsafe { store_all(to.start, src) };
        Ok(())
    }

    /// pread(fd, view, len, offset): lets the kernel fill the view from a file.
    ///
    /// Returns the number of bytes that arrived; less than [`len`](Self::len) at the end of the
    /// file.
    ///
    /// # Errors
    ///
    /// The errno of pread(2); EINVAL for an offset above `i64::MAX`.
    pub fn pread_from(self, fd: BorrowedFd<'_>, offset: u64) -> nix::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        // SAFETY: pread wants `len` bytes it may write for the time of the call. They are in view,
        // and the kernel is one more writer to memory of which nobody assumes that it holds still.
        let count =
            unsafe { libc::pread(fd.as_raw_fd(), self.start.as_ptr().cast(), self.len, offset) };
        Errno::result(count).and_then(|count| usize::try_from(count).map_err(|_| Errno::EIO))
    }

    /// pwrite(fd, view, len, offset): lets the kernel write the view to a file.
    ///
    /// Returns the number of bytes written. What the peer changes meanwhile may or may not be among
    /// them.
    ///
    /// # Errors
    ///
    /// The errno of pwrite(2); EINVAL for an offset above `i64::MAX`.
    pub fn pwrite_to(self, fd: BorrowedFd<'_>, offset: u64) -> nix::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        // SAFETY: pwrite wants `len` bytes it may read for the time of the call: they are in view.
        let count =
            unsafe { libc::pwrite(fd.as_raw_fd(), self.start.as_ptr().cast(), self.len, offset) };
        Errno::result(count).and_then(|count| usize::try_from(count).map_err(|_| Errno::EIO))
    }

    /// Asks the processor to bring the cache lines of the view, which are about to be written, while
    /// something else is done. Changes nothing. Of a view that does not begin with a line, the last may
    /// be left out.
    #[inline]
    pub(crate) fn prefetch_for_write(&self) {
        for offset in (0..self.len).step_by(CACHE_LINE) {
            // SAFETY: `add` wants the result within the allocation: `offset < self.len`.
            prefetch_for_write(unsafe { self.start.add(offset) });
        }
    }

    /// The first byte, for a system call that reads or fills the view.
    pub(crate) fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }
}

/// A private buffer, lent out whole for as long as the view lives.
impl<'a> From<&'a mut [u8]> for SharedBytes<'a> {
    fn from(buffer: &'a mut [u8]) -> SharedBytes<'a> {
        let len = buffer.len();
        // SAFETY: `from_raw` wants, for `'a`,
        // - one readable and writable allocation of `len` bytes: that is what the slice was;
        // - no other access and no other reference: the exclusive borrow lasts for `'a`, and the
        //   slice itself is given up here.
        unsafe { SharedBytes::from_raw(NonNull::from(buffer).cast(), len) }
    }
}

impl fmt::Debug for SharedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes are another process's to change: printing them would be a second read.
        f.debug_struct("SharedBytes")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// An atomic cell of `N` bytes somewhere in a view.
trait Cell<const N: usize> {
    /// # Safety
    ///
    /// `N` bytes at `at` are in a live view, and `at` is a multiple of `N`.
    unsafe fn load_at(at: NonNull<u8>) -> [u8; N];

    /// # Safety
    ///
    /// As for [`load_at`](Self::load_at).
    unsafe fn store_at(at: NonNull<u8>, bytes: [u8; N]);
}

macro_rules! cell {
    ($atomic:ty, $int:ty, $n:literal) => {
        impl Cell<$n> for $atomic {
            #[inline(always)]
            unsafe fn load_at(at: NonNull<u8>) -> [u8; $n] {
                // SAFETY: `from_ptr` wants, while the reference lives (to the end of this
                // function),
                // - memory valid for reads and writes, aligned to its size: the caller's promise;
                // - no non-atomic access to it: the promise every view is made under.
                let cell = unsafe { <$atomic>::from_ptr(at.as_ptr().cast()) };
                cell.load(Relaxed).to_ne_bytes()
            }

            #[inline(always)]
            unsafe fn store_at(at: NonNull<u8>, bytes: [u8; $n]) {
                // SAFETY: as in `load_at`.
                let cell = unsafe { <$atomic>::from_ptr(at.as_ptr().cast()) };
                cell.store(<$int>::from_ne_bytes(bytes), Relaxed);
            }
        }
    };
}

cell!(AtomicU8, u8, 1);
cell!(AtomicU16, u16, 2);
cell!(AtomicU32, u32, 4);
cell!(AtomicU64, u64, 8);

/// Fills `dst` from a view at `at`.
///
/// Only the shared side has to be aligned. Steps of 1, 2 and 4 bytes bring it to a multiple of 8
/// (each is skipped where its bit is clear), steps of 8 do the bulk, and 4, 2, 1 finish. A step
/// that does not fit into what is left is skipped; then every later step that fits is shorter, and
/// still aligned.
///
/// # Safety
///
/// `dst.len()` bytes at `at` are in a live view.
#[inline]
unsafe fn load_all(mut at: NonNull<u8>, mut dst: &mut [u8]) {
    macro_rules! step {
        ($cell:ty, $n:literal) => {
            if let Some(chunk) = dst.split_off_mut(..$n) {
                // SAFETY: as many bytes as `dst` has left are in view, and it had `N`; the steps
                // before this one left `at` a multiple of `N`.
                chunk.copy_from_slice(&unsafe { <$cell>::load_at(at) });
                // SAFETY: `add` wants the result within the allocation or one behind it: the `N`
                // bytes just read are in it.
                at = unsafe { at.add($n) };
            }
        };
    }
    if !is_multiple(at, 2) {
        step!(AtomicU8, 1);
    }
    if !is_multiple(at, 4) {
        step!(AtomicU16, 2);
    }
    if !is_multiple(at, 8) {
        step!(AtomicU32, 4);
    }
    if let Some(words) = dst.split_off_mut(..string_len(dst.len())) {
        // SAFETY: `copy_string` wants
        // - `words.len()` bytes at the source, a multiple of 8, in a live view and aligned: `dst`
        //   had as many, and the steps above end at a multiple of 8 if as much is left;
        // - as many that are ours to write: `words`.
        unsafe { copy_string(at.as_ptr(), words.as_mut_ptr(), words.len()) };
        // SAFETY: `add` wants the result within the allocation or one behind it: the bytes just
        // read are in it.
        at = unsafe { at.add(words.len()) };
    }
    while dst.len() >= 8 {
        step!(AtomicU64, 8);
    }
    step!(AtomicU32, 4);
    step!(AtomicU16, 2);
    if let [last] = dst {
        // SAFETY: one byte is left in `dst`, so one is in view; any address is a multiple of 1.
        [*last] = unsafe { AtomicU8::load_at(at) };
    }
}

/// Stores `src` into a view at `at`, in the steps of [`load_all`].
///
/// # Safety
///
/// `src.len()` bytes at `at` are in a live view.
#[inline]
unsafe fn store_all(mut at: NonNull<u8>, mut src: &[u8]) {
    macro_rules! step {
        ($cell:ty, $n:literal) => {
            if let Some((chunk, rest)) = src.split_first_chunk::<$n>() {
                // SAFETY: as many bytes as `src` has left are in view, and it has `N`; the steps
                // before this one left `at` a multiple of `N`.
                unsafe { <$cell>::store_at(at, *chunk) };
                // SAFETY: `add` wants the result within the allocation or one behind it: the `N`
                // bytes just written are in it.
                at = unsafe { at.add($n) };
                src = rest;
            }
        };
    }
    if !is_multiple(at, 2) {
        step!(AtomicU8, 1);
    }
    if !is_multiple(at, 4) {
        step!(AtomicU16, 2);
    }
    if !is_multiple(at, 8) {
        step!(AtomicU32, 4);
    }
    if let Some(words) = src.split_off(..string_len(src.len())) {
        // SAFETY: `copy_string` wants
        // - `words.len()` bytes at the source, a multiple of 8, that nobody writes: `words`;
        // - as many at the destination in a live view and aligned: `src` had as many, and the
        //   steps above end at a multiple of 8 if as much is left.
        unsafe { copy_string(words.as_ptr(), at.as_ptr(), words.len()) };
        // SAFETY: `add` wants the result within the allocation or one behind it: the bytes just
        // written are in it.
        at = unsafe { at.add(words.len()) };
    }
    while src.len() >= 8 {
        step!(AtomicU64, 8);
    }
    step!(AtomicU32, 4);
    step!(AtomicU16, 2);
    if let [last] = src {
        // SAFETY: one byte is left in `src`, so one is in view; any address is a multiple of 1.
        unsafe { AtomicU8::store_at(at, [*last]) };
    }
}

/// Bytes that a processor keeps and fetches together. Where there are more, some are fetched twice.
pub(crate) const CACHE_LINE: usize = 64;

/// prefetchw: brings the cache line of `at`, and takes it away from the other processors.
#[inline(always)]
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn prefetch_for_write(at: NonNull<u8>) {
    // SAFETY: `asm!` wants no access that Rust code could not make here, and this makes none: it is
    // a hint, and does nothing at an address that is not mapped. Processors that do not know the
    // hint take it for a no-op. No register and no flag is changed.
    unsafe {
        asm!(
            "prefetchw [{}]",
            in(reg) at.as_ptr(),
            options(nostack, preserves_flags, readonly),
        );
    }
}

/// Elsewhere the lines are fetched when they are written.
#[inline(always)]
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn prefetch_for_write(_at: NonNull<u8>) {}

/// How many of `len` bytes, a multiple of 8, are copied with [`copy_string`]: none unless they are
/// so many that they make up for its start.
#[inline]
fn string_len(len: usize) -> usize {
    const WORTH_IT: usize = 1024;
    if cfg!(all(target_arch = "x86_64", not(miri))) && len >= WORTH_IT {
        len & !7
    } else {
        0
    }
}

/// rep movsq: copies `len` bytes, a multiple of 8, word by word as far as the language is
/// concerned, and as fast as the processor can; the compiler makes no more than single words of
/// atomic accesses.
///
/// # Safety
///
/// `len` bytes at `from` are readable, `len` at `to` writable, and they do not overlap. What is of
/// a view is a multiple of 8 and live; what is not, nobody else accesses but to read.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn copy_string(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: `asm!` wants
    // - no access that Rust code could not have made here: it stands for a loop of relaxed loads
    //   and stores of aligned words on the side of the view, and of unaligned ones on ours, all
    //   within the ranges of the caller's promise;
    // - declared registers: the three that the instruction changes;
    // - a clear direction flag: so it is at the start of every block.
    unsafe {
        asm!(
            "rep movsq",
            inout("rsi") from => _,
            inout("rdi") to => _,
            inout("rcx") len / 8 => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Never called, as [`string_len`] is 0.
///
/// # Safety
///
/// None.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn copy_string(_from: *const u8, _to: *mut u8, _len: usize) {}

#[inline(always)]
fn is_multiple(at: NonNull<u8>, n: usize) -> bool {
    at.addr().get().is_multiple_of(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_for_writing_stays_as_it_is() {
        let mut bytes = [7; 3 * CACHE_LINE];
        let view = SharedBytes::from(&mut bytes[..]);
        for (offset, len) in [(0, 0), (1, 1), (3, 2 * CACHE_LINE), (0, view.len())] {
            view.slice(offset, len).unwrap().prefetch_for_write();
        }
        assert_eq!(bytes, [7; 3 * CACHE_LINE]);
    }
}
