#![expect(unsafe_code, reason = "sendmsg, recvmsg, setsockopt and ioctl")]
//! The socket calls that nix lacks or gets wrong for us: messages with descriptors, partly from
//! memory that is not a slice.
//!
//! nix's `cmsgs` gives up when the control data was truncated, and the descriptors that did arrive
//! stay open for ever. The walk here is plain slicing of a private buffer, and every descriptor is
//! owned from the moment its number is read.

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use crate::shared::SharedBytes;

/// The most descriptors that one message can carry here; no message of the protocol has more than
/// two.
pub(crate) const MAX_FDS: usize = 16;

/// `struct cmsghdr` of the kernel: u64 length including this header, i32 level, i32 type.
const CMSG_HEADER_LEN: usize = 16;
const FD_LEN: usize = mem::size_of::<RawFd>();
const CONTROL_LEN: usize = CMSG_HEADER_LEN + MAX_FDS * FD_LEN;

/// Switches the receipt of descriptors off, Linux 6.16. The sender then gets EPERM.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Adds a descriptor of the sender to what is received, Linux 6.5.
const SO_PASSPIDFD: libc::c_int = 76;

/// Size of the `int` that every simple socket option is.
const OPTION_LEN: libc::socklen_t = 4;

/// Room for one list of descriptors, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

impl Control {
    fn new() -> Control {
        Control([0; CONTROL_LEN])
    }

    /// A `SCM_RIGHTS` message with `fds`, and its length. EINVAL if there are more than
    /// [`MAX_FDS`].
    fn with_fds(fds: &[BorrowedFd<'_>]) -> nix::Result<(Control, usize)> {
        let mut control = Control::new();
        if fds.is_empty() {
            return Ok((control, 0));
        }
        let len = control_len(fds.len())?;
        let length = u64::try_from(len).map_err(|_| Errno::EINVAL)?.to_ne_bytes();
        let level = libc::SOL_SOCKET.to_ne_bytes();
        let kind = libc::SCM_RIGHTS.to_ne_bytes();
        let numbers = fds.iter().flat_map(|fd| fd.as_raw_fd().to_ne_bytes());
        let bytes = length.into_iter().chain(level).chain(kind).chain(numbers);
        for (slot, byte) in control.0.iter_mut().zip(bytes) {
            *slot = byte;
        }
        Ok((control, len))
    }

    /// Takes ownership of every descriptor in the first `len` bytes, which the kernel has filled.
    ///
    /// # Safety
    ///
    /// The bytes are those that a recvmsg(2) has just put there, and are read by this call only.
    unsafe fn take_fds(&self, len: usize, mut own: impl FnMut(OwnedFd)) {
        let mut rest = self.0.get(..len).unwrap_or(&self.0);
        while let Some((message, body)) = rest.split_first_chunk::<CMSG_HEADER_LEN>() {
            let [length, kind] = halves(message);
            let rights = (i64::from(libc::SCM_RIGHTS) << 32) | i64::from(libc::SOL_SOCKET);
            // A length beyond the buffer would be the kernel's truncation; what is there counts.
            let body_len = usize::try_from(u64::from_ne_bytes(length))
                .unwrap_or(usize::MAX)
                .saturating_sub(CMSG_HEADER_LEN)
                .min(body.len());
            if i64::from_ne_bytes(kind) == rights {
                let (numbers, _) = body
                    .get(..body_len)
                    .unwrap_or_default()
                    .as_chunks::<FD_LEN>();
                for number in numbers {
                    // SAFETY: `from_raw_fd` wants an open descriptor that nobody else owns: the
                    // kernel has just installed it for us, and the caller shows us each list once.
                    own(unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(*number)) });
                }
            }
            rest = body.get(body_len.next_multiple_of(8)..).unwrap_or_default();
        }
    }
}

/// Length and, as one number, level and type of a control message.
fn halves(header: &[u8; CMSG_HEADER_LEN]) -> [[u8; 8]; 2] {
    let [a, b, c, d, e, f, g, h, kind @ ..] = *header;
    [[a, b, c, d, e, f, g, h], kind]
}

/// Exactly enough for `fds` descriptors: with the usual rounding up, one more could be installed.
fn control_len(fds: usize) -> nix::Result<usize> {
    if fds > MAX_FDS {
        return Err(Errno::EINVAL);
    }
    Ok(CMSG_HEADER_LEN + fds * FD_LEN)
}

