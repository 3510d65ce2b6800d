//! `SharedBytes` against plain slices, at every alignment.

use std::io::Write;
use std::os::fd::AsFd;

use flipcall::{OutOfBounds, PacketWindow, SharedBytes};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::pipe;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

/// A buffer, an offset and a length within it.
fn range_of_bytes() -> impl Strategy<Value = (Vec<u8>, usize, usize)> {
    vec(any::<u8>(), 0..300).prop_flat_map(|bytes| {
        let end = bytes.len();
        (0..=end).prop_flat_map(move |offset| {
            let bytes = bytes.clone();
            (0..=end - offset).prop_map(move |len| (bytes.clone(), offset, len))
        })
    })
}

proptest! {
    #[test]
    fn copy_to_reads_what_a_slice_would((mut bytes, offset, len) in range_of_bytes()) {
        let expected = bytes[offset..offset + len].to_vec();
        let mut copy = vec![0; len];
        SharedBytes::from(&mut bytes[..]).copy_to(offset, &mut copy).unwrap();
        prop_assert_eq!(copy, expected);
    }

    #[test]
    fn copy_from_writes_what_a_slice_would((mut bytes, offset, len) in range_of_bytes()) {
        let source: Vec<u8> = bytes[offset..offset + len].iter().map(|byte| !byte).collect();
        let mut expected = bytes.clone();
        expected[offset..offset + len].copy_from_slice(&source);
        SharedBytes::from(&mut bytes[..]).copy_from(offset, &source).unwrap();
        prop_assert_eq!(bytes, expected);
    }

    #[test]
    fn a_range_out_of_bounds_changes_nothing(
        (mut bytes, offset, len) in range_of_bytes(),
        excess in 1_usize..10,
    ) {
        let before = bytes.clone();
        let beyond = bytes.len() - offset - len + excess;
        let view = SharedBytes::from(&mut bytes[..]);
        let mut long = vec![0xa5; len + beyond];
        prop_assert_eq!(view.copy_to(offset, &mut long), Err(OutOfBounds));
        prop_assert_eq!(&long, &vec![0xa5; len + beyond]);
        prop_assert_eq!(view.copy_from(offset, &long), Err(OutOfBounds));
        prop_assert_eq!(view.slice(offset, len + beyond).map(|view| view.len()), None);
        prop_assert_eq!(view.split_at(before.len() + excess).map(|_| ()), None);
        prop_assert_eq!(bytes, before);
    }
}

/// Random lengths rarely meet random alignments; these are all the pairs that take different steps,
/// among them the lengths around that from which on longer steps are taken.
#[test]
fn every_alignment_and_length_agrees() {
    for align in 0..16 {
        for len in (0..48).chain(1017..1052) {
            let mut bytes: Vec<u8> = (0..=u8::MAX).cycle().take(len + 48).collect();
            // A Vec of bytes may start anywhere; keep some in front, to see them untouched.
            let start = bytes.as_ptr().align_offset(16) + 16 + align;
            let mut expected = bytes.clone();
            let mut copy = vec![0; len];
            let view = SharedBytes::from(&mut bytes[..]);
            view.copy_to(start, &mut copy).unwrap();
            assert_eq!(
                copy,
                expected[start..start + len],
                "align {align}, len {len}"
            );
            copy.reverse();
            expected[start..start + len].reverse();
            view.copy_from(start, &copy).unwrap();
            assert_eq!(bytes, expected, "align {align}, len {len}");
        }
    }
}

#[test]
fn ranges_that_overflow_are_refused() {
    let mut bytes = [0; 8];
    let view = SharedBytes::from(&mut bytes[..]);
    assert!(view.slice(usize::MAX, 2).is_none());
    assert!(view.slice(2, usize::MAX).is_none());
    assert!(view.slice(9, 0).is_none());
    assert!(view.slice(8, 0).is_some_and(|view| view.is_empty()));
    assert!(view.split_at(usize::MAX).is_none());
}

#[test]
fn the_kernel_fills_and_reads_a_view_in_place() {
    let file = memfd_create(c"file", MFdFlags::MFD_CLOEXEC).unwrap();
    std::fs::File::from(file.try_clone().unwrap())
        .write_all(b"0123456789")
        .unwrap();

    let mut buffer = [0; 8];
    let view = SharedBytes::from(&mut buffer[..]);
    assert_eq!(view.slice(1, 4).unwrap().pread_from(file.as_fd(), 3), Ok(4));
    assert_eq!(view.slice(5, 3).unwrap().pread_from(file.as_fd(), 9), Ok(1));
    assert_eq!(view.pread_from(file.as_fd(), 10), Ok(0));
    assert_eq!(view.slice(0, 6).unwrap().pwrite_to(file.as_fd(), 2), Ok(6));
    assert_eq!(&buffer, b"\x003456\x39\0\0");

    let mut whole = [0; 10];
    SharedBytes::from(&mut whole[..])
        .pread_from(file.as_fd(), 0)
        .unwrap();
    assert_eq!(&whole, b"01\x003456989");
}

#[test]
fn kernel_errors_are_returned() {
    let (reader, writer) = pipe().unwrap();
    let mut buffer = [0; 8];
    let view = SharedBytes::from(&mut buffer[..]);
    assert_eq!(view.pread_from(reader.as_fd(), 0), Err(Errno::ESPIPE));
    assert_eq!(view.pwrite_to(writer.as_fd(), 0), Err(Errno::ESPIPE));
    assert_eq!(view.pread_from(reader.as_fd(), 1 << 63), Err(Errno::EINVAL));
    assert_eq!(view.pwrite_to(writer.as_fd(), u64::MAX), Err(Errno::EINVAL));
}

#[test]
fn a_window_is_zero_and_as_large_as_asked() {
    let window = PacketWindow::create(5000).unwrap();
    assert!(window.capacity() >= 5000);
    assert_eq!(window.descriptor().offset, 0);
    let length = usize::try_from(window.descriptor().length).unwrap();
    assert_eq!(length, window.capacity() + 16);
    let mut bytes = vec![0xff; length];
    let view = SharedBytes::from(&mut bytes[..]);
    assert_eq!(view.pread_from(window.as_fd(), 0), Ok(length));
    assert!(bytes.iter().all(|byte| *byte == 0));
}
