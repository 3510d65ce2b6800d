#![expect(unsafe_code, reason = "mmap, madvise, and the header words in it")]
//! [`Mapping`]: a packet window in this process's address space.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};

use crate::error::{Error, ErrorKind};
use crate::shared::SharedBytes;
use crate::window::WindowDescriptor;

/// Bytes in front of the datagram: four words.
pub(crate) const HEADER_LEN: usize = 16;

/// A header word, by its offset in the window.
#[derive(Clone, Copy, Debug)]
enum HeaderWord {
    State = 0,
    DataLen = 4,
    ClientAsleep = 8,
    ServerAsleep = 12,
}

/// A shared, writable mapping of one packet window.
///
/// It is never looked at through a reference, with one exception: the atomic header words.
#[derive(Debug)]
pub(crate) struct Mapping {
    memory: MmapRaw,
}

impl Mapping {
    /// mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset)
    ///
    /// The caller has made sure that the file is that long and cannot shrink; otherwise a later
    /// access would be answered with SIGBUS.
    pub(crate) fn new(fd: BorrowedFd<'_>, descriptor: WindowDescriptor) -> Result<Mapping, Error> {
        let length = usize::try_from(descriptor.length)
            .ok()
            .filter(|length| *length >= HEADER_LEN)
            .ok_or_else(|| {
                Error::about(ErrorKind::Window, "bad window length", descriptor.length)
            })?;
        let memory = MmapOptions::new()
            .offset(descriptor.offset)
            .len(length)
            .map_raw(fd.as_raw_fd())
            .map_err(Error::io("cannot map the packet window"))?;
        Ok(Mapping { memory })
    }

    /// Whose turn it is.
    pub(crate) fn state(&self) -> &AtomicU32 {
        self.word(HeaderWord::State)
    }

    /// Length of the datagram now in the window.
    pub(crate) fn data_len(&self) -> &AtomicU32 {
        self.word(HeaderWord::DataLen)
    }

    /// The client's parking flag.
    pub(crate) fn client_asleep(&self) -> &AtomicU32 {
        self.word(HeaderWord::ClientAsleep)
    }

    /// The server's parking flag.
    pub(crate) fn server_asleep(&self) -> &AtomicU32 {
        self.word(HeaderWord::ServerAsleep)
    }

    /// Everything behind the header.
    pub(crate) fn datagram(&self) -> SharedBytes<'_> {
        // SAFETY: `from_raw` wants, while `self` is borrowed,
        // - one readable and writable allocation: the mapping lives as long as `self`;
        // - no access by this process that is not atomic, and no slice of it: `MmapRaw` makes none,
        //   and of the ways this type offers, one leads to atomics and one to `SharedBytes`.
        unsafe { SharedBytes::from_raw(self.at(HEADER_LEN), self.memory.len() - HEADER_LEN) }
    }

    /// madvise(MADV_REMOVE) of all pages but the first, whose words others may still look at: gives
    /// their memory back, also if the peer keeps its mapping or the file. They hold zeros then.
    ///
    /// Not those that the peer has pinned: they leave the file, and their memory stays as long as a
    /// buffer registered with io_uring or a pipe that vmsplice(2) has filled has them. How many that
    /// are RLIMIT_MEMLOCK and the limits of pipes say.
    ///
    /// # Errors
    ///
    /// As madvise(2), for instance EINVAL if this process locks its memory.
    pub(crate) fn remove_data(&self, page: usize) -> std::io::Result<()> {
        let rest = self.memory.len().saturating_sub(page);
        if rest == 0 {
            return Ok(());
        }
        // SAFETY: `unchecked_advise_range` wants that nobody here relies on the bytes, for they
        // change: no reference leads to them (see `datagram`), and the peer may change them at any
        // time. The mapping stays as it is, and the header words, which are in the first page.
        unsafe {
            self.memory
                .unchecked_advise_range(UncheckedAdvice::Remove, page, rest)
        }
    }

    fn word(&self, word: HeaderWord) -> &AtomicU32 {
        let at = self.at(word as usize).cast::<u32>();
        // SAFETY: `from_ptr` wants, while `self` is borrowed,
        // - four valid bytes: a window is at least `HEADER_LEN` long, and stays mapped;
        // - alignment to 4: mappings start at a page, and header words are at multiples of 4;
        // - no non-atomic access: nobody in this process makes any (see `datagram`), and another
        //   process is outside of what the language can be asked to assume.
        unsafe { AtomicU32::from_ptr(at.as_ptr()) }
    }

    /// The address of a byte of the header, or of the first one behind it.
    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset <= HEADER_LEN);
        // SAFETY: `new_unchecked` wants a pointer that is not null, and no mapping is made at null.
        let start = unsafe { NonNull::new_unchecked(self.memory.as_mut_ptr()) };
        // SAFETY: `add` wants the result within the allocation or one behind it: no caller asks for
        // more than `HEADER_LEN`, and `new` maps at least that much.
        unsafe { start.add(offset) }
    }
}
