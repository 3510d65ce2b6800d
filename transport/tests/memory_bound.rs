//! Memory follows the data that arrived, not the length that was claimed.
//!
//! A binary of its own: what is measured is the address space of the whole process.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;

use flipcall::{ErrorKind, FrameBuffer, FrameSocket};

/// The largest address space this process ever had, in bytes.
fn peak_size() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmPeak:"))
        .unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let before = peak_size();
    // Judged by a limit that allows the first, skips the second and refuses the third.
    for len in [0x4000_0000, 0x7fff_ffff, 0xffff_ffff_u32] {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(&len.to_ne_bytes()).unwrap();
        peer.write_all(&[1; 1000]).unwrap();
        drop(peer);
        let socket = FrameSocket::from(ours);
        let limit = 0x7fff_fffe;
        let error = socket
            .recv(&mut FrameBuffer::new(), limit, &mut Vec::new(), 0)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{len:#x}");
    }
    let grown = peak_size() - before;
    assert!(grown < 16 << 20, "{grown} bytes for three frames of 1000");
}