fn empty_message() -> libc::msghdr {
    // SAFETY: `zeroed` wants a type for which all zeros is a value: `msghdr` is made of integers
    // and of pointers that may be null. (Its private padding on some targets forbids a literal.)
    unsafe { mem::zeroed() }
}

/// sendmsg(socket, [head, body], SCM_RIGHTS fds, flags): returns the number of bytes sent.
///
/// If both parts are empty the message has no data at all, as a descriptor by itself should have.
/// EINVAL for more than [`MAX_FDS`] descriptors.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    head: &[u8],
    body: SharedBytes<'_>,
    fds: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> nix::Result<usize> {
    let (mut control, control_len) = Control::with_fds(fds)?;
    let mut parts = [
        libc::iovec {
            iov_base: head.as_ptr().cast_mut().cast(),
            iov_len: head.len(),
        },
        libc::iovec {
            iov_base: body.as_ptr().as_ptr().cast(),
            iov_len: body.len(),
        },
    ];
    let mut message = empty_message();
    if !(head.is_empty() && body.is_empty()) {
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len() as _;
    }
    if control_len > 0 {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control_len as _;
    }
    // SAFETY: sendmsg wants, for the time of the call,
    // - a null address: `empty_message`;
    // - an array of `msg_iovlen` parts: `parts`, or none;
    // - readable memory behind each part: `head` is a slice, `body` a live view, and neither is
    //   written, in spite of the mutable pointer;
    // - `msg_controllen` readable, aligned bytes: `control` has `CONTROL_LEN`.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags.bits()) };
    Errno::result(sent).and_then(|sent| usize::try_from(sent).map_err(|_| Errno::EIO))
}

/// recvmsg(socket, buf, flags | MSG_CMSG_CLOEXEC): returns the number of bytes received, and hands
/// each descriptor that came along to `own`, at most `want`.
///
/// With `want` zero there is no control buffer, and the kernel drops descriptors before they get a
/// number. EINVAL if `want` exceeds [`MAX_FDS`].
pub(crate) fn recv(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    want: usize,
    own: impl FnMut(OwnedFd),
    flags: MsgFlags,
) -> nix::Result<usize> {
    let mut control = Control::new();
    let mut part = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    let mut message = empty_message();
    if !buf.is_empty() {
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
    }
    if want > 0 {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control_len(want)? as _;
    }
    let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
    // SAFETY: recvmsg wants, for the time of the call,
    // - a null address: `empty_message`;
    // - an array of `msg_iovlen` parts: `part`, or none;
    // - writable memory behind it: `buf`, exclusively borrowed;
    // - `msg_controllen` writable, aligned bytes: `control` has `CONTROL_LEN`, which is not less.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags.bits()) };
    let count = Errno::result(count)?;
    if want > 0 {
        // SAFETY: `take_fds` wants bytes fresh from recvmsg: it has just succeeded, and set the
        // length to what it wrote. `control` is gone after this.
        unsafe { control.take_fds(message.msg_controllen as _, own) };
    }
    usize::try_from(count).map_err(|_| Errno::EIO)
}

/// setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, 0): makes the kernel refuse descriptors sent to
/// us.
///
/// Success also where the kernel does not know the option; whoever relies on it must not offer a
/// control buffer either.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> nix::Result<()> {
    set_option(socket, SO_PASSRIGHTS, 0)
}

/// setsockopt(socket, SOL_SOCKET, SO_PASSPIDFD, on): whether messages come with a descriptor of the
/// process that sent them, of which [`recv`] knows nothing.
///
/// Success also where the kernel does not know the option.
pub(crate) fn pass_pidfd(socket: BorrowedFd<'_>, on: bool) -> nix::Result<()> {
    set_option(socket, SO_PASSPIDFD, on.into())
}

/// ioctl(socket, SIOCOUTQ): what was sent and the peer has not taken yet, by the memory that it
/// takes in the kernel.
pub(crate) fn unread(socket: BorrowedFd<'_>) -> nix::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: ioctl wants, for SIOCOUTQ, which is TIOCOUTQ by another name, an `int` that can be
    // written: `bytes`, exclusively borrowed for the time of the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    Errno::result(result)?;
    usize::try_from(bytes).map_err(|_| Errno::EIO)
}

/// setsockopt(socket, SOL_SOCKET, option, value), and success where the kernel does not know the
/// option.
fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> nix::Result<()> {
    // SAFETY: setsockopt wants a readable value of the given length: `value`, for the time of the
    // call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            OPTION_LEN,
        )
    };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ENOPROTOOPT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
